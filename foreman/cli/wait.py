"""`foreman wait`: until jobs have ended, and how they did."""

import time
from collections.abc import Iterator, Sequence
from math import inf

import typer

from foreman.cli import jobs
from foreman.cli.answers import print_text, text_of_result
from foreman.cli.connection import Daemon, Refused, decode
from foreman.cli.exits import Ended, Exit
from foreman.cli.following import ended
from foreman.cli.outage import Outage
from foreman.cli.progress import counted
from foreman.cli.terminal import render
from foreman.cli.views import Job
from foreman.jobs import State


def wait(daemon: Daemon, ids: Sequence[str], seconds: float | None, *, as_json: bool) -> None:
    """Print each job when all have ended; JSON a line as each does, in the order asked for.

    Raises Ended when one failed (JOB_FAILED) or the time ran out (TOO_LATE); Unreachable, Refused.
    """
    finished: list[Job] = []
    for body in counted(_each(daemon, ids, seconds), "waiting", len(ids)):
        finished.append(decode(body, Job))
        if as_json:
            typer.echo(body)
    if finished and not as_json:
        render(jobs.table(finished))
    failed = sum(job.state is State.FAILED for job in finished)
    if failed:
        raise Ended(Exit.JOB_FAILED, f"{failed} of {len(finished)} failed")


def result(daemon: Daemon, job_id: str, *, as_json: bool) -> None:
    """Wait for one job and print what the model said. Raises as `wait`."""
    body = ended(daemon, job_id)
    job = decode(body, Job)
    if as_json:
        typer.echo(body)
    elif bytes(job.result) != b"null":
        print_text(text_of_result(job.result))
    elif job.state is State.DONE:
        raise Refused(f"the result is kept as a file: foreman artifacts {job_id} --to .")
    if job.state is State.FAILED:
        raise Ended(Exit.JOB_FAILED, f"job {job_id} failed: {job.error or 'no reason is known'}")


def _each(daemon: Daemon, ids: Sequence[str], seconds: float | None) -> Iterator[bytes]:
    """The views in order. They run anyway, so it costs no time to await them one by one."""
    deadline = inf if seconds is None else time.monotonic() + seconds
    outage = Outage()
    for each in ids:
        yield ended(daemon, each, deadline, outage)
