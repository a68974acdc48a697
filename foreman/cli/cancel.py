"""`foreman cancel`: a job that is not wanted any more."""

from collections.abc import Sequence

import typer

from foreman.cli.connection import Daemon, Refused, decode
from foreman.cli.progress import counted
from foreman.cli.views import Job
from foreman.jobs import State

PATIENCE = 15.0  # seconds; the daemon waits five for the running one to end


def cancel(daemon: Daemon, ids: Sequence[str], *, as_json: bool) -> None:
    """Cancel each, whatever became of the others. Raises Unreachable, and Refused at the end."""
    refused: list[str] = []
    for job in counted(ids, "cancelling", len(ids)):
        try:
            with daemon.open("DELETE", f"/jobs/{job}", patience=PATIENCE) as answer:
                body = answer.read()
        except Refused as error:
            refused.append(f"{job}: {error}")
            continue
        typer.echo(body if as_json else f"{job} {_became(decode(body, Job))}")
    if refused:
        raise Refused("\nforeman: ".join(refused))


def _became(job: Job) -> str:
    if not job.ended:
        return "is being cancelled"
    return "is cancelled" if job.state is State.FAILED else "was done before it could be cancelled"
