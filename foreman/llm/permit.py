"""The one way to call a target: a permit, whose end is what its health learns of the call."""

import logging
import time
from collections.abc import Callable
from types import TracebackType
from typing import Literal, Self

import anyio

from foreman import breaker
from foreman.breaker import Open, State, Verdict
from foreman.llm.errors import LLMError
from foreman.llm.snapshot import Label, Snapshot

Busy = Literal["skip", "wait"]
"""What a call does that finds another one probing: raise Open, or wait for what comes of it."""
Judge = Callable[[BaseException], Verdict]

SMOOTHING = 0.2  # what the newest call weighs in the average latency

_log = logging.getLogger("foreman.llm")


class Disabled(LLMError):
    """The target was taken out by hand."""


class TargetHealth:
    """The health of one target. `label` is people's to set. Without a breaker all are admitted.

    `latency`: seconds to an answer, or to the begin of a streamed one; an average of the latest.
    """

    def __init__(
        self, name: str, own: breaker.Breaker | None, wall: Callable[[], float] = time.time
    ) -> None:
        self.name = name
        self.label = Label.HEALTHY
        self.latency: float | None = None
        self.breaker = own
        self._wall = wall
        self._reason = ""
        self._last_failure: float | None = None
        self._last_success: float | None = None
        self._news: anyio.Event | None = None  # made by who waits for it

    @property
    def state(self) -> State:
        return State.CLOSED if self.breaker is None else self.breaker.state

    @property
    def usable(self) -> bool:
        """Whether a call might be admitted now."""
        return self.label.usable and self.state is not State.OPEN

    @property
    def probing(self) -> bool:
        """Whether a call under way will decide if others are admitted."""
        return self.breaker is not None and self.breaker.probing

    @property
    def retry_in(self) -> float:
        """Seconds until a call may be admitted; 0 when it is now."""
        return 0.0 if self.breaker is None else self.breaker.retry_in

    def permit(self, judge: Judge = breaker.judge, busy: Busy = "skip") -> "Permit":
        """Leave to make one call, asked for on entering its `async with` block.

        Entering raises Open, or Disabled. A block left normally says ALIVE; one left by an
        exception says what `judge` makes of it.
        """
        return Permit(self, judge, busy)

    def rest(self, seconds: float) -> None:
        """Nobody calls it for this long: it asked for that, which counts as no failure."""
        if self.breaker is not None:
            self.breaker.rest(seconds)

    def took(self, seconds: float) -> None:
        """How long it took to answer."""
        last = self.latency
        self.latency = seconds if last is None else last + SMOOTHING * (seconds - last)

    def reset(self) -> None:
        """Forget its failures, and what people said of it."""
        self.label = Label.HEALTHY
        self._reason = ""
        if self.breaker is not None:
            self.breaker.reset()
        self._tell()

    def snapshot(self) -> Snapshot:
        return Snapshot(
            target=self.name,
            state=self.state,
            label=self.label,
            failures=0 if self.breaker is None else self.breaker.failures,
            trips=0 if self.breaker is None else self.breaker.trips,
            retry_in=self.retry_in,
            reason=self._reason,
            last_failure=self._last_failure,
            last_success=self._last_success,
            latency=self.latency,
        )

    async def news(self) -> None:
        """Returns when a call under way has ended, or somebody has reset it."""
        if self._news is None:
            self._news = anyio.Event()
        await self._news.wait()

    def learn(self, verdict: Verdict, reason: str, before: State) -> None:
        """What a permit's end has told; `before` is the state that admitted its call."""
        if verdict is Verdict.FAILED:
            self._last_failure, self._reason = self._wall(), reason
        elif verdict is Verdict.ALIVE:
            self._last_success, self._reason = self._wall(), ""
        self._tell()
        if self.state is not before:
            level = logging.WARNING if self.state is State.OPEN else logging.INFO
            _log.log(level, "%s", self.snapshot())

    def _tell(self) -> None:
        if self._news is not None:
            self._news.set()
            self._news = None


class Permit:
    """One call's way through; good for one `async with` block."""

    def __init__(self, target: TargetHealth, judge: Judge, busy: Busy) -> None:
        self._target = target
        self._judge = judge
        self._busy: Busy = busy
        self._inner: breaker.Permit | None = None
        self._state = State.CLOSED
        self.spent = False

    async def __aenter__(self) -> Self:
        if self._inner is not None:
            raise RuntimeError("a permit is good for one call")
        target = self._target
        if not target.label.usable:
            raise Disabled(f"{target.name} was marked as {target.label}")
        while target.breaker is not None:
            self._state = target.state
            inner = target.breaker.permit()
            try:
                self._inner = inner.__enter__()
                break
            except Open as refused:
                if self._busy == "skip" or refused.retry_in is not None:
                    raise
            await target.news()
        return self

    def conclude(self, verdict: Verdict, reason: str = "") -> None:
        """Say it now instead of at the end; the first verdict is the one that counts."""
        if self._inner is not None and not self.spent:
            self.spent = True
            self._inner.conclude(verdict)
            self._target.learn(verdict, reason, self._state)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.spent:
            return
        if error is None:
            self.conclude(Verdict.ALIVE)
        else:
            self.conclude(self._judge(error), str(getattr(error, "reason", error)))
