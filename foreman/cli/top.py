"""`foreman top`: one live screen of what runs, what waits, what happened."""

import shutil
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
import typer

from foreman.cli import jobs, status
from foreman.cli.connection import Daemon, Unreachable, decode
from foreman.cli.meter import Meter
from foreman.cli.terminal import Cell, Table, duration, grid, render
from foreman.cli.views import Job, Page
from foreman.jobs import State
from foreman.queue_view import QueueView

if TYPE_CHECKING:
    from rich.console import RenderableType

PERIOD = 1.0  # seconds between looks
RECENT = 10  # ended jobs asked for, of each kind
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class Look(msgspec.Struct, frozen=True):
    """One look at the daemon."""

    health: status.Health
    queue: QueueView
    recent: list[Job]


def show(daemon: Daemon, *, as_json: bool) -> None:
    """Live on a terminal until Ctrl-C; once anywhere else. Raises Unreachable and Refused."""
    if as_json:
        paths = ("/healthz", "/queue", f"/jobs?limit={RECENT}")
        health, queue, page = (
            bytes(decode(daemon.get(path), msgspec.Raw)).strip() for path in paths
        )
        typer.echo(b'{"health":%b,"queue":%b,"recent":%b}' % (health, queue, page))
    elif sys.stdout.isatty():
        _live(daemon)
    else:
        render(*tables(daemon, look(daemon), None))


def look(daemon: Daemon) -> Look:
    """Ask for all of it. Raises Unreachable and Refused."""
    ended: list[Job] = []
    for state in (State.DONE, State.FAILED):
        asked = {"state": state.value, "limit": str(RECENT)}
        ended += decode(daemon.get("/jobs", asked), Page).jobs
    ended.sort(key=lambda job: job.finished_at or _LONG_AGO, reverse=True)
    health = decode(daemon.get("/healthz"), status.Health)
    return Look(health, decode(daemon.get("/queue"), QueueView), ended)


def tables(daemon: Daemon, seen: Look, speed: str | None, rows: int = RECENT) -> list[Table]:
    """What is on the screen, with at most so many jobs that have ended."""
    facts = status.summary(daemon, seen.health, seen.queue)
    if speed is not None:
        facts = Table((), [*facts.rows, (Cell("speed", "dim"), Cell(speed, "yellow"))])
    now = datetime.now(UTC)
    headings = ("ENDED", "JOB", "STATE", "CLASS", "MODEL", "LOAD", "RAN", "TOKENS/S", "NOTE")
    ended = Table(headings, [_row(job, now) for job in seen.recent[: max(1, rows)]])
    return [table for table in (facts, status.lanes(seen.queue), ended) if table.rows]


def _live(daemon: Daemon) -> None:
    """Redraw until interrupted; a daemon that restarts is waited for."""
    from rich.live import Live

    meter = Meter(daemon)
    seen, trouble = look(daemon), None
    with Live(screen=True, auto_refresh=False) as live:
        while True:
            running = seen.queue.running
            meter.follow(running.id if running else None)
            live.update(_screen(daemon, seen, meter, trouble), refresh=True)
            time.sleep(PERIOD)
            try:
                seen, trouble = look(daemon), None
            except Unreachable as error:
                trouble = str(error)


def _screen(daemon: Daemon, seen: Look, meter: Meter, trouble: str | None) -> "RenderableType":
    from rich.console import Group
    from rich.text import Text

    width, height = shutil.get_terminal_size()
    room = height - len(seen.queue.lanes) - 13
    parts: list[RenderableType] = []
    for table in tables(daemon, seen, meter.shown(), min(room, RECENT)):
        parts += [grid(table), Text()]
    clock = f"{datetime.now(UTC).astimezone():%H:%M:%S}"
    note = Text(trouble, style="bold red") if trouble else Text("Ctrl-C ends", style="dim")
    return Group(Text(clock.rjust(width), style="dim"), *parts, note)


def _row(job: Job, now: datetime) -> tuple[Cell | str, ...]:
    ago = "" if job.finished_at is None else duration((now - job.finished_at).total_seconds())
    return (
        ago,
        job.id,
        Cell(job.state, jobs.STYLES.get(job.state, "")),
        job.job_class,
        job.model,
        duration(job.load_s) if job.load_s else "",
        jobs.ran(job, now),
        _rate(job),
        Cell(str(job.error or ""), "red"),
    )


def _rate(job: Job) -> str:
    if not (job.tokens_out and job.started_at and job.finished_at):
        return ""
    spent = (job.finished_at - job.started_at) / timedelta(seconds=1)
    return f"{job.tokens_out / spent:.1f}" if spent > 0 else ""
