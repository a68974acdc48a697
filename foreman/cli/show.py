"""`foreman show`: one job, all that is known of it."""

from datetime import UTC, datetime

import typer

from foreman.cli import jobs
from foreman.cli.answers import print_text, text_of_result
from foreman.cli.connection import Daemon, decode
from foreman.cli.terminal import Cell, Table, duration, render
from foreman.cli.views import Job, as_written

Fact = tuple[str, Cell | str]


def show(daemon: Daemon, job_id: str, *, as_json: bool) -> None:
    """Ask and print. Raises Unreachable and Refused."""
    body = daemon.get(f"/jobs/{job_id}")
    job = decode(body, Job)
    if as_json:
        typer.echo(body)
        return
    facts = [*_what(job), *_when(job, datetime.now(UTC)), *_outcome(job)]
    render(Table((), [(Cell(name, "dim"), value) for name, value in facts if value]))
    if bytes(job.result) != b"null":
        typer.echo()
        print_text(text_of_result(job.result))


def _what(job: Job) -> list[Fact]:
    labels = " ".join(f"{name}={value}" for name, value in job.labels.items())
    hook = job.webhook
    return [
        ("job", Cell(job.id, "bold")),
        ("state", Cell(_state(job), jobs.STYLES.get(job.state, "cyan"))),
        ("request", f"{job.job_class} {job.endpoint}".strip()),
        ("model", as_written(job.fingerprint) if job.fingerprint else job.model),
        ("priority", str(job.priority) if job.priority else ""),
        ("labels", labels),
        ("webhook", f"{hook.url} ({', '.join(hook.events)})" if hook else ""),
    ]


def _state(job: Job) -> str:
    if job.position is not None:
        return f"{job.state}, {job.position} ahead of it"
    if job.incomplete:
        return f"{job.state}, incomplete: the target never said that it had finished"
    return str(job.state)


def _when(job: Job, now: datetime) -> list[Fact]:
    def time(at: datetime | None) -> str:
        if at is None:
            return ""
        seconds = (now - at).total_seconds()
        distance = f"{duration(seconds)} ago" if seconds >= 0 else f"in {duration(-seconds)}"
        return f"{at.astimezone():%Y-%m-%d %H:%M:%S} ({distance})"

    waiting = not job.ended and job.started_at is None
    return [
        ("submitted", time(job.created_at)),
        ("not before", time(job.not_before) if waiting else ""),
        ("expires", time(job.expires_at) if waiting else ""),
        ("started", time(job.started_at)),
        ("finished", time(job.finished_at)),
        ("ran", jobs.ran(job, now)),
        ("loading took", duration(job.load_s) if job.load_s else ""),
        ("attempt", f"{job.attempt} (queued again: {job.reason})" if job.reason else ""),
    ]


def _outcome(job: Job) -> list[Fact]:
    counted = jobs.tokens(job)
    files = ", ".join(f"{each.name} ({each.size:,} bytes)" for each in job.artifacts)
    return [
        ("tokens in/out", counted),
        ("error", Cell(str(job.error), "bold red") if job.error else ""),
        ("artifacts", files),
    ]
