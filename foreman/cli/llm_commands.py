"""Declares `foreman llm ...`: models of many providers, without the daemon."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from foreman.cli.options import Json

app = typer.Typer(help="Ask models of many providers; LLM_* variables say where they are.")

SpecArgument = Annotated[
    str,
    typer.Argument(
        metavar="SPEC", help="Whom to ask, in this order: provider/model, an alias, or several."
    ),
]
Prompt = Annotated[
    str | None,
    typer.Argument(metavar="PROMPT", help="Without it, or with -, it is read from stdin."),
]
SettingsFile = Annotated[
    Path | None,
    typer.Option("--settings", metavar="FILE", help="Instead of llm.toml here or in ~/.config."),
]
MaxTokens = Annotated[int | None, typer.Option(min=1, help="The longest answer, in tokens.")]
OfModel = Annotated[str | None, typer.Option(help="Only this model, in any case.")]
OfProvider = Annotated[str | None, typer.Option(help="Only this provider, in any case.")]
Since = Annotated[
    str | None, typer.Option(metavar="TIME", help="From this time on: 2026-05-01T06:00Z.")
]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Before this time.")]
Range = Annotated[
    Literal["last_1h", "last_24h", "last_7d", "last_30d"],
    typer.Option("--range", help="How far back."),
]


@app.command()
def ask(
    spec: SpecArgument,
    prompt: Prompt = None,
    instructions: Annotated[str | None, typer.Option(help="What the model is told to be.")] = None,
    image: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="A picture to show; repeatable.")
    ] = None,
    max_tokens: MaxTokens = None,
    temperature: Annotated[
        float | None, typer.Option(min=0.0, metavar="NUMBER", help="0 is soberest.")
    ] = None,
    timeout: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Give up after 30s, 2m, ...")
    ] = None,
    settings: SettingsFile = None,
    json: Json = False,
) -> None:
    """Ask, and print the answer as it comes; then who gave it, what it cost, and who did not."""
    from foreman.cli import llm_ask, llm_setup, terminal

    with terminal.exit_status("the call was cancelled"), llm_setup.failures():
        setup = llm_setup.read(settings)
        wanted = llm_ask.Wanted(instructions or "", image or [], max_tokens, temperature, timeout)
        llm_ask.ask(setup, spec, llm_setup.prompt(prompt), wanted, as_json=json)


@app.command()
def check(
    name: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Only these providers.")
    ] = None,
    settings: SettingsFile = None,
    json: Json = False,
) -> None:
    """Try every provider there is, and say what is wrong; exit status 1 if something is."""
    from foreman.cli import llm_check, llm_setup, terminal

    with terminal.exit_status(), llm_setup.failures():
        llm_check.check(llm_setup.read(settings), name or [], as_json=json)


@app.command()
def providers(settings: SettingsFile = None, json: Json = False) -> None:
    """Who there is: address, last call, tier and prices; nobody is called."""
    from foreman.cli import llm_providers, llm_setup, terminal

    with terminal.exit_status(), llm_setup.failures():
        llm_providers.show(llm_setup.read(settings), as_json=json)


@app.command()
def cost(
    spec: SpecArgument,
    prompt: Prompt = None,
    max_tokens: MaxTokens = None,
    settings: SettingsFile = None,
    json: Json = False,
) -> None:
    """What a request would cost with each target of SPEC; nobody is called."""
    from foreman.cli import llm_cost, llm_setup, terminal

    with terminal.exit_status(), llm_setup.failures():
        setup = llm_setup.read(settings)
        llm_cost.show(setup, spec, llm_setup.prompt(prompt), max_tokens, as_json=json)


@app.command()
def stats(
    within: Range = "last_7d",
    since: Since = None,
    until: Until = None,
    model: OfModel = None,
    provider: OfProvider = None,
    group_by: Annotated[
        Literal["model", "provider", "tier"], typer.Option(help="Figures for each of these.")
    ] = "model",
    settings: SettingsFile = None,
    json: Json = False,
) -> None:
    """Requests, tokens, cost and latency of a time, from the request log."""
    from foreman.cli import llm_log, llm_setup, terminal

    with terminal.exit_status(), llm_setup.failures():
        asked = llm_log.Asked(within, since, until, model, provider)
        llm_log.stats(llm_setup.read(settings), asked, group_by, as_json=json)


@app.command()
def log(
    within: Range = "last_7d",
    since: Since = None,
    until: Until = None,
    model: OfModel = None,
    provider: OfProvider = None,
    success: Annotated[
        bool | None,
        typer.Option(
            "--success/--failed", help="Only those that were answered, or those that were not."
        ),
    ] = None,
    streamed: Annotated[
        bool | None, typer.Option("--streamed/--whole", help="Only streamed ones, or the others.")
    ] = None,
    sort: Annotated[
        Literal["timestamp", "cost", "latency"], typer.Option(help="What comes first.")
    ] = "timestamp",
    order: Annotated[Literal["desc", "asc"], typer.Option(help="Largest first, or last.")] = "desc",
    page: Annotated[int, typer.Option(min=1, help="Which page.")] = 1,
    per_page: Annotated[int, typer.Option(min=1, max=100, help="How many.")] = 20,
    settings: SettingsFile = None,
    json: Json = False,
) -> None:
    """Requests from the request log, and who did not answer them."""
    from foreman.cli import llm_log, llm_setup, terminal

    with terminal.exit_status(), llm_setup.failures():
        asked = llm_log.Asked(within, since, until, model, provider)
        listing = llm_log.Listing(success, streamed, page, per_page, sort, order)
        llm_log.requests(llm_setup.read(settings), asked, listing, as_json=json)
