"""Declares the commands about the queue as a whole."""

import typer

from foreman.cli.options import JobArgument, Json

app = typer.Typer()
PANEL = "The queue"


@app.command(rich_help_panel=PANEL)
def status(json: Json = False) -> None:
    """The target, the job that runs, and the queue in the order it will run."""
    from foreman.cli import connection, status, terminal

    with terminal.exit_status():
        status.show(connection.read(), as_json=json)


@app.command(rich_help_panel=PANEL)
def queue(json: Json = False) -> None:
    """Who is ahead of whom: the lanes, and every job with its place."""
    from foreman.cli import connection, queue, terminal

    with terminal.exit_status():
        queue.show(connection.read(), as_json=json)


@app.command(rich_help_panel=PANEL)
def why(job: JobArgument, json: Json = False) -> None:
    """What a job waits for, which rule puts others first, and what would change it."""
    from foreman.cli import connection, terminal, why

    with terminal.exit_status():
        why.show(connection.read(), job, as_json=json)


@app.command(rich_help_panel=PANEL)
def top(json: Json = False) -> None:
    """One live screen of it all; printed once where there is no terminal."""
    from foreman.cli import connection, terminal, top

    with terminal.exit_status():
        top.show(connection.read(), as_json=json)
