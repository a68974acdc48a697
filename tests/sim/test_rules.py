"""What `foreman.scheduling` promises for any arrival pattern, on a simulated worker.

Times are multiples of a quarter second, exact in binary, so that equalities mean what they say.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf

from hypothesis import given, settings
from hypothesis import strategies as st

from foreman.jobs import Fingerprint, JobClass
from foreman.scheduling import Decision, Idle, LaneKey, Limits, Rule, Run, WaitUntil
from tests.sim import reference
from tests.sim.worker import Attempt, Call, Job, Policy, Trace, View, by_rules, simulate

a_thousand = settings(max_examples=1000, deadline=None, derandomize=True, database=None)

MODELS = [Fingerprint(name) for name in ("llama", "qwen", "phi")] + [
    Fingerprint("llama", '{"num_ctx":8192}')
]


def quarters(low: int, high: int) -> st.SearchStrategy[float]:
    return st.integers(low * 4, high * 4).map(lambda n: n / 4)


@dataclass(frozen=True, slots=True)
class World:
    """A workload and the machine it meets."""

    calls: Sequence[Call]
    loads: dict[Fingerprint, float]
    limits: Limits
    resident: Fingerprint | None = None
    evictions: Sequence[float] = ()

    def trace(self, policy: Policy | None = None) -> Trace:
        policy = policy or by_rules(self.limits)
        return simulate(self.calls, self.loads, policy, self.resident, self.evictions)

    def turn_s(self, lane: LaneKey) -> float:
        """The longest turn by rule 2: one load, one hold, one job."""
        longest = max(call.seconds for call in self.calls if call.lane == lane)
        return 2 * self.loads[lane[0]] + longest


durations = st.integers(1, 40).map(lambda n: n / 4)
calls = st.builds(
    Call,
    arrives=quarters(0, 40),
    fingerprint=st.sampled_from(MODELS),
    seconds=durations,
    job_class=st.sampled_from(JobClass),
    priority=st.sampled_from([0, 0, 0, 1, 2]),
    failures=st.sampled_from([0, 0, 0, 1]),
)
loads = st.tuples(*[durations] * len(MODELS)).map(
    lambda costs: dict(zip(MODELS, costs, strict=True))
)
limits = st.builds(Limits, max_wait=quarters(0, 40) | st.just(inf), linger=quarters(0, 8))
worlds = st.builds(World, st.lists(calls, max_size=14), loads, limits)
rough_worlds = st.builds(
    World,
    st.lists(calls, max_size=14),
    loads,
    limits,
    st.sampled_from([None, *MODELS]),
    st.lists(quarters(0, 80), max_size=3),
)
batches = st.builds(
    Call, st.just(0.0), st.sampled_from(MODELS), durations, priority=st.integers(0, 2)
)


@a_thousand
@given(rough_worlds)
def test_jobs_run_one_at_a_time_and_none_is_lost(world: World) -> None:
    trace = world.trace()
    assert all(earlier.ended <= later.decided for earlier, later in pairwise(trace.attempts))
    attempts = Counter(attempt.job for attempt in trace.attempts)
    assert len(attempts) == len(world.calls)
    assert all(count == 1 + job.call.failures for job, count in attempts.items())


@a_thousand
@given(rough_worlds)
def test_a_lane_is_served_by_priority_and_then_in_order_of_arrival(world: World) -> None:
    trace = world.trace()
    for attempt in trace.attempts:
        assert attempt.job.place == min(job.place for job in _waiting(trace, attempt))


@a_thousand
@given(rough_worlds)
def test_no_lane_with_work_goes_unserved_beyond_the_published_bound(world: World) -> None:
    trace = world.trace()
    for served in trace.attempts:
        overdue = _waiting_since(trace, served.job.call.lane, served.decided)
        overdue += world.limits.max_wait
        if served.decided > overdue:
            assert served.decided <= overdue + _allowance(world, trace, served, overdue)


@a_thousand
@given(st.lists(batches, max_size=8), loads, st.sampled_from([None, *MODELS]))
def test_a_batch_costs_as_many_loads_as_the_best_of_all_schedules(
    batch: list[Call], loads: dict[Fingerprint, float], resident: Fingerprint | None
) -> None:
    trace = World(batch, loads, Limits(max_wait=inf), resident).trace()
    lanes = dict.fromkeys(MODELS, 0) | Counter(call.fingerprint for call in batch)
    assert trace.loads == reference.fewest_loads(tuple(lanes.items()), resident)
    assert trace.loads == len({call.fingerprint for call in batch} - {resident})


@a_thousand
@given(worlds)
def test_a_load_for_the_overdue_is_worked_off_unless_their_lane_runs_dry(world: World) -> None:
    trace = world.trace()
    for turn, rest in _turns_by_rule_2(trace.attempts):
        load_s, worked_s = turn[0].load_s, sum(attempt.job.call.seconds for attempt in turn)
        assert worked_s < load_s + turn[-1].job.call.seconds or len(turn) == 1
        if rest and _has_work(trace, turn[0].job.call.lane, turn[-1].ended):
            assert worked_s >= load_s


@a_thousand
@given(rough_worlds)
def test_the_time_spent_on_loads_stays_below_what_the_rules_allow(world: World) -> None:
    """Loads <= what each kind of swap can have made necessary, at its own model's cost.

    - one for each time a lane without work got work, but for interactive work that came back
      within the linger (rules 3, 4 and 5),
    - two for each load of rule 2: itself and, where it came to that, the way back,
    - one for each load of rule 3: the way back,
    - one for each eviction from outside.
    """
    trace = World(world.calls, world.loads, world.limits, None, world.evictions).trace()
    cost = world.loads
    allowed = sum(cost[job.call.fingerprint] for job in _openings(world, trace))
    allowed += sum(cost[model] for model in trace.evictions)
    for n, attempt in enumerate(trace.attempts):
        way_back = _reload_s(attempt.displaced, trace.attempts[n:])
        if attempt.rule is Rule.OVERDUE:
            allowed += attempt.load_s + way_back
        elif attempt.rule is Rule.INTERACTIVE:
            allowed += way_back
        elif attempt.rule is Rule.HOLD:
            assert attempt.load_s == 0
    assert trace.load_s <= allowed


@a_thousand
@given(worlds)
def test_the_slot_is_free_beside_waiting_work_only_within_the_linger(world: World) -> None:
    trace = world.trace()
    for n, (earlier, later) in enumerate(pairwise(trace.attempts), start=1):
        waited_for = min(job.call.arrives for job in _unserved(trace, later.decided))
        if later.decided > max(earlier.ended, waited_for):
            model = earlier.job.call.fingerprint
            patience = min(world.loads[model], world.limits.linger)
            assert later.decided <= _called(trace.attempts[:n], model) + patience
            assert later.load_s or later.decided == later.job.call.arrives


@a_thousand
@given(st.integers(1, 40), st.integers(0, 60), st.integers(0, 40))
def test_lingering_costs_at_most_twice_the_best(load: int, linger: int, gap: int) -> None:
    """The best knows when the next call comes: it waits for it, or swaps at once and reloads."""
    chat = JobClass.INTERACTIVE
    first, second = Call(0, MODELS[0], 1, chat), Call(load + 1 + gap, MODELS[0], 1, chat)
    world = World(
        [first, Call(0, MODELS[1], 1), second],
        {MODELS[0]: float(load), MODELS[1]: 1.0},
        Limits(linger=linger),
    )
    trace = world.trace()
    waited = trace.attempts[1].decided - trace.attempts[0].ended
    reloads = sum(a.load_s for a in trace.attempts[1:] if a.job.call.fingerprint == MODELS[0])
    best = min(gap, load) if gap <= linger else load
    assert waited + reloads <= 2 * best


@a_thousand
@given(rough_worlds)
def test_every_decision_agrees_with_the_naive_reference(world: World) -> None:
    rules = by_rules(world.limits)

    def compared(view: View) -> Decision:
        decision = rules(view)
        answer = reference.answer(view, world.limits.max_wait, world.limits.linger)
        assert _as_answer(decision, view) == answer
        return decision

    world.trace(compared)


def _as_answer(decision: Decision, view: View) -> reference.Answer:
    match decision:
        case Run(lane, rule):
            return view.waiting[lane.key][0], rule
        case WaitUntil(at):
            return at
        case Idle():
            return None


def _unserved(trace: Trace, at: float) -> list[Job]:
    """The jobs in the queue when the worker decided at `at`, and one that it has just taken."""
    last = {attempt.job: attempt.decided for attempt in trace.attempts}
    return [job for job, decided in last.items() if job.call.arrives <= at <= decided]


def _waiting(trace: Trace, attempt: Attempt) -> list[Job]:
    jobs = _unserved(trace, attempt.decided)
    return [job for job in jobs if job.call.lane == attempt.job.call.lane]


def _has_work(trace: Trace, lane: LaneKey, at: float) -> bool:
    return any(job.call.lane == lane for job in _unserved(trace, at))


def _waiting_since(trace: Trace, lane: LaneKey, at: float) -> float:
    arrivals = [job.call.arrives for job in _unserved(trace, at) if job.call.lane == lane]
    ends = [a.ended for a in trace.attempts if a.job.call.lane == lane and a.ended <= at]
    return max([min(arrivals), *ends])


def _allowance(world: World, trace: Trace, served: Attempt, overdue: float) -> float:
    """What may still go first: what is under way, then a turn of each lane overdue before."""
    lane, since = served.job.call.lane, overdue - world.limits.max_wait
    under_way = [a for a in trace.attempts if a.decided < overdue <= a.ended]
    by_rule_2 = {id(attempt) for turn, _ in _turns_by_rule_2(trace.attempts) for attempt in turn}
    allowance = sum(
        world.turn_s(a.job.call.lane) if id(a) in by_rule_2 else a.ended - overdue
        for a in under_way
    )
    running = {a.job.call.lane for a in under_way if a.ended > overdue}
    others = {job.call.lane for job in _unserved(trace, overdue)} - running - {lane}
    before = [other for other in others if _waiting_since(trace, other, overdue) <= since]
    return allowance + sum(map(world.turn_s, before))


def _turns_by_rule_2(
    attempts: Sequence[Attempt],
) -> list[tuple[Sequence[Attempt], Sequence[Attempt]]]:
    """Each turn won by rule 2 with the runs that hold it, and everything after."""
    turns: list[tuple[Sequence[Attempt], Sequence[Attempt]]] = []
    for start, attempt in enumerate(attempts):
        if attempt.rule is Rule.OVERDUE:
            end = start + 1
            while end < len(attempts) and attempts[end].rule is Rule.HOLD:
                end += 1
            turns.append((attempts[start:end], attempts[end:]))
    return turns


def _reload_s(displaced: Fingerprint | None, later: Sequence[Attempt]) -> float:
    """What it cost to bring the displaced model back, 0 where nobody did."""
    loads = [a.load_s for a in later if a.job.call.fingerprint == displaced and a.load_s]
    return loads[0] if loads else 0.0


def _openings(world: World, trace: Trace) -> list[Job]:
    """The jobs that gave work to a lane without, but for callers who came back in time."""
    jobs = sorted({attempt.job for attempt in trace.attempts}, key=lambda job: job.id)
    return [job for job in jobs if not _joins(job, trace) and not _returns(job, world, trace)]


def _joins(job: Job, trace: Trace) -> bool:
    queue = _unserved(trace, job.call.arrives)
    return any(other.call.lane == job.call.lane and other.id < job.id for other in queue)


def _returns(job: Job, world: World, trace: Trace) -> bool:
    model, at = job.call.fingerprint, job.call.arrives
    patience = min(world.loads[model], world.limits.linger)
    before = [attempt for attempt in trace.attempts if attempt.ended <= at]
    return job.call.job_class is JobClass.INTERACTIVE and at <= _called(before, model) + patience


def _called(attempts: Collection[Attempt], model: Fingerprint) -> float:
    """When an interactive call of `model` last ended."""
    lane = (model, JobClass.INTERACTIVE)
    return max((a.ended for a in attempts if a.job.call.lane == lane), default=-inf)
