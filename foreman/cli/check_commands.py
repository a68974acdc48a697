"""Declares the commands that look at the whole installation and at the target's speed."""

from enum import StrEnum
from typing import Annotated

import typer

from foreman.cli import completion
from foreman.cli.options import Json

app = typer.Typer()
PANEL = "The daemon"


@app.command(rich_help_panel=PANEL)
def doctor(
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this check; may be given several times."),
    ] = None,
    load: Annotated[
        bool, typer.Option("--load", help="Load the embedding model and another, to see both fit.")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Of the database, only look at the newest part.")
    ] = False,
    json: Json = False,
) -> None:
    """What may be wrong here, why that matters, and what to do; the daemon may run or not."""
    from foreman.cli import doctor, terminal

    with terminal.exit_status():
        status = doctor.diagnose(only or [], load=load, quick=quick, as_json=json)
    raise typer.Exit(status)


class Way(StrEnum):
    """How the target is reached."""

    AUTO = "auto"
    DAEMON = "daemon"
    DIRECT = "direct"


@app.command("bench-target", rich_help_panel=PANEL)
def bench_target(
    model: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]...",
            help="Models to measure; the three smallest unless named.",
            autocompletion=completion.models,
        ),
    ] = None,
    embed: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="The embedding model; else FOREMAN_EMBED_MODEL.",
            autocompletion=completion.models,
        ),
    ] = None,
    runs: Annotated[int, typer.Option(min=1, max=100, help="Calls for each model.")] = 3,
    tokens: Annotated[int, typer.Option(min=1, max=10_000, help="Longest answer.")] = 64,
    way: Annotated[
        Way, typer.Option(help="Through the daemon if it runs, or which way.")
    ] = Way.AUTO,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask before models are loaded.")
    ] = False,
    json: Json = False,
) -> None:
    """How fast the target loads, swaps, reads, writes and embeds, and what to set by that."""
    from foreman.cli import bench_target, terminal

    asked = bench_target.Ask(model or [], embed, runs, tokens, way, yes, json)
    with terminal.exit_status("interrupted; what was loaded stays loaded"):
        bench_target.measure(asked)
