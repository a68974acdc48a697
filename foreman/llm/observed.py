"""A model whose requests are recorded: every call, every failed attempt, everyone passed over.

    ledger = Ledger()
    with RequestLog(path) as log:
        model = Observed(chain, ledger.record, log.write, prices=table)

An observer is any function that takes a Record. It is called when a request is over, on the loop,
and must not block. What it raises is logged and hurts nobody.
"""

import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager

from foreman.llm.attempts import Attempt, Step
from foreman.llm.cost import cost
from foreman.llm.errors import CallError, LLMError
from foreman.llm.model import Model, Stream
from foreman.llm.prices import Prices
from foreman.llm.record import Outcome, Record
from foreman.llm.request import Request
from foreman.llm.response import Event, Response
from foreman.llm.tiers import Tiers
from foreman.llm.wrapper import Tap, Wrapper

Observer = Callable[[Record], None]

_log = logging.getLogger("foreman.llm")


class Observed(Wrapper):
    """The model, with observers. `clock` is monotonic, `wall` is time of day.

    `prices` say what an answer cost, `tiers` in which tier its target is and how hard the request
    looked; without them the record does not say.

    >>> from foreman.llm.providers.fake import FakeProvider, Say
    >>> fake = FakeProvider(models={"m": [Say("Hello!")]})
    >>> records = []
    >>> answer = await Observed(fake.model("m"), records.append).complete(Request.of("Hi"))
    >>> records[0].target, records[0].usage.total, str(records[0].outcome)
    ('fake/m', 25, 'answered')
    """

    def __init__(
        self,
        model: Model,
        *observers: Observer,
        prices: Prices | None = None,
        tiers: Tiers | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(model)
        self._observers = observers
        self._prices = prices
        self._tiers = tiers
        self._clock = clock
        self._wall = wall

    async def complete(self, request: Request) -> Response:
        with self._watched(request, streamed=False) as call:
            call.response = await self._model.complete(request)
            return call.response

    def stream(self, request: Request) -> Stream:
        return self._stream(request)

    @asynccontextmanager
    async def _stream(self, request: Request) -> AsyncGenerator[AsyncIterator[Event]]:
        with self._watched(request, streamed=True) as call:
            async with self._model.stream(request) as events:
                call.tap = Tap(events, call.see)
                yield call.tap

    @contextmanager
    def _watched(self, request: Request, *, streamed: bool) -> Generator["_Call"]:
        call = _Call(request, streamed, self._clock, self._wall())
        try:
            yield call
        except BaseException as error:
            call.ended_by(error)
            raise
        finally:
            self._tell(call)

    def _tell(self, call: "_Call") -> None:
        record = self._record(call)
        for observer in self._observers:
            try:
                observer(record)
            except Exception:  # noqa: BLE001 - it must not cost the answer
                _log.exception("an observer of %s failed", self.name)

    def _record(self, call: "_Call") -> Record:
        response, error, request = call.response, call.error, call.request
        seconds = self._clock() - call.began
        history = call.history(self.name, seconds)
        attempts = [step for step in history if isinstance(step, Attempt)]
        target = response.target if response else attempts[-1].target if attempts else ""
        scoring = self._tiers.scoring if self._tiers else None
        usage = {"usage": response.usage} if response else {}
        return Record(
            id=request.id,
            at=call.at,
            asked=self.name,
            outcome=call.outcome,
            streamed=call.streamed,
            target=target,
            cost=cost(self._prices, target, response.usage) if response and self._prices else None,
            reported_cost=response.reported_cost if response else None,
            latency=call.first if call.streamed else seconds if response else None,
            seconds=seconds,
            error="" if error is None else str(error) or type(error).__name__,
            code=str(error.code) if isinstance(error, LLMError) else "",
            status=error.status if isinstance(error, CallError) else None,
            history=history,
            metadata=request.metadata,
            tier=self._tiers.tier(target).name.lower() if self._tiers and target else "",
            score=scoring.score(request) if scoring else None,
            **usage,
        )


class _Call:
    """One request under way."""

    def __init__(
        self, request: Request, streamed: bool, clock: Callable[[], float], at: float
    ) -> None:
        self.request = request
        self.streamed = streamed
        self.at = at
        self.began = clock()
        self.first: float | None = None  # seconds until the answer began
        self.response: Response | None = None
        self.error: Exception | None = None
        self.tap: Tap | None = None
        self._clock = clock

    def see(self, event: Event) -> None:
        if self.first is None and event.begins:
            self.first = self._clock() - self.began
        if event.response is not None:
            self.response = event.response

    def ended_by(self, error: BaseException) -> None:
        """It counts unless it came after the answer, or from the block that reads the events."""
        models_own = self.tap is None or error is self.tap.error
        if isinstance(error, Exception) and models_own and self.response is None:
            self.error = error

    @property
    def outcome(self) -> Outcome:
        if self.response is not None:
            return Outcome.ANSWERED
        return Outcome.LEFT if self.error is None else Outcome.FAILED

    def history(self, asked: str, seconds: float) -> tuple[Step, ...]:
        """What the chain tells; without a chain, the one call that failed."""
        if self.response is not None:
            return self.response.history
        if not isinstance(self.error, LLMError):
            return ()
        if not self.error.history and isinstance(self.error, CallError):
            return (Attempt(self.error.target or asked, self.error, seconds),)
        return self.error.history
