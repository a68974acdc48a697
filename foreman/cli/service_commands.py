"""Declares the command that makes foreman a service of this machine."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer()
PANEL = "The daemon"


@app.command("install-service", rich_help_panel=PANEL)
def install_service(
    user: Annotated[
        bool, typer.Option("--user", help="For you alone, not for the whole system.")
    ] = False,
    socket: Annotated[
        bool,
        typer.Option(
            "--socket", help="With foreman.socket: clients wait while foreman restarts (systemd)."
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be written and run, no more.")
    ] = False,
    kind: Annotated[
        Literal["systemd", "launchd"] | None,
        typer.Option("--for", help="For this service manager; the machine's own unless said."),
    ] = None,
    root: Annotated[
        str,
        typer.Option(metavar="FOLDER", help="Write below it and run nothing: for a disk image."),
    ] = "/",
) -> None:
    """Run this foreman as a service: systemd's, or launchd's on macOS. Says what it does, and asks.

    Exit status 0: done, or shown. 1: not wanted, or it could not be written or run.
    """
    from foreman.cli import install_service as installing
    from foreman.cli import terminal

    kind = kind or ("launchd" if sys.platform == "darwin" else "systemd")
    if socket and kind == "launchd":
        raise typer.BadParameter("launchd has no foreman.socket: leave --socket out")
    wish = installing.Wish(kind, user, socket, Path(root).absolute())
    with terminal.exit_status():
        installing.install(wish, yes=yes, dry_run=dry_run)
