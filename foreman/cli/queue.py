"""`foreman queue`: who is ahead of whom."""

from datetime import UTC, datetime
from itertools import accumulate
from typing import NamedTuple

import typer

from foreman.cli.connection import Daemon, decode
from foreman.cli.status import running_text
from foreman.cli.terminal import Cell, Table, duration, render, say
from foreman.cli.views import Job, Page, as_written
from foreman.jobs import JobClass
from foreman.queue_view import QueueView

NAMED = 500  # batch jobs that are listed one by one: a page of GET /jobs


class Entry(NamedTuple):
    """One job in line; place 1 is next."""

    place: int
    id: str
    job_class: str
    model: str
    waited: float  # seconds
    priority: int = 0


def show(daemon: Daemon, *, as_json: bool) -> None:
    """Print what runs, the lanes, and each job with its place. Raises Unreachable and Refused."""
    body = daemon.get("/queue")
    view = decode(body, QueueView)
    if as_json:
        typer.echo(body)
        return
    say(f"running: {running_text(view).text}")
    if not view.lanes:
        say("nobody waits")
        return
    asked = {"state": "queued", "class": JobClass.BATCH.value, "limit": str(NAMED)}
    batch = sum(lane.jobs for lane in view.lanes if lane.job_class is JobClass.BATCH)
    page = decode(daemon.get("/jobs", asked), Page) if batch else Page([])
    render(_lanes(view))
    if not page.next:
        typer.echo()
        render(_entries(line(view, page.jobs, datetime.now(UTC))))
    else:
        say(f"{batch:,} batch jobs wait; `foreman why JOB` says where one of them stands")


def line(view: QueueView, batch: list[Job], now: datetime) -> list[Entry]:
    """Everybody in the order of their turns as things stand: clients' calls, then batch lanes."""
    calls = [
        Entry(call.position, call.id, JobClass.INTERACTIVE, call.model, call.seconds)
        for call in sorted(view.calls, key=lambda call: call.position)
    ]
    lanes = [as_written(lane.fingerprint) for lane in view.lanes if lane.job_class == "batch"]
    turns = {fingerprint: turn for turn, fingerprint in enumerate(lanes)}
    waiting = [job for job in batch if as_written(job.fingerprint) in turns]
    waiting.sort(key=lambda job: (turns[as_written(job.fingerprint)], -job.priority, job.id))
    return calls + [
        Entry(
            len(calls) + place,
            job.id,
            JobClass.BATCH,
            job.model,
            (now - job.created_at).total_seconds(),
            job.priority,
        )
        for place, job in enumerate(waiting, start=1)
    ]


def _lanes(view: QueueView) -> Table:
    ends = list(accumulate(lane.jobs for lane in view.lanes))
    rows = [
        (
            f"{end - lane.jobs + 1}-{end}" if lane.jobs > 1 else str(end),
            as_written(lane.fingerprint),
            lane.job_class,
            str(lane.jobs),
            duration(lane.oldest_seconds),
        )
        for lane, end in zip(view.lanes, ends, strict=True)
    ]
    return Table(("PLACES", "MODEL", "CLASS", "JOBS", "OLDEST"), rows)


def _entries(entries: list[Entry]) -> Table:
    rows = [
        (
            str(each.place),
            each.id,
            each.job_class,
            Cell(each.model),
            duration(each.waited),
            str(each.priority) if each.priority else "",
        )
        for each in entries
    ]
    return Table(("PLACE", "JOB", "CLASS", "MODEL", "WAITED", "PRIORITY"), rows)
