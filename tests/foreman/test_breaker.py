import math
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from foreman.breaker import Breaker, Open, Permit, State, Verdict


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(name="clock")
def _clock() -> Clock:
    return Clock()


@pytest.fixture(name="breaker")
def _breaker(clock: Clock) -> Breaker:
    return Breaker(clock)


def call(breaker: Breaker, error: BaseException | None = None) -> None:
    """One call that ends well, or with `error`."""
    with suppress(Exception), breaker.permit():
        if error is not None:
            raise error


def fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        call(breaker, OSError("refused"))


def play(breaker: Breaker, clock: Clock, script: str) -> None:
    """`f` fails, `o` succeeds, `u` is given up, a number passes seconds."""
    verdicts = {"f": Verdict.FAILED, "o": Verdict.ALIVE, "u": Verdict.UNDECIDED}
    for step in script.split():
        if step in verdicts:
            with suppress(Open), breaker.permit() as permit:
                permit.conclude(verdicts[step])
        else:
            clock.now += float(step)


@pytest.mark.parametrize(
    ("script", "state", "failures", "trips", "retry_in"),
    [
        ("", State.CLOSED, 0, 0, 0),
        ("f f", State.CLOSED, 2, 0, 0),
        ("f f o", State.CLOSED, 0, 0, 0),
        ("f f o f f", State.CLOSED, 2, 0, 0),
        ("f f f", State.OPEN, 3, 1, 30),
        ("f u f u f", State.OPEN, 3, 1, 30),
        ("f f f 29.5", State.OPEN, 3, 1, 0.5),
        ("f f f 30", State.HALF_OPEN, 3, 1, 0),
        ("f f f 31 o", State.CLOSED, 0, 1, 0),
        ("f f f 31 f", State.OPEN, 4, 2, 60),
        ("f f f 31 u", State.HALF_OPEN, 3, 1, 0),
        ("f f f 31 u o", State.CLOSED, 0, 1, 0),
        ("f f f 31 f 59", State.OPEN, 4, 2, 1),
        ("f f f 31 f 60 f", State.OPEN, 5, 3, 120),
        ("f f f 31 f 61 o f f f", State.OPEN, 3, 3, 30),
        ("f f f " + "301 f " * 9, State.OPEN, 12, 10, 300),
        ("f f f o", State.OPEN, 3, 1, 30),
    ],
)
def test_the_state_follows_the_table(
    breaker: Breaker,
    clock: Clock,
    script: str,
    state: State,
    failures: int,
    trips: int,
    retry_in: float,
) -> None:
    play(breaker, clock, script)
    seen = (breaker.state, breaker.failures, breaker.trips, breaker.retry_in)
    assert seen == (state, failures, trips, retry_in)


def test_an_open_breaker_says_when_to_come_back(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 10
    with pytest.raises(Open, match=r"again in 20 s") as refused, breaker.permit():
        pass
    assert refused.value.retry_in == 20


def test_only_one_of_many_callers_probes(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 30
    with breaker.permit():
        for _ in range(5):
            with pytest.raises(Open) as refused, breaker.permit():
                pass
            assert refused.value.retry_in is None
    call(breaker)
    assert breaker.state is State.CLOSED


def test_a_failed_probe_pauses_from_now_not_from_when_it_began(
    breaker: Breaker, clock: Clock
) -> None:
    fail(breaker, 3)
    clock.now += 30
    with breaker.permit() as permit:
        clock.now += 500
        permit.conclude(Verdict.FAILED)
    assert breaker.retry_in == 60


def test_a_success_from_before_the_trip_does_not_close_it(breaker: Breaker, clock: Clock) -> None:
    with breaker.permit():
        fail(breaker, 3)
    assert breaker.retry_in == 30
    clock.now += 30
    assert breaker.state is State.HALF_OPEN


def test_a_failure_from_before_the_trip_does_not_lengthen_it(breaker: Breaker) -> None:
    with suppress(OSError), breaker.permit():
        fail(breaker, 3)
        raise OSError("late")
    assert (breaker.failures, breaker.trips, breaker.retry_in) == (3, 1, 30)


def test_a_late_result_leaves_the_probe_alone(breaker: Breaker, clock: Clock) -> None:
    late = breaker.permit()
    with late:
        fail(breaker, 3)
        clock.now += 30
        probe = breaker.permit()
        probe.__enter__()
        late.conclude(Verdict.ALIVE)
        with pytest.raises(Open):
            breaker.permit().__enter__()
    probe.conclude(Verdict.ALIVE)
    assert breaker.state is State.CLOSED


def test_a_permit_gives_one_verdict(breaker: Breaker) -> None:
    with suppress(OSError), breaker.permit() as permit:
        permit.conclude(Verdict.FAILED)
        permit.conclude(Verdict.FAILED)
        raise OSError("and once more on the way out")
    assert breaker.failures == 1


def test_a_permit_admits_one_call(breaker: Breaker) -> None:
    permit = breaker.permit()
    with permit:
        pass
    with pytest.raises(RuntimeError, match="one call"), permit:
        pass


def test_asking_for_a_permit_without_entering_it_takes_nothing(
    breaker: Breaker, clock: Clock
) -> None:
    fail(breaker, 3)
    clock.now += 30
    breaker.permit()
    call(breaker)
    assert breaker.state is State.CLOSED


@pytest.mark.parametrize("stopped", [KeyboardInterrupt, GeneratorExit])
def test_being_stopped_from_outside_says_nothing_about_the_target(
    breaker: Breaker, stopped: Callable[[], BaseException]
) -> None:
    for _ in range(5):
        with suppress(BaseException), breaker.permit():
            raise stopped()
    assert breaker.failures == 0


def test_the_caller_may_judge_its_errors(breaker: Breaker) -> None:
    fail(breaker, 2)
    with suppress(ValueError), breaker.permit(lambda _: Verdict.ALIVE):
        raise ValueError("a 400: the target is well")
    assert breaker.failures == 0


def test_reset_closes_it_and_forgets_calls_under_way(breaker: Breaker) -> None:
    fail(breaker, 2)
    with suppress(OSError), breaker.permit():
        breaker.reset()
        raise OSError("old news")
    assert (breaker.state, breaker.failures) == (State.CLOSED, 0)


@pytest.mark.parametrize(
    "parameters",
    [
        {"threshold": 0},
        {"cooldown": 0.0},
        {"cooldown": math.nan},
        {"factor": 0.5},
        {"cooldown": 9.0, "cap": 8.0},
    ],
)
def test_parameters_that_would_switch_it_off_are_refused(parameters: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="threshold"):
        Breaker(Clock(), **parameters)  # type: ignore[arg-type]


class AnySequence(RuleBasedStateMachine):
    """Permits begin and end in any order while time passes: none leaks, at most one probes."""

    permits: Bundle[Permit] = Bundle("permits")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.breaker = Breaker(self.clock, threshold=2, cooldown=10, cap=40)
        self.probes: list[Permit] = []

    @rule(target=permits)
    def begin(self) -> Permit:
        permit = self.breaker.permit()
        state = self.breaker.state
        if state is State.OPEN or (state is State.HALF_OPEN and self.probes):
            with pytest.raises(Open):
                permit.__enter__()
            return permit
        permit.__enter__()
        if state is State.HALF_OPEN:
            self.probes.append(permit)
        return permit

    @rule(permit=consumes(permits), verdict=st.sampled_from(Verdict))
    def end(self, permit: Permit, verdict: Verdict) -> None:
        permit.conclude(verdict)
        self._forget(permit)

    @rule(permit=consumes(permits), error=st.sampled_from([None, OSError(), KeyboardInterrupt()]))
    def leave(self, permit: Permit, error: BaseException | None) -> None:
        permit.__exit__(type(error) if error else None, error, None)
        self._forget(permit)

    @rule(seconds=st.sampled_from([1, 5, 10, 40]))
    def wait(self, seconds: int) -> None:
        self.clock.now += seconds

    @rule()
    def reset(self) -> None:
        self.breaker.reset()
        self.probes.clear()

    @invariant()
    def at_most_one_probe_is_under_way(self) -> None:
        assert len(self.probes) <= 1

    @invariant()
    def no_pause_is_longer_than_the_cap(self) -> None:
        assert 0 <= self.breaker.retry_in <= 40

    @invariant()
    def a_closed_breaker_counts_below_its_threshold(self) -> None:
        assert self.breaker.state is not State.CLOSED or self.breaker.failures < 2

    def teardown(self) -> None:
        for probe in self.probes:
            probe.conclude(Verdict.UNDECIDED)
        self.clock.now += 40
        with self.breaker.permit():  # whatever happened, the next caller is admitted
            pass

    def _forget(self, permit: Permit) -> None:
        if permit in self.probes:
            self.probes.remove(permit)


TestAnySequence = AnySequence.TestCase
TestAnySequence.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
