"""One worker in virtual time: calls arrive, a policy chooses, loads and calls take as long as told.

The simulator owns the queue (priority first, then first in, first out; a requeued job keeps its
place); a policy sees it through a `View`. Nothing here sleeps and nothing is random.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from foreman.jobs import Fingerprint, JobClass, JobId
from foreman.scheduling import (
    Decision,
    Idle,
    Lane,
    LaneKey,
    Limits,
    Rule,
    Run,
    Turn,
    WaitUntil,
    after,
    decide,
)


@dataclass(frozen=True, slots=True)
class Call:
    """What a client asks for. Each of `failures` attempts takes `seconds` and is requeued."""

    arrives: float
    fingerprint: Fingerprint
    seconds: float
    job_class: JobClass = JobClass.BATCH
    priority: int = 0
    failures: int = 0

    @property
    def lane(self) -> LaneKey:
        return (self.fingerprint, self.job_class)


@dataclass(frozen=True, slots=True)
class Job:
    id: JobId
    call: Call

    @property
    def place(self) -> tuple[int, float, JobId]:
        return (-self.call.priority, self.call.arrives, self.id)


@dataclass(frozen=True, slots=True)
class Attempt:
    """The slot taken once: from the decision through a load to the end of the call."""

    job: Job
    rule: Rule
    decided: float
    load_s: float
    displaced: Fingerprint | None  # what the load evicted
    ended: float


@dataclass(slots=True)
class View:
    """The worker's world at `now`, while nothing runs."""

    now: float
    resident: Fingerprint | None
    waiting: dict[LaneKey, list[Job]] = field(default_factory=dict[LaneKey, list[Job]])
    turn: Turn | None = None
    load_cost: dict[Fingerprint, float] = field(default_factory=dict[Fingerprint, float])
    last_served: dict[LaneKey, float] = field(default_factory=dict[LaneKey, float])
    interactive_end: dict[Fingerprint, float] = field(default_factory=dict[Fingerprint, float])
    attempts: list[Attempt] = field(default_factory=list[Attempt])

    @property
    def lanes(self) -> list[Lane]:
        return [self._lane(key, jobs) for key, jobs in self.waiting.items() if jobs]

    def _lane(self, key: LaneKey, jobs: list[Job]) -> Lane:
        head = jobs[0]
        oldest = min(job.call.arrives for job in jobs)
        return Lane(*key, head.id, head.call.arrives, self.last_served.get(key), oldest)

    def put(self, job: Job) -> None:
        lane = self.waiting.setdefault(job.call.lane, [])
        lane.append(job)
        lane.sort(key=lambda job: job.place)


Policy = Callable[[View], Decision]


@dataclass(frozen=True, slots=True)
class Trace:
    attempts: Sequence[Attempt]
    evictions: Sequence[Fingerprint]  # models that somebody else unloaded

    @property
    def makespan(self) -> float:
        return max((attempt.ended for attempt in self.attempts), default=0.0)

    @property
    def loads(self) -> int:
        return sum(attempt.load_s > 0 for attempt in self.attempts)

    @property
    def load_s(self) -> float:
        return sum(attempt.load_s for attempt in self.attempts)

    @property
    def waits(self) -> dict[JobId, float]:
        """Seconds from each job's arrival to its first decision."""
        first = {attempt.job.id: attempt for attempt in reversed(self.attempts)}
        return {job: attempt.decided - attempt.job.call.arrives for job, attempt in first.items()}

    @property
    def idle_s(self) -> float:
        """Seconds between the first decision and the end in which the slot was free."""
        return sum(later.decided - earlier.ended for earlier, later in pairwise(self.attempts))


def simulate(
    calls: Iterable[Call],
    loads: Mapping[Fingerprint, float],
    policy: Policy,
    resident: Fingerprint | None = None,
    evictions: Collection[float] = (),
) -> Trace:
    """Run `calls` to the end. At each time in `evictions` the resident model is lost.

    An eviction during a run is seen when the run has ended.
    """
    arriving = [Job(JobId(f"{n:06}"), call) for n, call in enumerate(sorted(calls, key=_arrives))]
    losing = sorted(evictions)
    lost: list[Fingerprint] = []
    view = View(0.0, resident)
    while True:
        while arriving and arriving[0].call.arrives <= view.now:
            view.put(arriving.pop(0))
        while losing and losing[0] <= view.now:
            losing.pop(0)
            lost += [view.resident] if view.resident else []
            view.resident = None
        match policy(view):
            case Run(lane, rule):
                _run(view, lane, rule, loads)
            case WaitUntil(at):
                assert at > view.now, "an alarm in the past would spin"
                view.now = min([at, *(job.call.arrives for job in arriving[:1])])
                view.turn = None
            case Idle():
                assert not view.lanes, "idle beside waiting work"
                if not arriving:
                    return Trace(view.attempts, lost)
                view.now = arriving[0].call.arrives
                view.turn = None


def _arrives(call: Call) -> float:
    return call.arrives


def _run(view: View, lane: Lane, rule: Rule, loads: Mapping[Fingerprint, float]) -> None:
    job = view.waiting[lane.key].pop(0)
    assert job.id == lane.head, "only the head of a lane may run"
    load_s = 0.0 if view.resident == lane.fingerprint else loads[lane.fingerprint]
    if load_s:
        view.load_cost[lane.fingerprint] = load_s
    displaced = view.resident if load_s else None
    ended = view.now + load_s + job.call.seconds
    view.attempts.append(Attempt(job, rule, view.now, load_s, displaced, ended))
    view.turn = after(view.turn, Run(lane, rule), load_s, job.call.seconds)
    view.now, view.resident = ended, lane.fingerprint
    view.last_served[lane.key] = ended
    if lane.job_class is JobClass.INTERACTIVE:
        view.interactive_end[lane.fingerprint] = ended
    if sum(attempt.job.id == job.id for attempt in view.attempts) <= job.call.failures:
        view.put(job)


def by_rules(limits: Limits) -> Policy:
    """foreman's policy."""

    def policy(view: View) -> Decision:
        ended = view.interactive_end.get(view.resident) if view.resident else None
        return decide(view.lanes, view.resident, view.turn, view.load_cost, view.now, limits, ended)

    return policy


def first_come_first_served(view: View) -> Decision:
    """What the target does by itself, as far as the order goes."""
    lane = min(view.lanes, key=lambda lane: (lane.head_arrived, lane.head), default=None)
    return Idle() if lane is None else Run(lane, Rule.BATCH)


def lower_bound(calls: Collection[Call], loads: Mapping[Fingerprint, float]) -> float:
    """No policy has a shorter makespan: each fingerprint loaded once, no second idle."""
    needed = {call.fingerprint for call in calls}
    work = sum(call.seconds * (1 + call.failures) for call in calls)
    return work + sum(loads[fingerprint] for fingerprint in needed)
