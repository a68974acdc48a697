"""The console script `foreman`: the client's commands, and the two that run the daemon."""

from typing import Annotated

import typer

from foreman.cli.app import app


@app.command(rich_help_panel="The daemon")
def serve() -> None:
    """Run the daemon in front of the Ollama server at FOREMAN_OLLAMA_URL."""
    from actors.daemon import run_daemon  # the server's imports are for the server alone

    raise typer.Exit(run_daemon())


@app.command(rich_help_panel="The daemon")
def demo(
    once: Annotated[bool, typer.Option("--once", help="End when all is shown.")] = False,
) -> None:
    """See it work on this machine, without Ollama: a small real model, five chats, three models."""
    from actors.demo import run_demo

    raise typer.Exit(run_demo(once=once))


def main() -> None:
    """The entry point."""
    app()


if __name__ == "__main__":
    main()
