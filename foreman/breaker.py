"""The one circuit breaker: what stops calls to something that keeps failing.

    closed     -- `threshold` failures in a row -->  open
    open       -- its pause is over             -->  half open: one probe at a time
    half open  -- the probe succeeds            -->  closed, pauses start small again
               -- the probe fails               -->  open, `factor` times longer, up to `cap`
               -- the probe ends undecided      -->  half open, the next caller probes
    any        -- `rest` was asked for          -->  open until then, and back to what it was

A permit is the only way through, and its exit is the verdict, so no caller can forget to report
and no probe can leak. The state is worked out when it is read: nothing runs while nobody calls.
Make one per target when it is first needed; a `defaultdict` keyed by target is a registry.
"""

import math
from collections.abc import Callable
from enum import StrEnum
from types import TracebackType
from typing import Literal, Self

from foreman.errors import ForemanError


class State(StrEnum):
    """What a call would meet now."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Verdict(StrEnum):
    """What a call says about its target's health."""

    ALIVE = "alive"  # it answered, if only to refuse
    FAILED = "failed"
    UNDECIDED = "undecided"  # the call was given up; nothing was learnt


class Open(ForemanError):
    """The call is not admitted. `retry_in`: seconds to the next try, None while a probe decides."""

    def __init__(self, retry_in: float | None) -> None:
        when = "once the probe under way ends" if retry_in is None else f"in {retry_in:.3g} s"
        super().__init__(f"too many failures in a row; calls are admitted again {when}")
        self.retry_in = retry_in


def judge(error: BaseException) -> Verdict:
    """Every exception is a failure, but for being stopped from outside (cancelled, interrupted).

    A deadline of the caller's own therefore belongs inside the permit's block.
    """
    return Verdict.FAILED if isinstance(error, Exception) else Verdict.UNDECIDED


class Breaker:
    """Counts failures of one target. `clock` is monotonic seconds, like `time.monotonic`.

    `probe`: how many calls a half-open breaker admits at a time, one or any number.
    Raises ValueError for parameters with which it could not do its work.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        threshold: int = 3,
        cooldown: float = 30.0,
        factor: float = 2.0,
        cap: float = 300.0,
        probe: Literal["single", "any"] = "single",
    ) -> None:
        if threshold < 1 or not 0 < cooldown <= cap or factor < 1:
            raise ValueError("needs threshold >= 1, 0 < cooldown <= cap and factor >= 1")
        self._clock = clock
        self._threshold = threshold
        self._cooldown = cooldown
        self._factor = factor
        self._cap = cap
        self.failures = 0  # in a row, since the last success
        self.trips = 0  # times it opened, ever
        self._epoch = 0  # a verdict counts only in the epoch that admitted its call
        self._pause = cooldown
        self._open_until: float | None = None
        self._rest_until = -math.inf
        self._single = probe == "single"
        self._probe: Permit | None = None

    @property
    def state(self) -> State:
        """What a call would meet now."""
        if self.retry_in > 0:
            return State.OPEN
        return State.CLOSED if self._open_until is None else State.HALF_OPEN

    @property
    def retry_in(self) -> float:
        """Seconds until the pause, or the rest, is over; 0 when it is, or there is none."""
        until = self._rest_until
        if self._open_until is not None:
            until = max(until, self._open_until)
        return max(0.0, until - self._clock())

    @property
    def probing(self) -> bool:
        """Whether a call under way will decide what becomes of it."""
        return self._probe is not None

    def permit(self, judge: Callable[[BaseException], Verdict] = judge) -> "Permit":
        """Leave to make one call, asked for on entering its `with` block.

        Entering raises Open when the call is not admitted. A block left normally says ALIVE; one
        left by an exception says what `judge` makes of it.
        """
        return Permit(self, judge)

    def rest(self, seconds: float) -> None:
        """Admit nobody for this long at least, as the target asked for: that is no failure."""
        self._rest_until = max(self._rest_until, self._clock() + seconds)

    def reset(self) -> None:
        """Close it by hand; calls under way no longer count."""
        self._rest_until = -math.inf
        self._close()

    def _close(self) -> None:
        self.failures = 0
        self._pause = self._cooldown
        self._open_until = self._probe = None
        self._epoch += 1

    def _admit(self, permit: "Permit") -> int:
        """The epoch that the permit's verdict will count in. Raises Open."""
        state = self.state
        if state is State.OPEN:
            raise Open(self.retry_in)
        if state is State.HALF_OPEN:
            if self._probe is not None:
                raise Open(None)
            self._probe = permit if self._single else None
        return self._epoch

    def _conclude(self, epoch: int, verdict: Verdict) -> None:
        if epoch != self._epoch:
            return  # it was admitted before things changed: its news is old
        self._probe = None
        if verdict is Verdict.ALIVE:
            self.failures = 0
            if self._open_until is not None:  # nobody was admitted since but to probe
                self._close()
        elif verdict is Verdict.FAILED:
            self.failures += 1  # never forgotten while open, so one failed probe is enough
            if self.failures >= self._threshold:
                self._trip()

    def _trip(self) -> None:
        self.trips += 1
        self._epoch += 1
        self._open_until = self._clock() + self._pause
        self._pause = min(self._cap, self._pause * self._factor)


class Permit:
    """One call's way through; good for one `with` block."""

    def __init__(self, breaker: Breaker, judge: Callable[[BaseException], Verdict]) -> None:
        self._breaker = breaker
        self._judge = judge
        self._epoch: int | None = None
        self._spent = False

    def __enter__(self) -> Self:
        if self._epoch is not None:
            raise RuntimeError("a permit is good for one call")
        self._epoch = self._breaker._admit(self)  # pyright: ignore[reportPrivateUsage]
        return self

    def conclude(self, verdict: Verdict) -> None:
        """Say it now instead of at the end; the first verdict is the one that counts."""
        if self._epoch is not None and not self._spent:
            self._spent = True
            self._breaker._conclude(self._epoch, verdict)  # pyright: ignore[reportPrivateUsage]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.conclude(Verdict.ALIVE if error is None else self._judge(error))
