"""The commands that talk to a running daemon, and `config`: here they are declared.

Each imports what it needs when it runs: `foreman jobs` starts in a fraction of a second.
The exit statuses are in `foreman.cli.exits`.
"""

from typing import Annotated

import typer

from foreman import __version__
from foreman.cli import (
    check_commands,
    data_commands,
    exits,
    job_commands,
    llm_commands,
    queue_commands,
    service_commands,
    submit_commands,
    webhook_commands,
)
from foreman.cli.options import Json

app = typer.Typer(
    name="foreman",
    help="A durable, queued, observable front for one Ollama server.",
    epilog=exits.sentence(),
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # they show the values of variables: tokens, prompts
)


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


@app.command(rich_help_panel="The daemon")
def config(
    key: Annotated[str | None, typer.Argument(help="Show this setting and what it means.")] = None,
    json: Json = False,
) -> None:
    """The settings in effect, and where each came from; secrets are hidden."""
    from foreman.cli import config, terminal

    with terminal.exit_status():
        config.show(key, as_json=json)


app.add_typer(check_commands.app)
app.add_typer(service_commands.app)
app.add_typer(data_commands.app)
app.add_typer(submit_commands.app)
app.add_typer(job_commands.app)
app.add_typer(queue_commands.app)
app.add_typer(webhook_commands.app, name="webhooks", rich_help_panel="Jobs")
app.add_typer(llm_commands.app, name="llm", rich_help_panel="Many models")
