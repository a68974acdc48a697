"""A chain: several models that are asked one after the other until one answers; itself a model.

>>> from foreman.llm.providers.fake import FakeProvider, Say, Status
>>> fake = FakeProvider(models={"a": [Status(503), Status(503)], "b": [Say("Hello!")]})
>>> chain = Chain([fake.model("a"), fake.model("b")])
>>> response = await chain.complete(Request.of("Hi"))
>>> response.target, [str(attempt.target) for attempt in response.history]
('fake/b', ['fake/a', 'fake/a'])

A model that shows places in a queue keeps no cancel scope or task group open between its events:
another one may take over while the reader stands anywhere in the stream's block.
"""

import time
from collections.abc import Awaitable, Callable, Sequence

import anyio

from foreman.llm.candidates import Candidate, combined
from foreman.llm.capabilities import Capabilities
from foreman.llm.chain_stream import ChainStream
from foreman.llm.choice import Choice
from foreman.llm.classification import Classifier, classify
from foreman.llm.failover import CHAIN, Failover
from foreman.llm.health import Health
from foreman.llm.model import Model, Stream
from foreman.llm.request import Request
from foreman.llm.response import Response
from foreman.llm.run import Run


class Chain:
    """Asks `models`, each guarded by its target's `health`, which chains should share.

    Raises what a model raises where nobody else may be asked, Exhausted when all have failed or
    were passed over, DeadlinePassed, and InvalidRequest for a policy that nobody defined. `clock`
    is monotonic seconds and `sleep` waits on it; the deadline is on the loop's own clock.
    """

    def __init__(
        self,
        models: Sequence[Model],
        *,
        name: str = "",
        health: Health | None = None,
        choice: Choice = Choice(),  # noqa: B008 - frozen
        failover: Failover = CHAIN,
        classifier: Classifier = classify,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = anyio.sleep,
    ) -> None:
        if not models:
            raise ValueError("a chain needs a model")
        self.name = name or ", ".join(model.name for model in models)
        self.health = Health(clock=clock) if health is None else health
        self._candidates = [Candidate(each, self.health[each.name]) for each in models]
        self._choice = choice
        self._failover = failover
        self._classifier = classifier
        self._clock = clock
        self._sleep = sleep

    @property
    def targets(self) -> tuple[str, ...]:
        """Whom it may ask, as `provider/model`, in the order of its spec."""
        return tuple(each.name for each in self._candidates)

    @property
    def capabilities(self) -> Capabilities:
        """What one of its models at least can do."""
        return combined([each.model.capabilities for each in self._candidates])

    async def complete(self, request: Request) -> Response:
        run = self._run(request)
        with run.deadline():
            while (candidate := await run.next()) is not None:
                with run.recording(candidate):
                    async with candidate.health.permit(run.judge, run.busy):
                        response = await candidate.model.complete(request)
                    return run.answered(candidate, response)
        raise run.given_up()

    def stream(self, request: Request) -> Stream:
        return ChainStream(request, self._run)

    def _run(self, request: Request) -> Run:
        selection = self._choice.select(request, self._candidates)
        return Run(selection, self._failover, self._classifier, self._clock, self._sleep)
