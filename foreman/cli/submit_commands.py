"""Declares the commands that give the daemon work."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from foreman.cli import completion
from foreman.cli.options import Json

app = typer.Typer()
PANEL = "Work"

Model = Annotated[
    str | None,
    typer.Argument(metavar="MODEL", autocompletion=completion.models, show_default=False),
]
Prompt = Annotated[
    str | None,
    typer.Argument(metavar="PROMPT", help="Without it, or with -, it is read from standard input."),
]


@app.command(rich_help_panel=PANEL)
def submit(
    model: Model = None,
    prompt: Prompt = None,
    generate: Annotated[
        bool, typer.Option("--generate", help="A completion: /api/generate instead of /api/chat.")
    ] = False,
    embed: Annotated[bool, typer.Option("--embed", help="An embedding: /api/embed.")] = False,
    endpoint: Annotated[
        str | None, typer.Option(metavar="PATH", help="Any other route, like /v1/messages.")
    ] = None,
    request: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The whole request as JSON; - reads it from stdin."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Many jobs, a JSON object a line as in POST /jobs/bulk."),
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Many jobs for MODEL, a prompt a line.")
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="To find it by; repeatable.")
    ] = None,
    priority: Annotated[
        int | None, typer.Option(min=-100, max=100, help="Larger goes first inside its lane.")
    ] = None,
    webhook: Annotated[
        str | None, typer.Option(metavar="URL", help="Who is told when it has ended.")
    ] = None,
    webhook_events: Annotated[
        str | None, typer.Option(metavar="LIST", help="Which events, like done,failed or *.")
    ] = None,
    artifacts: Annotated[
        Literal["inline", "fetch"] | None,
        typer.Option(help="Small results inside the job (the default), or all as files."),
    ] = None,
    expires_in: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Fails unless started by then: 10m, 2h.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            help="Idempotency key: the same again is the same job. One is made if absent."
        ),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait, and print the answer.")] = False,
    json: Json = False,
) -> None:
    """Give the daemon a job that outlives this command; prints its id."""
    from foreman.cli import bulk, connection, submit, terminal
    from foreman.cli.wait import result

    if sum(map(bool, (generate, embed, endpoint))) > 1:
        raise typer.BadParameter("--generate, --embed and --endpoint exclude each other")
    if sum(map(bool, (request, file, prompts, prompt))) > 1:
        raise typer.BadParameter("PROMPT, --request, --file and --prompts exclude each other")
    if prompts and not model:
        raise typer.BadParameter("--prompts needs a MODEL to put them to")
    route = endpoint or (submit.GENERATE if generate else submit.EMBED if embed else submit.CHAT)
    beside = submit.terms(label or [], priority, webhook, webhook_events, artifacts, expires_in)
    key = key or submit.new_key()
    source = file or prompts
    with terminal.exit_status(f"interrupted; {submit.safely(key)}"):
        daemon = connection.read()
        if source:
            plan = bulk.Plan(beside, route, model, key, plain=prompts is not None)
            bulk.submit(daemon, source, plan, as_json=json)
            return
        asked = submit.request(request, model) if request else submit.ask(model, prompt, route)
        answer = submit.submit(daemon, {"endpoint": route, "request": asked, **beside}, key)
    job = submit.id_of(answer)
    with terminal.exit_status(f"job {job} goes on: foreman wait {job}"):
        if wait:
            terminal.say(job)
            result(daemon, job, as_json=json)
        else:
            typer.echo(answer if json else job)


@app.command(rich_help_panel=PANEL)
def chat(
    model: Annotated[str, typer.Argument(metavar="MODEL", autocompletion=completion.models)],
    prompt: Prompt = None,
    json: Json = False,
) -> None:
    """Talk to a model: one answer, or a conversation until Ctrl-D; says where you are in line."""
    import sys

    from foreman.cli import chat, connection, terminal

    with terminal.exit_status("the call was cancelled"):
        daemon = connection.read()
        if prompt in (None, "-") and (prompt or not sys.stdin.isatty()):
            prompt = sys.stdin.read()
        if prompt is None:
            chat.converse(daemon, model)
        else:
            chat.once(daemon, model, prompt, as_json=json)
