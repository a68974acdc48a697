"""Which job next: one pure decision over the heads of the lanes, in five rules.

1. Hold         a turn won by rule 2 goes on until it has worked as long as its load took
2. Overdue      a lane passed over for `Limits.max_wait` goes next, the longest overdue first
3. Interactive  before batch: the resident fingerprint's lane, else the one with the oldest head
4. Linger       after an interactive job, wait a little for the next one before swapping to batch
5. Batch        the resident fingerprint's lane (drain), else the one with the oldest head

The starvation bound. A lane with work becomes overdue `max_wait` after its oldest job arrived or
the lane was last served, whichever is later. From then on it waits for what is under way (the run,
and the rest of a hold), then for each lane that was overdue before it: one load, one hold as long
as that load, one job. Nobody goes ahead twice, because a lane just served counts from the end of
that service. The bound is the lane's: inside a lane `priority` rules, and may starve.

All times are seconds on one monotonic clock. A decision costs O(lanes), whatever the queue holds.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from math import inf

from foreman.jobs import Fingerprint, JobClass, JobId

LaneKey = tuple[Fingerprint, JobClass]


@dataclass(frozen=True, slots=True)
class Lane:
    """The waiting jobs of one fingerprint and class, as far as the rules look at them."""

    fingerprint: Fingerprint
    job_class: JobClass
    head: JobId
    head_arrived: float
    last_served: float | None = None
    """When a run of this lane last ended, however it ended; None = never, or nobody remembers."""
    oldest_arrived: float | None = None
    """When the lane's oldest waiting job arrived; None = that job is the head."""

    @property
    def key(self) -> LaneKey:
        return (self.fingerprint, self.job_class)

    @property
    def waiting_since(self) -> float:
        """Since when the lane has been passed over.

        It counts from the oldest job, not from the head: a newer job of higher priority becomes
        the head, and a trickle of them would put off rule 2 for ever. It counts from the end of
        the last run, not from its start: a lane is not passed over while it is served.
        """
        oldest = self.head_arrived if self.oldest_arrived is None else self.oldest_arrived
        return oldest if self.last_served is None else max(oldest, self.last_served)


@dataclass(frozen=True, slots=True)
class Turn:
    """The runs of one lane since the worker turned to it."""

    lane: LaneKey
    by_rule_2: bool  # won as overdue, and only held since
    load_s: float  # of the load that its first run caused, 0 = the model was resident
    worked_s: float
    jobs: int


@dataclass(frozen=True, slots=True)
class Limits:
    """The settings that bind the rules, in seconds."""

    max_wait: float = 600.0  # FOREMAN_MAX_WAIT
    linger: float = 15.0  # FOREMAN_LINGER, 0 = off


class Rule(StrEnum):
    """Why a lane was chosen."""

    HOLD = "hold"
    OVERDUE = "overdue"
    INTERACTIVE = "interactive"
    BATCH = "batch"


@dataclass(frozen=True, slots=True)
class Run:
    """Run the head of `lane` now."""

    lane: Lane
    rule: Rule


@dataclass(frozen=True, slots=True)
class WaitUntil:
    """Run nothing until `at`, but decide anew when a job arrives: `fingerprint` may be called."""

    at: float
    fingerprint: Fingerprint


@dataclass(frozen=True, slots=True)
class Idle:
    """No lane has work."""


Decision = Run | WaitUntil | Idle


def decide(
    lanes: Collection[Lane],
    resident: Fingerprint | None,
    turn: Turn | None,
    load_cost: Mapping[Fingerprint, float],
    now: float,
    limits: Limits,
    last_interactive_end: float | None = None,
) -> Decision:
    """What the worker does at `now`, while nothing runs.

    `lanes` are those with work. `turn` is what `after` made of the last run, None when there was
    none or the worker has waited since: a lane that ran dry has ended its turn. `load_cost` says
    how many seconds a load of a fingerprint takes; one that is missing is not lingered for.
    `last_interactive_end` is when an interactive job last ended on `resident`.
    """
    if held := _held(lanes, resident, turn):
        return Run(held, Rule.HOLD)
    if overdue := _longest_overdue(lanes, now, limits):
        return Run(overdue, Rule.OVERDUE)
    if interactive := _next_of(JobClass.INTERACTIVE, lanes, resident):
        return Run(interactive, Rule.INTERACTIVE)
    batch = _next_of(JobClass.BATCH, lanes, resident)
    if batch is None:
        return Idle()
    if resident is not None and batch.fingerprint != resident:
        until = _linger_end(load_cost.get(resident, 0.0), limits, last_interactive_end)
        if now < until:
            first_due = min(_due(lane, limits) for lane in lanes)
            return WaitUntil(min(until, first_due), resident)
    return Run(batch, Rule.BATCH)


def after(turn: Turn | None, run: Run, load_s: float, worked_s: float) -> Turn:
    """The turn once `run` has ended, after `load_s` of loading and `worked_s` of anything else.

    A load inside a turn (the model was evicted from outside) counts as work: a hold that had to
    pay back every such load would have no end.
    """
    if turn is None or turn.lane != run.lane.key or run.rule is Rule.OVERDUE:
        return Turn(run.lane.key, run.rule is Rule.OVERDUE, load_s, worked_s, jobs=1)
    return replace(
        turn,
        by_rule_2=turn.by_rule_2 and run.rule is Rule.HOLD,
        worked_s=turn.worked_s + load_s + worked_s,
        jobs=turn.jobs + 1,
    )


def _held(lanes: Collection[Lane], resident: Fingerprint | None, turn: Turn | None) -> Lane | None:
    """Rule 1. A hold spreads the cost of a load, so it ends when the model is gone."""
    if turn is None or not turn.by_rule_2 or turn.worked_s >= turn.load_s:
        return None
    if turn.lane[0] != resident:
        return None
    return next((lane for lane in lanes if lane.key == turn.lane), None)


def _longest_overdue(lanes: Collection[Lane], now: float, limits: Limits) -> Lane | None:
    """Rule 2."""
    overdue = (lane for lane in lanes if _due(lane, limits) <= now)
    return min(overdue, key=lambda lane: (lane.waiting_since, lane.head), default=None)


def _next_of(
    job_class: JobClass, lanes: Collection[Lane], resident: Fingerprint | None
) -> Lane | None:
    """Rules 3 and 5: the resident fingerprint's lane, else the one whose head is oldest."""
    return min(
        (lane for lane in lanes if lane.job_class is job_class),
        key=lambda lane: (lane.fingerprint != resident, lane.head_arrived, lane.head),
        default=None,
    )


def _linger_end(load_s: float, limits: Limits, last_interactive_end: float | None) -> float:
    """Rule 4: until when the resident model is kept for its next interactive call.

    Waiting as long as a load takes is the ski-rental answer: at worst it costs that load twice,
    once waited and once paid. Under a cap below the load that holds against the best that keeps
    the cap too. A swap to another caller (rule 3) never waits.
    """
    if last_interactive_end is None:
        return -inf
    return last_interactive_end + min(load_s, limits.linger)


def _due(lane: Lane, limits: Limits) -> float:
    """When rule 2 applies; one sum for the rule and for the alarm, or they could round apart."""
    return lane.waiting_since + limits.max_wait
