"""`foreman submit`: one durable job. Sent again after a lost connection, it is still one."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import typer

from foreman.cli.connection import Daemon, Refused, Silent, Unreachable, decode
from foreman.cli.options import label
from foreman.cli.outage import Outage
from foreman.cli.views import Job
from foreman.units import parse_duration

CHAT, GENERATE, EMBED = "/api/chat", "/api/generate", "/api/embed"


def terms(
    labels: Sequence[str],
    priority: int | None,
    webhook: str | None,
    webhook_events: str | None,
    artifacts: str | None,
    expires_in: str | None,
) -> dict[str, Any]:
    """What stands beside the request in POST /jobs, as far as it was given.

    Raises BadParameter.
    """
    if webhook_events and not webhook:
        raise typer.BadParameter("--webhook-events needs --webhook URL")
    hook: dict[str, Any] = {"url": webhook}
    if webhook_events:
        hook["events"] = [_event_type(each) for each in webhook_events.split(",")]
    given = {
        "labels": dict(map(label, labels)),
        "priority": priority,
        "webhook": hook if webhook else None,
        "artifacts": artifacts,
        "expires_in": _given_time(expires_in),
    }
    return {name: value for name, value in given.items() if value}


def _given_time(text: str | None) -> float | None:
    if text is None:
        return None
    if not (left := seconds(text)):
        raise typer.BadParameter("--expires-in: a job needs some time to start in")
    return left


def ask(model: str | None, prompt: str | None, endpoint: str) -> dict[str, Any]:
    """The request for a prompt; `-`, or none, is read from standard input. Raises BadParameter."""
    if model is None:
        raise typer.BadParameter(
            "name a model, or give --request FILE, --file FILE or --prompts FILE"
        )
    if prompt in (None, "-"):
        if prompt is None and sys.stdin.isatty():
            raise typer.BadParameter("write a prompt after the model, or - to read one")
        prompt = sys.stdin.read()
    return ask_of(model, prompt or "", endpoint)


def ask_of(model: str, prompt: str, endpoint: str) -> dict[str, Any]:
    """The request for a prompt, as `endpoint` wants it. Raises BadParameter."""
    match endpoint:
        case "/api/chat" | "/v1/chat/completions":
            return {"model": model, "messages": [{"role": "user", "content": prompt}]}
        case "/api/generate" | "/v1/completions" | "/api/embeddings":
            return {"model": model, "prompt": prompt}
        case "/api/embed" | "/v1/embeddings" | "/v1/responses":
            return {"model": model, "input": prompt}
        case _:
            raise typer.BadParameter(f"{endpoint} takes no plain prompt: use --request FILE")


def request(source: Path, model: str | None) -> dict[str, Any]:
    """A request from a file of JSON, `-` for standard input; `model` overrides its own.

    Raises BadParameter.
    """
    try:
        text = sys.stdin.buffer.read() if str(source) == "-" else source.read_bytes()
        found = msgspec.json.decode(text, type=dict[str, Any])
    except (OSError, UnicodeDecodeError, msgspec.MsgspecError) as error:
        raise typer.BadParameter(f"--request {source}: {error}") from None
    return found | ({"model": model} if model else {})


def submit(daemon: Daemon, document: dict[str, Any], key: str) -> bytes:
    """The answer of POST /jobs, sent as often as it takes under one key.

    Raises Unreachable when nobody was there to begin with, and Refused.
    """
    headers = {"Idempotency-Key": key}
    body = msgspec.json.encode(document)
    outage = Outage()
    while True:
        try:
            return daemon.post("/jobs", body, headers)
        except Silent as error:
            raise Silent(f"{error}; {safely(key)}") from None
        except (Unreachable, Refused) as error:
            outage.struck(error)


def id_of(answer: bytes) -> str:
    """The job's. Raises Refused."""
    return decode(answer, Job).id


def safely(key: str) -> str:
    """What to say when nobody knows any more whether the daemon has accepted it."""
    return f"it may have been accepted: the same again with --key {key} is safe"


def new_key() -> str:
    """An idempotency key that nobody else has."""
    return f"cli-{uuid4()}"


def _event_type(text: str) -> str:
    name = text.strip()
    return name if name == "*" or name.startswith("job.") else f"job.{name}"


def seconds(text: str) -> float:
    """Of a duration on the command line. Raises BadParameter."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text}: {error}") from None
