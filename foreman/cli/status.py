"""`foreman status`: how the target is, what runs, what waits and in which order."""

import time

import msgspec
import typer

from foreman.cli.connection import Daemon, decode
from foreman.cli.terminal import Cell, Table, duration, render
from foreman.cli.views import as_written
from foreman.queue_view import QueueView


class Target(msgspec.Struct, frozen=True):
    """The target's part of /healthz."""

    up: bool
    reason: str = ""
    models: int = 0
    polled_at: float | None = None  # seconds since 1970


class Health(msgspec.Struct, frozen=True):
    """/healthz, as far as it is shown."""

    status: str
    target: Target
    version: str = ""


def show(daemon: Daemon, *, as_json: bool) -> None:
    """Ask and print. Raises Unreachable and Refused."""
    health, queue = daemon.get("/healthz"), daemon.get("/queue")
    if as_json:
        document = b'{"health":%b,"queue":%b}' % (health, queue)
        decode(document, dict[str, msgspec.Raw])
        typer.echo(document)
        return
    view = decode(queue, QueueView)
    tables = [summary(daemon, decode(health, Health), view), lanes(view), _calls(view)]
    render(*(table for table in tables if table.rows))


def summary(daemon: Daemon, health: Health, view: QueueView) -> Table:
    """The facts in a line each."""
    jobs = sum(lane.jobs for lane in view.lanes)
    facts: list[tuple[str, Cell | str]] = [
        ("foreman", f"{health.version} at {daemon.url}"),
        ("target", _target(health.target)),
        ("loaded", as_written(view.resident) if view.resident else "nothing, as far as is known"),
        ("running", running_text(view)),
        ("waiting", f"{jobs} jobs, {len(view.calls)} of them clients' calls"),
        ("loads", str(view.loads) + _spared(view)),
    ]
    return Table((), [(Cell(name, "dim"), fact) for name, fact in facts])


def _target(target: Target) -> Cell:
    age = (
        "" if target.polled_at is None else f", seen {duration(time.time() - target.polled_at)} ago"
    )
    known = f"{target.models} models{age}"
    if target.up:
        return Cell(f"up, {known}", "green")
    return Cell(f"away: {target.reason}; {known}", "bold red")


def running_text(view: QueueView) -> Cell:
    """The one job that has the slot, or why nobody does."""
    if view.running is None:
        why = ": the target is away, jobs wait for it" if view.target_away else ""
        return Cell("nothing" + why)
    job = view.running
    text = f"{job.id}  {as_written(job.fingerprint)}  {job.job_class}, {job.state}"
    return Cell(f"{text} for {duration(job.seconds)}", "yellow")


def lanes(view: QueueView) -> Table:
    """The lanes in the order of their turns."""
    rows = [
        (
            str(place),
            as_written(lane.fingerprint),
            lane.job_class,
            str(lane.jobs),
            duration(lane.oldest_seconds),
        )
        for place, lane in enumerate(view.lanes, start=1)
    ]
    return Table(("TURN", "MODEL", "CLASS", "JOBS", "OLDEST"), rows)


def _calls(view: QueueView) -> Table:
    rows = [
        (str(call.position), call.model, duration(call.seconds), call.id) for call in view.calls
    ]
    return Table(("PLACE", "MODEL", "WAITED", "CLIENT'S JOB"), rows)


def _spared(view: QueueView) -> str:
    """What another order would have cost; it counts clients' calls alone, so it may say nothing."""
    if view.fcfs_loads <= view.loads:
        return ""
    return f" (first come, first served: {view.fcfs_loads})"
