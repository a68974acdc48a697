"""`foreman watch`: events as they happen, of one job or of all, across restarts of the daemon."""

import sys
from collections.abc import Mapping

import typer

from foreman.cli import following, jobs
from foreman.cli.connection import Daemon
from foreman.cli.exits import Ended, Exit
from foreman.cli.terminal import duration, prose, say
from foreman.cli.views import Event
from foreman.jobs import State


def watch(
    daemon: Daemon, job: str | None, filters: Mapping[str, str], after: int | None, *, as_json: bool
) -> None:
    """Print each event. Ends with the job's last. Raises Ended (JOB_FAILED), Unreachable, Refused.

    Without a job it starts from now, at a known number: nothing is missed in a gap right after.
    """
    if after is None:
        after = 0 if job else following.head(daemon)
    for line, event in following.events(daemon, job, filters, after, _warn):
        if as_json:
            typer.echo(line)
            sys.stdout.flush()
        else:
            _print(event)
        if job and event.state is State.FAILED:
            raise Ended(Exit.JOB_FAILED, f"job {job} failed: {event.error or 'no reason is known'}")


def _print(event: Event) -> None:
    state = typer.style(event.state, fg=jobs.STYLES.get(event.state, "cyan"))
    who = f"{event.at.astimezone():%H:%M:%S}  {event.job}  {prose(event.model):<24}"
    more = prose(said(event))
    gap = " " * (9 - len(event.state)) if more else ""
    typer.echo(f"{who}  {state}{gap}{more}")


def said(event: Event) -> str:
    """What this step adds, in words."""
    parts: list[str] = []
    if event.state is State.QUEUED and event.reason:
        parts.append(f"again: {event.reason}" + (f" ({event.message})" if event.message else ""))
    elif event.state is State.LOADING and event.resident is not None:
        parts.append("the model is loaded" if event.resident else "the model has to be loaded")
    elif event.load_s:
        parts.append(f"loaded in {duration(event.load_s)}")
    if event.tokens_out is not None:
        parts.append(f"{event.tokens_out} tokens")
    if event.error:
        parts.append(str(event.error))
    if event.incomplete:
        parts.append("incomplete")
    if event.attempt > 1:
        parts.append(f"attempt {event.attempt}")
    return ", ".join(parts)


def _warn(text: str) -> None:
    say(f"foreman: {text}")
