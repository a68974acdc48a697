import logging
from contextlib import suppress

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foreman.breaker import Open, State, Verdict
from foreman.llm import ServerError
from foreman.llm.health import Breaking, Health, overall
from foreman.llm.permit import Busy, Disabled, TargetHealth
from foreman.llm.providers.fake import Clock
from foreman.llm.snapshot import Label, Status
from tests.foreman.llm.loops import run

ROUTER = Breaking(factor=1.0)  # arbstr's: three failures, 30 s each time
VENDORS = Breaking(threshold=2, cooldown=0.010, factor=1.0, probe="any")  # baaaht's, in its test


class Rig:
    def __init__(self, breaking: Breaking = ROUTER) -> None:
        self.clock = Clock()
        self.health = Health(breaking, clock=self.clock, wall=lambda: 1000 + self.clock())
        self.target = self.health["p/m"]

    async def call(self, outcome: str, target: TargetHealth | None = None) -> None:
        """`f` fails, `o` is well, `u` is given up."""
        verdicts = {"f": Verdict.FAILED, "o": Verdict.ALIVE, "u": Verdict.UNDECIDED}
        async with (target or self.target).permit() as permit:
            permit.conclude(verdicts[outcome], "boom" if outcome == "f" else "")

    async def calls(self, outcomes: str) -> None:
        for outcome in outcomes:
            await self.call(outcome)

    def seen(self) -> tuple[State, int, int]:
        now = self.target.snapshot()
        return now.state, now.failures, now.trips


async def test_the_routers_table() -> None:
    rig = Rig()
    await rig.calls("ff")
    assert rig.seen() == (State.CLOSED, 2, 0)
    await rig.calls("off")
    assert rig.seen() == (State.CLOSED, 2, 0)
    await rig.calls("f")
    assert rig.seen() == (State.OPEN, 3, 1)
    rig.clock.advance(29)
    with pytest.raises(Open):
        await rig.call("o")
    rig.clock.advance(1)
    assert rig.target.state is State.HALF_OPEN
    await rig.calls("f")
    assert rig.seen() == (State.OPEN, 4, 2)
    assert rig.target.retry_in == 30
    rig.clock.advance(31)
    await rig.calls("o")
    assert rig.seen() == (State.CLOSED, 0, 2)


async def waiters(rig: Rig, verdict: Verdict, count: int = 5) -> list[str]:
    """What becomes of those who come while another call probes."""
    ends: list[str] = []

    async def wait() -> None:
        try:
            async with rig.target.permit(busy="wait"):
                ends.append("admitted")
        except Open:
            ends.append("rejected")

    async with anyio.create_task_group() as tasks:
        async with rig.target.permit() as probe:
            for _ in range(count):
                tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            assert ends == []
            probe.conclude(verdict)
    return ends


async def test_waiters_go_on_when_the_probe_is_well() -> None:
    rig = Rig()
    await rig.calls("fff")
    rig.clock.advance(30)
    assert await waiters(rig, Verdict.ALIVE) == ["admitted"] * 5
    assert rig.seen() == (State.CLOSED, 0, 1)


async def test_waiters_are_rejected_at_once_when_it_fails_also_after_an_earlier_success() -> None:
    rig = Rig()
    await rig.calls("fff")
    rig.clock.advance(30)
    await rig.calls("offf")
    rig.clock.advance(30)
    assert await waiters(rig, Verdict.FAILED) == ["rejected"] * 5
    assert rig.seen() == (State.OPEN, 4, 3)


async def test_when_a_probe_is_given_up_a_waiter_probes_instead() -> None:
    rig = Rig()
    await rig.calls("fff")
    rig.clock.advance(30)
    assert await waiters(rig, Verdict.UNDECIDED) == ["admitted"] * 5
    assert rig.seen() == (State.CLOSED, 0, 1)


async def test_who_will_not_wait_is_told_that_another_one_probes() -> None:
    rig = Rig()
    await rig.calls("fff")
    rig.clock.advance(30)
    async with rig.target.permit():
        assert rig.target.probing
        with pytest.raises(Open) as refused:
            await rig.call("o")
    assert refused.value.retry_in is None


async def test_a_waiter_can_be_cancelled_and_takes_nothing(virtual_time: None) -> None:
    rig = Rig()
    await rig.calls("fff")
    rig.clock.advance(30)
    async with rig.target.permit():
        with anyio.move_on_after(5) as scope:
            async with rig.target.permit(busy="wait"):
                pass
        assert scope.cancelled_caught
    assert rig.target.state is State.CLOSED


async def test_a_reset_wakes_the_waiters() -> None:
    rig = Rig()
    await rig.calls("fff")
    rig.clock.advance(30)
    async with anyio.create_task_group() as tasks, rig.target.permit():

        async def wait() -> None:
            async with rig.target.permit(busy="wait"):
                pass

        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        rig.target.reset()
    assert rig.seen() == (State.CLOSED, 0, 1)


async def test_the_vendors_table() -> None:
    rig = Rig(VENDORS)
    await rig.calls("ff")
    assert not rig.target.usable
    assert rig.target.snapshot().reason == "boom"
    rig.clock.advance(0.015)
    assert rig.target.usable
    async with rig.target.permit(), rig.target.permit():  # anybody may try
        pass
    assert rig.seen() == (State.CLOSED, 0, 1)
    assert rig.target.snapshot().reason == ""


async def test_one_failure_is_enough_when_anybody_may_probe() -> None:
    rig = Rig(VENDORS)
    await rig.calls("ff")
    rig.clock.advance(0.010)
    async with rig.target.permit() as late:
        await rig.calls("f")
        assert rig.seen() == (State.OPEN, 3, 2)
        late.conclude(Verdict.ALIVE)
    assert rig.seen() == (State.OPEN, 3, 2)


async def test_breaking_can_be_switched_off() -> None:
    rig = Rig(Breaking(enabled=False))
    await rig.calls("f" * 9)
    rig.target.rest(10)
    assert rig.seen() == (State.CLOSED, 0, 0)
    assert rig.target.usable


async def test_a_rest_lasts_as_long_as_was_asked_for_and_counts_as_no_failure() -> None:
    rig = Rig()
    await rig.calls("ff")
    rig.target.rest(7)
    rig.target.rest(5)
    assert rig.seen() == (State.OPEN, 2, 0)
    assert rig.target.retry_in == 7
    with pytest.raises(Open):
        await rig.call("o")
    rig.clock.advance(7)
    assert rig.seen() == (State.CLOSED, 2, 0)
    rig.target.rest(7)
    rig.target.reset()
    assert rig.target.usable


async def test_a_rest_is_never_shorter_than_the_pause_and_leaves_the_probe_to_be_made() -> None:
    rig = Rig()
    await rig.calls("fff")
    rig.target.rest(1)
    assert rig.target.retry_in == 30
    rig.target.rest(40)
    rig.clock.advance(30)
    assert rig.seen() == (State.OPEN, 3, 1)
    rig.clock.advance(10)
    assert rig.seen() == (State.HALF_OPEN, 3, 1)


async def test_a_label_overrules_the_breaker_and_a_reset_takes_it_off() -> None:
    rig = Rig()
    usable = {Label.HEALTHY: True, Label.DEGRADED: True, Label.UNHEALTHY: False}
    usable[Label.UNKNOWN] = False
    assert rig.target.label is Label.HEALTHY
    for label, admitted in usable.items():
        rig.target.label = label
        assert rig.target.usable is admitted
        if not admitted:
            with pytest.raises(Disabled, match=f"p/m was marked as {label}"):
                await rig.call("o")
    rig.target.reset()
    assert rig.target.label is Label.HEALTHY


async def test_a_snapshot_says_when_and_why() -> None:
    rig = Rig()
    before = rig.target.snapshot()
    assert (before.last_failure, before.last_success, before.latency) == (None, None, None)
    await rig.call("o")
    rig.clock.advance(5)
    await rig.calls("fff")
    now = rig.target.snapshot()
    assert (now.last_success, now.last_failure, now.reason) == (1000, 1005, "boom")
    assert str(now) == "p/m: open, 3 failures in a row, again in 30 s (boom)"
    rig.target.label = Label.UNKNOWN
    assert "unknown by hand" in str(rig.target.snapshot())
    assert before.state is State.CLOSED  # it is of its own time


async def test_the_state_is_worked_out_when_it_is_read() -> None:
    rig = Rig()
    await rig.calls("fff")
    assert rig.target.snapshot().status is Status.UNAVAILABLE
    rig.clock.advance(30)
    assert rig.target.snapshot().status is Status.DEGRADED
    await rig.calls("o")
    assert rig.target.snapshot().status is Status.AVAILABLE
    rig.target.label = Label.DEGRADED
    assert rig.target.snapshot().status is Status.DEGRADED


@pytest.mark.parametrize(
    ("scripts", "wait", "expected"),
    [
        ((), 0, Status.AVAILABLE),
        (("o", ""), 0, Status.AVAILABLE),
        (("ff", "o"), 0, Status.AVAILABLE),
        (("fff", "o"), 0, Status.DEGRADED),
        (("fff",), 30, Status.DEGRADED),
        (("fff", "fff"), 0, Status.UNAVAILABLE),
    ],
)
async def test_all_targets_in_one_word(
    scripts: tuple[str, ...], wait: float, expected: Status
) -> None:
    rig = Rig()
    for number, script in enumerate(scripts):
        for outcome in script:
            await rig.call(outcome, rig.health[f"p/{number}"])
    rig.clock.advance(wait)
    everyone = [each for each in rig.health.snapshot() if each.target != "p/m"]
    assert overall(everyone) is expected


async def test_open_and_half_open_together_are_degraded() -> None:
    rig = Rig()
    for outcome in "fff":
        await rig.call(outcome, rig.health["p/1"])
    rig.clock.advance(30)
    await rig.calls("fff")
    assert overall(rig.health.snapshot()) is Status.DEGRADED
    rig.health.reset()
    assert overall(rig.health.snapshot()) is Status.AVAILABLE


async def test_a_permit_is_good_for_one_call() -> None:
    permit = Rig().target.permit()
    async with permit:
        pass
    with pytest.raises(RuntimeError, match="one call"):
        async with permit:
            pass


async def test_who_leaves_by_an_error_is_judged() -> None:
    rig = Rig()
    for _ in range(3):
        with pytest.raises(ServerError):
            async with rig.target.permit():
                raise ServerError("overloaded", target="p/m")
    assert rig.target.snapshot().reason == "overloaded"
    assert rig.target.state is State.OPEN


async def test_changes_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    with caplog.at_level(logging.INFO, "foreman.llm"):
        await rig.calls("fff")
        rig.clock.advance(30)
        await rig.calls("o")
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "p/m: open, 3 failures in a row" in caplog.text


def test_latency_is_an_average_of_the_latest_calls() -> None:
    target = Rig().target
    target.took(1.0)
    assert target.latency == 1.0
    target.took(2.0)
    assert target.latency == pytest.approx(1.2)


def test_what_could_not_break_is_refused() -> None:
    with pytest.raises(ValueError, match="threshold"):
        Breaking(threshold=0)


Step = tuple[str, int]
steps = st.lists(
    st.tuples(
        st.sampled_from(["skip", "wait", "end", "cancel", "rest", "reset", "time"]),
        st.integers(0, 5),
    ),
    max_size=40,
)


class Call:
    """One call, which ends when it is told to."""

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.told = anyio.Event()
        self.verdict = Verdict.UNDECIDED

    def end(self, verdict: Verdict) -> None:
        self.verdict = verdict
        self.told.set()


class Calls:
    """Calls that are under way, some of them probes."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.target = Health(Breaking(threshold=2, cooldown=10, cap=40), clock=self.clock)["p/m"]
        self.open: list[Call] = []
        self.probes: list[Call] = []

    async def run(self, call: Call, busy: Busy) -> None:
        self.open.append(call)
        with call.scope, suppress(Open):
            async with self.target.permit(busy=busy) as permit:
                if self.target.state is State.HALF_OPEN:
                    self.probes.append(call)
                assert len(self.probes) <= 1
                try:
                    await call.told.wait()
                    permit.conclude(call.verdict)
                finally:
                    self.probes = [each for each in self.probes if each is not call]
        self.open.remove(call)

    def tell(self, what: str, number: int) -> None:
        call = self.open[number % len(self.open)] if self.open else None
        if what == "rest":
            self.target.rest(number)
        elif what == "reset":
            self.target.reset()
            self.probes.clear()
        elif what == "time":
            self.clock.advance(number * 5)
        elif call is not None and what == "cancel":
            call.scope.cancel()
        elif call is not None:
            call.end([*Verdict][number % 3])


async def play(script: list[Step]) -> None:
    """Calls begin, wait, end and are cancelled in any order: one probe at most, none leaks."""
    calls = Calls()
    async with anyio.create_task_group() as tasks:
        for what, number in script:
            if what in {"skip", "wait"}:
                busy: Busy = "wait" if what == "wait" else "skip"
                tasks.start_soon(calls.run, Call(), busy)
            else:
                calls.tell(what, number)
            await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    calls.clock.advance(100)
    async with calls.target.permit():  # whatever happened, the next caller is admitted
        pass


@settings(max_examples=60, deadline=None)
@given(steps)
def test_no_sequence_of_calls_leaks_a_permit_or_lets_two_probe(script: list[Step]) -> None:
    run(lambda: play(script))
