"""The registry: providers by name, aliases, and the models that a spec makes of them.

>>> registry = Registry(environ={"LLM_M1": "foreman://s3cret@box"})
>>> registry.alias("thinking", "m1/qwen3:30b, anthropic/claude-x")
>>> registry.model("m1/small, thinking").targets
('m1/small', 'm1/qwen3:30b', 'anthropic/claude-x')
"""

import os
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping

import anyio

from foreman.llm import spec
from foreman.llm.chain import Chain
from foreman.llm.choice import Choice
from foreman.llm.classification import Classifier, classify
from foreman.llm.deferred import Deferred
from foreman.llm.errors import SpecError
from foreman.llm.failover import CHAIN, Failover
from foreman.llm.health import Breaking, Health
from foreman.llm.model import Model
from foreman.llm.provider_registry import ProviderRegistry
from foreman.llm.schemes import SCHEMES, Factory


class Registry(ProviderRegistry):
    """Providers, aliases and the health of every target, which all its chains share.

    `clock` is monotonic seconds and `sleep` waits on it.
    """

    def __init__(
        self,
        *,
        environ: Mapping[str, str] = os.environ,
        schemes: Mapping[str, Factory | str] = SCHEMES,
        breaking: Breaking = Breaking(),  # noqa: B008 - frozen
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = anyio.sleep,
    ) -> None:
        super().__init__(environ=environ, schemes=schemes)
        self.health = Health(breaking, clock=clock)
        self.default = ""
        """The spec of a model nobody asked for by name, such as an alias."""
        self._clock = clock
        self._sleep = sleep
        self._aliases: dict[str, tuple[spec.Target | spec.Alias, ...]] = {}

    @property
    def aliases(self) -> tuple[str, ...]:
        return tuple(self._aliases)

    def alias(self, name: str, means: str | Iterable[str]) -> None:
        """A name for a spec, or for elements of one. Raises SpecError for what is none."""
        self._refuse_closed()
        if not name.strip() or any(character in name for character in "/,"):
            raise SpecError(f"{name!r} cannot name an alias: it needs text without slash and comma")
        text = means if isinstance(means, str) else ",".join(means)
        self._aliases[name.strip()] = spec.parse(text)

    def parse(self, text: str) -> tuple[spec.Target, ...]:
        """The targets of a spec, aliases expanded. Raises SpecError that says where it is wrong."""
        targets = spec.expand(spec.parse(text), self._aliases)
        for target in targets:
            self.check(target.provider)
        return targets

    def model(
        self,
        text: str = "",
        *,
        choice: Choice = Choice(),  # noqa: B008 - frozen
        failover: Failover = CHAIN,
        classifier: Classifier = classify,
    ) -> Chain:
        """The model that a spec, or the default, stands for. Raises SpecError and Closed.

        Nothing is called and no provider made.
        """
        self._refuse_closed()
        text = text or self.default
        return Chain(
            [self._deferred(target) for target in self.parse(text)],
            name=text,
            health=self.health,
            choice=choice,
            failover=failover,
            classifier=classifier,
            clock=self._clock,
            sleep=self._sleep,
        )

    async def serving(self, model: str) -> tuple[str, ...]:
        """The targets that say they have this model and may be called, by order of definition.

        Those that cannot say are left out. Raises SpecError when there is none, and CallError.
        """
        found: list[str] = []
        for name in self.providers:
            listed = await self.provider(name).models()
            target = f"{name}/{model}"
            if any(each.name == model for each in listed or ()) and self.health[target].usable:
                found.append(target)
        if not found:
            raise SpecError(f"no provider says that it has {model!r} and may be called")
        return tuple(found)

    def _deferred(self, target: spec.Target) -> Model:
        def make_model() -> Model:
            return self.provider(target.provider).model(target.model)

        return Deferred(str(target), make_model)
