"""`foreman why`: what a job waits for, which of the five rules puts others first, what would help.

The reasoning is one pure function over what GET /jobs/{id} and GET /queue tell.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import takewhile
from typing import NamedTuple

import msgspec
import typer

from foreman.cli.connection import Daemon, decode
from foreman.cli.terminal import Cell, Table, duration, render
from foreman.cli.views import Job, as_written
from foreman.jobs import MEANINGS, FailureCode, JobClass, Requeue, State
from foreman.queue_view import QueueView, WaitingLane
from foreman.scheduling import Rule

RULES = {
    1: "Hold: a lane that was overdue keeps its turn until it has worked as long as its load took.",
    2: "Overdue: a lane passed over for FOREMAN_MAX_WAIT goes next, whatever else waits.",
    3: "Interactive before batch: a client waits at the other end.",
    4: "Linger: the loaded model is kept a moment for its client's next call.",
    5: "Batch: the lane of the loaded model until it is empty, else the one with the oldest job.",
}
"""The rules of `foreman.scheduling`, in a sentence each."""


class Why(msgspec.Struct, frozen=True):
    """The answer."""

    job: str
    state: State
    waits_for: tuple[str, ...]
    rule: int | None = None  # of RULES: the one that puts others first
    helps: tuple[str, ...] = ()
    """What would change it."""


class _Place(NamedTuple):
    """A queued job in its queue."""

    job: Job
    queue: QueueView
    now: datetime
    lane: WaitingLane | None
    ahead: tuple[WaitingLane, ...]  # lanes whose turn comes first
    before: int  # jobs of its own lane that go first


def show(daemon: Daemon, job_id: str, *, as_json: bool) -> None:
    """Ask and print. Raises Unreachable and Refused."""
    job = decode(daemon.get(f"/jobs/{job_id}"), Job)
    queue = decode(daemon.get("/queue"), QueueView)
    why = explain(job, queue, datetime.now(UTC))
    if as_json:
        typer.echo(msgspec.json.encode(why))
        return
    rule = f"{why.rule}. {RULES[why.rule]}" if why.rule else ""
    facts = [("job", f"{why.job}, {why.state}")]
    facts += zip(("because", *[""] * len(why.waits_for)), why.waits_for, strict=False)
    facts += [("rule", rule)] if rule else []
    facts += zip(("helps", *[""] * len(why.helps)), why.helps, strict=False)
    render(Table((), [(Cell(name or " ", "dim"), text) for name, text in facts]))


def explain(job: Job, queue: QueueView, now: datetime) -> Why:
    """Why the job stands where it stands at `now`."""
    if job.ended:
        return _ended(job)
    if job.state is not State.QUEUED:
        return _running(job, queue)
    place = _placed(job, queue, now)
    reasons = list(_reasons(place))
    rule = _rule(place)
    return Why(job.id, job.state, tuple(reasons), rule, tuple(_helps(place)))


def _ended(job: Job) -> Why:
    if job.error is None:
        return Why(job.id, job.state, ("It has ended well: `foreman output` prints its answer.",))
    try:
        meaning = MEANINGS[FailureCode(job.error.code)]
    except ValueError:  # a newer daemon's
        meaning = ""
    reasons = filter(None, (str(job.error), meaning))
    return Why(job.id, job.state, tuple(reasons), helps=("Submitting it anew; it has ended.",))


def _running(job: Job, queue: QueueView) -> Why:
    running = queue.running
    reasons = [MEANINGS[job.state]]
    if running and running.id == job.id:
        reasons.append(f"It has had the slot for {duration(running.seconds)}.")
    return Why(job.id, job.state, tuple(reasons))


def _placed(job: Job, queue: QueueView, now: datetime) -> _Place:
    own = (as_written(job.fingerprint or job.model), job.job_class)
    ahead = tuple(takewhile(lambda lane: _key(lane) != own, queue.lanes))
    lane = queue.lanes[len(ahead)] if len(ahead) < len(queue.lanes) else None
    waiting = max(0, (job.position or 0) - (queue.running is not None))
    if lane is None:  # the two answers are of different moments
        return _Place(job, queue, now, None, (), waiting)
    before = max(0, waiting - sum(each.jobs for each in ahead))
    return _Place(job, queue, now, lane, ahead, min(before, lane.jobs - 1))


def _key(lane: WaitingLane) -> tuple[str, str]:
    return as_written(lane.fingerprint), lane.job_class


def _reasons(place: _Place) -> Iterator[str]:
    job, queue = place.job, place.queue
    if job.not_before and job.not_before > place.now:
        pause = duration((job.not_before - place.now).total_seconds())
        yield f"It may not start for another {pause}. {_requeued(job)}".strip()
    if queue.target_away:
        yield "The target is away; nothing runs until it is back, and nothing is lost."
    if running := queue.running:
        yield (
            f"The slot is taken: {running.model} has been {running.state} for"
            f" {duration(running.seconds)} ({running.job_class} job {running.id})."
        )
    yield from map(_lane_ahead, place.ahead)
    if place.before:
        yield f"{_jobs(place.before)} of its own lane came before it, or have a higher priority."
    if _lingers(place):
        yield (
            f"Nothing runs: {as_written(queue.resident or '')} stays loaded a moment for its"
            " client's next call."
        )
    elif not (place.ahead or place.before or queue.running or queue.target_away):
        yield "It is next; it starts as soon as the worker looks."


def _requeued(job: Job) -> str:
    try:
        return MEANINGS[Requeue(job.reason or "")]
    except ValueError:
        return ""


def _lane_ahead(lane: WaitingLane) -> str:
    what = "clients' calls" if lane.job_class is JobClass.INTERACTIVE else "batch jobs"
    count = "one of the " if lane.jobs == 1 else f"{lane.jobs} "
    return f"Ahead are {count}{what} for {as_written(lane.fingerprint)}."


def _rule(place: _Place) -> int | None:
    """Which rule has others run first; None when nobody does, or it is not the rules."""
    queue = place.queue
    if queue.target_away:
        return None
    chosen_by = queue.running.rule if queue.running else None
    if chosen_by in (Rule.HOLD, Rule.OVERDUE):
        return 1 if chosen_by is Rule.HOLD else 2
    if _lingers(place):
        return 4
    if any(lane.job_class is JobClass.INTERACTIVE for lane in place.ahead):
        return 3
    if place.ahead:
        return 5
    return None


def _lingers(place: _Place) -> bool:
    """Nothing runs although the first lane could: only rule 4 does that, before a swap."""
    queue = place.queue
    first = queue.lanes[0] if queue.lanes else None
    return (
        queue.running is None
        and not queue.target_away
        and queue.resident is not None
        and first is not None
        and first.job_class is JobClass.BATCH
        and as_written(first.fingerprint) != as_written(queue.resident)
    )


def _helps(place: _Place) -> Iterator[str]:
    job, queue, lane = place.job, place.queue, place.lane
    if queue.target_away:
        yield "The target's return: work goes on within seconds of it."
    if queue.running:
        yield f"The end of job {queue.running.id}, or `foreman cancel {queue.running.id}`."
    if place.before:
        yield "A higher priority, given at submit: it goes first inside its lane, not across lanes."
    if place.ahead and not _is_resident(place):
        yield from _loading(place)
    if place.ahead and lane:
        yield (
            "Time: once its lane has been passed over for FOREMAN_MAX_WAIT (10 minutes unless set"
            " otherwise) it goes next by rule 2;"
            f" its oldest job waits {duration(lane.oldest_seconds)}."
        )
    if job.expires_at:
        left = (job.expires_at - place.now).total_seconds()
        yield f"Its expiry ends the wait: not started in {duration(max(0, left))}, it fails."


def _loading(place: _Place) -> Iterator[str]:
    job, resident = place.job, place.queue.resident
    if job.job_class == JobClass.BATCH:
        name = as_written(job.fingerprint or job.model)
        yield f"{name} being loaded: its lane is then drained before another batch lane."
    if resident and _model(as_written(resident)) == _model(as_written(job.fingerprint)):
        yield (
            "The same runner options (num_ctx and the like) as the loaded model has:"
            " then it would share that load."
        )


def _is_resident(place: _Place) -> bool:
    resident = place.queue.resident
    return resident is not None and as_written(resident) == as_written(place.job.fingerprint)


def _model(fingerprint: str) -> str:
    return fingerprint.partition(" ")[0]


def _jobs(count: int) -> str:
    return "One job" if count == 1 else f"{count} jobs"
