"""Tries providers: which of them can be called, and what is wrong with the others."""

from collections.abc import Iterable
from time import monotonic

import anyio
import msgspec

from foreman.llm.errors import LLMError
from foreman.llm.provider_registry import ProviderRegistry

PATIENCE = 10.0  # seconds a provider may take to say which models it has


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One provider. `models` is None when it cannot say; `problem` is empty when it is well."""

    name: str
    models: int | None = None
    seconds: float = 0.0
    problem: str = ""


async def check(
    registry: ProviderRegistry, names: Iterable[str], patience: float = PATIENCE
) -> list[Finding]:
    """Ask each for its models, all at once; the findings are in the order of the names.

    >>> from foreman.llm.providers.fake import FakeProvider
    >>> from foreman.llm.registry import Registry
    >>> registry = Registry(environ={"LLM_ODD": "nosuch://host"})
    >>> registry.register(FakeProvider("mine", models={"a": [], "b": []}))
    >>> for finding in await check(registry, ["mine", "odd"]):
    ...     print(finding.name, finding.models, finding.problem or 'well')
    mine 2 well
    odd None LLM_ODD: no scheme 'nosuch' among: anthropic, foreman, ollama, openai
    """
    found: dict[str, Finding] = {}

    async def look(name: str) -> None:
        found[name] = await _try(registry, name, patience)

    wanted = list(dict.fromkeys(names))
    async with anyio.create_task_group() as group:
        for name in wanted:
            group.start_soon(look, name)
    return [found[name] for name in wanted]


async def _try(registry: ProviderRegistry, name: str, patience: float) -> Finding:
    began = monotonic()
    try:
        with anyio.fail_after(patience):
            listed = await registry.provider(name).models()
    except TimeoutError:
        problem = f"no answer within {patience:g} s"
    except LLMError as error:
        problem = str(error)
    else:
        count = None if listed is None else len(listed)
        return Finding(name=name, models=count, seconds=monotonic() - began)
    return Finding(name=name, seconds=monotonic() - began, problem=problem)
