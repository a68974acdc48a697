"""One request on its way through a chain: who is called next, and what each call has taught.

A call that fails is one Attempt in the history and one verdict for its target's breaker; a
candidate that is not called is one Skip. A run decides; `foreman.llm.chain` makes the calls.
"""

import math
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager

import anyio
import msgspec

from foreman.breaker import Open, State, Verdict
from foreman.llm.attempts import Attempt, Skip, SkipReason, Step
from foreman.llm.candidates import Candidate, Selection
from foreman.llm.classification import Advance, Classifier, Retry, Treatment
from foreman.llm.errors import CallError, DeadlinePassed, Exhausted, LLMError, TimedOut
from foreman.llm.failover import Failover
from foreman.llm.permit import Busy, Disabled
from foreman.llm.response import Response
from foreman.llm.waiting import StartsTooLate


class Run:
    """`begun`: part of an answer was passed on, so nobody else can take over."""

    def __init__(
        self,
        selection: Selection,
        failover: Failover,
        classifier: Classifier,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[object]],
    ) -> None:
        self.history: list[Step] = list(selection.skips)
        self.begun = False
        self.left = False  # what is raised from now on is the reader's
        self._queue = deque(selection.candidates)
        if failover.probe_first:
            self._queue = deque(sorted(selection.candidates, key=_awaits_no_probe))
        self._failover = failover
        self._classifier = classifier
        self._clock = clock
        self._sleep = sleep
        self._current: Candidate | None = None
        self._started = 0.0
        self._failures = 0  # of the current candidate
        self._pause: float | None = None  # before it is called again; None: it is not
        self._called: set[str] = set()
        self._judged: tuple[CallError, Treatment] | None = None
        self._scope: anyio.CancelScope | None = None
        self._hung = False  # the deadline passed during a call

    async def next(self) -> Candidate | None:
        """Who is called next, after the pause there may have to be; None: nobody is left."""
        pause, self._pause = self._pause, None
        if pause is not None:
            if pause > 0:
                await self._sleep(pause)
            return self._current
        self._failures = 0
        self._current = self._advance()
        return self._current

    @property
    def busy(self) -> Busy:
        """The last candidate's probe is waited for; before, there are others to turn to."""
        return "wait" if self._is_last(0 if self._failures else 1) else "skip"

    @contextmanager
    def deadline(self) -> Generator[None]:
        """Everything the run does happens in here. Raises DeadlinePassed."""
        if self._failover.deadline is None:
            yield
            return
        with anyio.move_on_after(self._failover.deadline) as self._scope:
            yield
        if self._scope.cancelled_caught:
            raise DeadlinePassed(tuple(self.history))

    @contextmanager
    def recording(self, candidate: Candidate) -> Generator[None]:
        """One call. What it raises is swallowed where the run goes on with the next."""
        self._started = self._clock()
        try:
            yield
        except Exception as error:
            if self.left or not self._survives(candidate, error):
                raise
        except anyio.get_cancelled_exc_class():
            if self._hung:
                limit = f"no answer within {self._failover.deadline:g} s"
                self._failed(candidate, TimedOut(limit, target=candidate.name))
            elif self._out_of_time:
                self.history.append(Skip(candidate.name, SkipReason.PROBING))
            raise

    def judge(self, error: BaseException) -> Verdict:
        """What a permit left by this error says of its target."""
        if isinstance(error, CallError):
            return self._treatment(error).verdict
        if isinstance(error, StartsTooLate):
            return Verdict.ALIVE
        if isinstance(error, anyio.get_cancelled_exc_class()) and self._out_of_time:
            self._hung = True
            return Verdict.FAILED
        return Verdict.UNDECIDED

    def begin(self, candidate: Candidate) -> None:
        """The answer has begun: from here on it may take as long as it likes."""
        self.begun = True
        candidate.health.took(self._clock() - self._started)
        if self._scope is not None:
            self._scope.deadline = math.inf

    def answered(self, candidate: Candidate, response: Response) -> Response:
        """The whole response, with what had failed before."""
        if not self.begun:
            self.begin(candidate)
        if not self.history:
            return response
        return msgspec.structs.replace(response, history=tuple(self.history))

    def given_up(self) -> Exhausted:
        return Exhausted(tuple(self.history))

    def _advance(self) -> Candidate | None:
        limit = self._failover.targets
        while self._queue and (limit is None or len(self._called) < limit):
            candidate = self._queue.popleft()
            if candidate.name not in self._called:
                return candidate
        return None

    def _is_last(self, more: int) -> bool:
        limit = self._failover.targets
        return not self._queue or (limit is not None and len(self._called) + more >= limit)

    @property
    def _out_of_time(self) -> bool:
        return self._scope is not None and self._scope.cancel_called

    def _treatment(self, error: CallError) -> Treatment:
        """The classifier's, asked once for each error."""
        if self._judged is None or self._judged[0] is not error:
            self._judged = (error, self._classifier(error, self.begun))
        return self._judged[1]

    def _survives(self, candidate: Candidate, error: Exception) -> bool:
        """Whether the run goes on; an error that ends it is told what came before."""
        if isinstance(error, Open | Disabled | StartsTooLate):
            self._pass_over(candidate, error)
            return True
        if isinstance(error, CallError):
            self._failed(candidate, error)
            if not self.begun and self._goes_on(candidate, error):
                return True
        elif isinstance(error, Exhausted):
            self.history += error.history  # a chain in this one
            return True
        if isinstance(error, LLMError):
            error.history = tuple(self.history)
        return False

    def _pass_over(self, candidate: Candidate, error: Open | Disabled | StartsTooLate) -> None:
        if isinstance(error, StartsTooLate):
            skip = Skip(candidate.name, SkipReason.WAIT, error.starts_in, str(error))
        elif isinstance(error, Disabled):
            skip = Skip(candidate.name, SkipReason.DISABLED)
        elif error.retry_in is None:
            skip = Skip(candidate.name, SkipReason.PROBING)
        else:
            skip = Skip(candidate.name, SkipReason.COOLING_DOWN, error.retry_in)
        if not self._failures:  # else it was called, and others benched it before its retry
            self.history.append(skip)

    def _failed(self, candidate: Candidate, error: CallError) -> None:
        self._failures += 1
        self._called.add(candidate.name)
        self.history.append(Attempt(candidate.name, error, self._clock() - self._started))

    def _goes_on(self, candidate: Candidate, error: CallError) -> bool:
        treatment = self._treatment(error)
        if treatment.rest and error.retry_after is not None:
            candidate.health.rest(error.retry_after)
        self._pause = self._retry(candidate, error, treatment.retry)
        return self._pause is not None or self._may_advance(candidate, treatment.advance)

    def _retry(self, candidate: Candidate, error: CallError, retry: Retry) -> float | None:
        """Seconds until the same target is called again; None when it is not."""
        failover, asked = self._failover, error.retry_after
        limit = failover.retries
        if len(self._called) > 1 and failover.fallback_retries is not None:
            limit = failover.fallback_retries
        benched = retry is Retry.YES and candidate.health.state is State.OPEN
        unknown = retry is Retry.AFTER and asked is None
        if retry is Retry.NO or benched or unknown or self._failures > limit:
            return None
        pause = max(failover.pause(self._failures), asked or 0.0)
        fits = (asked or 0.0) <= failover.longest_rest and pause < self._time_left
        return pause if fits else None

    @property
    def _time_left(self) -> float:
        return math.inf if self._scope is None else self._scope.deadline - anyio.current_time()

    def _may_advance(self, candidate: Candidate, advance: Advance) -> bool:
        if advance is Advance.PERMITTED:
            return self._failover.advance_on_permanent
        if advance is Advance.LARGER:
            return self._keep_larger(candidate)
        return advance is Advance.YES

    def _keep_larger(self, candidate: Candidate) -> bool:
        """Drop those whose window is known to be no larger; whether any is left."""
        window = candidate.model.capabilities.context
        for each in tuple(self._queue):
            other = each.model.capabilities.context
            if window is not None and other is not None and other <= window:
                self._queue.remove(each)
                self.history.append(Skip(each.name, SkipReason.WINDOW))
        return any(each.name not in self._called for each in self._queue)


def _awaits_no_probe(candidate: Candidate) -> bool:
    return candidate.health.state is not State.HALF_OPEN or candidate.health.probing
