"""The five rules once more, written down naively: over whole queues and the whole past.

Slow on purpose and sharing nothing with `foreman.scheduling` but the names of its answers. The
property tests compare the two decision by decision. Beside them, the fewest loads of a batch.
"""

from functools import cache
from itertools import takewhile

from foreman.jobs import Fingerprint, JobClass
from foreman.scheduling import Rule
from tests.sim.worker import Attempt, Job, View

Answer = tuple[Job, Rule] | float | None
"""What to run and why, or until when to wait, or nothing to do."""


def answer(view: View, max_wait: float, linger: float) -> Answer:
    jobs = [job for lane in view.waiting.values() for job in lane]
    heads = [job for job in jobs if not any(_before(other, job) for other in jobs)]
    alarms = {job: _alarm(job, jobs, view.attempts, max_wait) for job in heads}

    for job in heads:
        if _held(job, view):
            return job, Rule.HOLD

    ringing = [job for job in heads if alarms[job] <= view.now]
    if ringing:
        return min(ringing, key=lambda job: (alarms[job], job.id)), Rule.OVERDUE

    interactive = [job for job in heads if job.call.job_class is JobClass.INTERACTIVE]
    if interactive:
        return _resident_else_oldest(interactive, view.resident), Rule.INTERACTIVE
    if not heads:
        return None

    choice = _resident_else_oldest(heads, view.resident)
    patience = _patience_ends(view, linger)
    if choice.call.fingerprint != view.resident and view.now < patience:
        return min([patience, *alarms.values()])
    return choice, Rule.BATCH


def _before(one: Job, other: Job) -> bool:
    return one.call.lane == other.call.lane and one.place < other.place


def _resident_else_oldest(heads: list[Job], resident: Fingerprint | None) -> Job:
    at_home = [job for job in heads if job.call.fingerprint == resident]
    return min(at_home or heads, key=lambda job: (job.call.arrives, job.id))


def _alarm(head: Job, jobs: list[Job], past: list[Attempt], max_wait: float) -> float:
    lane = head.call.lane
    arrivals = [job.call.arrives for job in jobs if job.call.lane == lane]
    services = [attempt.ended for attempt in past if attempt.job.call.lane == lane]
    return max([min(arrivals), *services]) + max_wait


def _held(head: Job, view: View) -> bool:
    """Whether the past ends in an overdue run of this lane, held since, that owes its load."""
    past = view.attempts[::-1]
    held = list(takewhile(lambda attempt: attempt.rule is Rule.HOLD, past))
    turn = past[: len(held) + 1]
    if not turn or turn[-1].rule is not Rule.OVERDUE:
        return False
    unbroken = all(
        earlier.ended == later
        for earlier, later in zip(turn, [view.now, *(run.decided for run in turn)], strict=False)
    )
    worked = sum(attempt.job.call.seconds for attempt in turn)
    return (
        unbroken
        and turn[-1].job.call.lane == head.call.lane
        and view.resident == head.call.fingerprint
        and worked < turn[-1].load_s
    )


def _patience_ends(view: View, linger: float) -> float:
    here = [run for run in view.attempts if run.job.call.fingerprint == view.resident]
    loads = [run.load_s for run in here if run.load_s]
    ends = [run.ended for run in here if run.job.call.job_class is JobClass.INTERACTIVE]
    if not loads or not ends:
        return view.now
    return ends[-1] + min(loads[-1], linger)


@cache
def fewest_loads(lanes: tuple[tuple[Fingerprint, int], ...], resident: Fingerprint | None) -> int:
    """The loads of the best schedule of a batch, by trying every order of the lanes' heads."""
    left = dict(lanes)
    return min(
        (
            (model != resident) + fewest_loads(tuple((left | {model: n - 1}).items()), model)
            for model, n in lanes
            if n
        ),
        default=0,
    )
