"""The commands that talk to a running daemon, and `config`.

Exit status: 0 well, 1 the daemon said no, 2 wrong usage, 3 daemon not reached, 4 wrong settings.
Each command imports what it needs when it runs: `foreman jobs` starts in a fraction of a second.
"""

from typing import Annotated

import typer

from foreman import __version__
from foreman.jobs import JobClass, State

app = typer.Typer(
    name="foreman",
    help="A durable, queued, observable front for one Ollama server.",
    epilog="Exit status: 0 well, 1 the daemon said no, 2 wrong usage, 3 the daemon was not "
    "reached (FOREMAN_URL, FOREMAN_TOKEN), 4 wrong settings.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # they show the values of variables: tokens, prompts
)

Json = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"foreman {__version__}")
        raise typer.Exit


@app.callback()
def foreman(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it and exit.")
    ] = False,
) -> None:
    """Options of every command."""


@app.command()
def config(
    key: Annotated[str | None, typer.Argument(help="Show this setting and what it means.")] = None,
    json: Json = False,
) -> None:
    """The settings in effect, and where each came from; secrets are hidden."""
    from foreman.cli import config, terminal

    with terminal.exit_status():
        config.show(key, as_json=json)


@app.command()
def status(json: Json = False) -> None:
    """The target, the job that runs, and the queue in the order it will run."""
    from foreman.cli import connection, status, terminal

    with terminal.exit_status():
        status.show(connection.read(), as_json=json)


@app.command()
def jobs(
    state: Annotated[State | None, typer.Option(help="Only jobs in this state.")] = None,
    job_class: Annotated[JobClass | None, typer.Option("--class", help="Only this class.")] = None,
    model: Annotated[str | None, typer.Option(help="Only jobs for this model.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many.")] = 20,
    before: Annotated[str | None, typer.Option(help="Only jobs older than this id.")] = None,
    json: Json = False,
) -> None:
    """Recent jobs, newest first."""
    from foreman.cli import connection, jobs, terminal

    asked = {"state": state, "class": job_class, "model": model, "limit": limit, "before": before}
    with terminal.exit_status():
        jobs.show(connection.read(), {k: str(v) for k, v in asked.items() if v}, as_json=json)
