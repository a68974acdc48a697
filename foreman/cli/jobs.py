"""`foreman jobs`: the recent ones, newest first."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice

import msgspec
import typer

from foreman.cli.connection import Daemon, decode
from foreman.cli.terminal import Cell, Table, duration, render, say
from foreman.cli.views import DamagedJob, Job, Page
from foreman.jobs import State

STYLES = {
    State.DONE: "green",
    State.FAILED: "red",
    State.LOADING: "yellow",
    State.WORKING: "yellow",
}
HEADINGS = ("ID", "STATE", "CLASS", "MODEL", "AGE", "RAN", "TOKENS", "NOTE")
LARGEST_PAGE = 500
SCREENFUL = 200  # rows of --all that are aligned with each other, and shown at once


def show(daemon: Daemon, asked: Mapping[str, str], *, as_json: bool) -> None:
    """Ask for one page and print it. Raises Unreachable and Refused."""
    body = daemon.get("/jobs", asked)
    page = decode(body, Page)
    if as_json:
        typer.echo(body)
        return
    _name(page.damaged)
    if not page.jobs:
        say("no jobs")
        return
    render(table(page.jobs))
    if page.next:
        say(f"older: foreman jobs --before {page.next}")


def show_all(daemon: Daemon, asked: Mapping[str, str], *, as_json: bool) -> None:
    """Print them page after page. JSON is then a job a line. Raises Unreachable and Refused."""
    if as_json:
        for raw in _every(daemon, asked):
            typer.echo(bytes(raw))
        return
    jobs = (decode(bytes(raw), Job) for raw in _every(daemon, asked))
    if not _render_screenfuls(jobs):
        say("no jobs")


def show_ids(daemon: Daemon, asked: Mapping[str, str], *, every: bool) -> None:
    """Print the ids alone, for another command to read. Raises Unreachable and Refused."""
    found = _every(daemon, asked) if every else decode(daemon.get("/jobs", asked), _RawPage).jobs
    for raw in found:
        typer.echo(decode(bytes(raw), _Id).id)


def table(jobs: Iterable[Job]) -> Table:
    """A job a line."""
    now = datetime.now(UTC)
    return Table(HEADINGS, [_row(job, now) for job in jobs])


def ran(job: Job, now: datetime) -> str:
    """How long the target has answered it, as text."""
    if job.started_at is None:
        return ""
    return duration(((job.finished_at or now) - job.started_at).total_seconds())


def tokens(job: Job) -> str:
    """Into the model and out of it."""
    if job.tokens_in is None and job.tokens_out is None:
        return ""
    return "/".join("?" if n is None else str(n) for n in (job.tokens_in, job.tokens_out))


class _Id(msgspec.Struct, frozen=True):
    id: str


class _RawPage(msgspec.Struct, frozen=True):
    """A page whose jobs stay as they came."""

    jobs: list[msgspec.Raw]
    next: str | None = None
    damaged: list[DamagedJob] = []


def _every(daemon: Daemon, asked: Mapping[str, str]) -> Iterator[msgspec.Raw]:
    """All jobs of all pages."""
    wanted = dict(asked) | {"limit": str(LARGEST_PAGE)}
    while True:
        page = decode(daemon.get("/jobs", wanted), _RawPage)
        _name(page.damaged)
        yield from page.jobs
        if page.next is None:
            return
        wanted["before"] = page.next


def _name(damaged: Iterable[DamagedJob]) -> None:
    for job in damaged:
        say(f"foreman: not shown: {job.detail}; `foreman recover` may bring it back")


def _render_screenfuls(jobs: Iterator[Job]) -> bool:
    """Whether there were any."""
    found = False
    while some := list(islice(jobs, SCREENFUL)):
        whole = table(some)
        render(Table((), whole.rows) if found else whole)
        found = True
    return found


def _row(job: Job, now: datetime) -> tuple[Cell | str, ...]:
    return (
        job.id,
        Cell(job.state, STYLES.get(job.state, "")),
        job.job_class,
        job.model,
        duration((now - job.created_at).total_seconds()),
        ran(job, now),
        tokens(job),
        Cell(_note(job), "red" if job.error else "dim"),
    )


def _note(job: Job) -> str:
    if job.error:
        return str(job.error)
    return f"attempt {job.attempt}" if job.attempt > 1 else ""
