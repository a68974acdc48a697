"""Declares `foreman backup`, `backups`, `restore` and `recover`, which work on the data folder."""

from pathlib import Path
from typing import Annotated

import typer

from foreman.cli.options import Json

app = typer.Typer()

PANEL = "The data"
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@app.command(rich_help_panel=PANEL)
def backup(
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE", help="Here, and not among the nightly.")
    ] = None,
    json: Json = False,
) -> None:
    """Copy the database to one file and check every row of it; a daemon may run meanwhile."""
    from foreman.cli import data, terminal

    with terminal.exit_status("interrupted: no backup was made"):
        data.back_up(to, as_json=json)


@app.command(rich_help_panel=PANEL)
def backups(json: Json = False) -> None:
    """The backups there are, newest first."""
    from foreman.cli import data, terminal

    with terminal.exit_status():
        data.show_backups(as_json=json)


@app.command(rich_help_panel=PANEL)
def restore(
    copy: Annotated[str, typer.Argument(metavar="FILE|latest", help="Which backup.")],
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Go back to a backup; the daemon must be stopped. What is there is kept in quarantine."""
    from foreman.cli import data, terminal

    with terminal.exit_status("interrupted: nothing was changed"):
        data.restore(copy, yes=yes, as_json=json)


@app.command(rich_help_panel=PANEL)
def recover(yes: Yes = False, json: Json = False) -> None:
    """Save what can be saved of a damaged database; the daemon must be stopped.

    The damaged one goes to quarantine. In its place comes the newest sound backup with every row
    that can still be read and whose checksum is right.
    """
    from foreman.cli import data, terminal

    with terminal.exit_status("interrupted: nothing was changed"):
        data.recover(yes=yes, as_json=json)
