"""`foreman jobs`: the recent ones, newest first."""

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec
import typer

from foreman.cli.connection import Daemon, decode
from foreman.cli.terminal import Cell, Table, duration, render
from foreman.jobs import State

_STYLES = {
    State.DONE: "green",
    State.FAILED: "red",
    State.LOADING: "yellow",
    State.WORKING: "yellow",
}


class Failure(msgspec.Struct, frozen=True):
    """Why a job failed."""

    code: str
    message: str | None = None


class Job(msgspec.Struct, frozen=True, rename={"job_class": "class"}):
    """One entry of GET /jobs, as far as it is shown."""

    id: str
    state: State
    job_class: str
    model: str
    attempt: int
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    error: Failure | None = None


class Page(msgspec.Struct, frozen=True):
    """The answer of GET /jobs; `next` continues with older ones."""

    jobs: list[Job]
    next: str | None = None


def show(daemon: Daemon, asked: Mapping[str, str], *, as_json: bool) -> None:
    """Ask and print. Raises Unreachable and Refused."""
    body = daemon.get("/jobs", asked)
    page = decode(body, Page)
    if as_json:
        typer.echo(body)
        return
    if not page.jobs:
        typer.echo("no jobs", err=True)
        return
    now = datetime.now(UTC)
    headings = ("ID", "STATE", "CLASS", "MODEL", "AGE", "RAN", "TOKENS", "NOTE")
    render(Table(headings, [_row(job, now) for job in page.jobs]))
    if page.next:
        typer.echo(f"older: foreman jobs --before {page.next}", err=True)


def _row(job: Job, now: datetime) -> tuple[Cell | str, ...]:
    return (
        job.id,
        Cell(job.state, _STYLES.get(job.state, "")),
        job.job_class,
        job.model,
        duration((now - job.created_at).total_seconds()),
        _ran(job, now),
        _tokens(job),
        Cell(_note(job), "red" if job.error else "dim"),
    )


def _ran(job: Job, now: datetime) -> str:
    if job.started_at is None:
        return ""
    return duration(((job.finished_at or now) - job.started_at).total_seconds())


def _tokens(job: Job) -> str:
    if job.tokens_in is None and job.tokens_out is None:
        return ""
    return "/".join("?" if n is None else str(n) for n in (job.tokens_in, job.tokens_out))


def _note(job: Job) -> str:
    if job.error:
        return f"{job.error.code}: {job.error.message}" if job.error.message else job.error.code
    return f"attempt {job.attempt}" if job.attempt > 1 else ""
