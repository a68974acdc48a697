"""`foreman webhooks`: what was delivered, what was not, and once more."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import typer

from foreman.cli.connection import Daemon, Refused, decode
from foreman.cli.terminal import Cell, Table, duration, render, say

_STYLES = {
    "delivered": "green",
    "pending": "yellow",
    "dead": "red",
    "ok": "green",
    "open": "yellow",
    "disabled": "red",
}
PATIENCE = 40.0  # seconds for a test: the daemon gives a receiver 20 by default


class Try(msgspec.Struct, frozen=True):
    """One attempt at a delivery."""

    n: int
    at: datetime | None = None
    seconds: float | None = None
    status: int | None = None
    error: str | None = None


class Delivery(msgspec.Struct, frozen=True):
    """One event for one endpoint."""

    id: str
    endpoint: str
    job: str
    type: str
    state: str
    attempts: list[Try] = []
    due_at: datetime | None = None


class Ledger(msgspec.Struct, frozen=True):
    """The answer of GET /webhooks/deliveries; `next` continues with older ones."""

    deliveries: list[Delivery]
    next: str | None = None


class Endpoint(msgspec.Struct, frozen=True):
    """A receiver, and how it does."""

    url: str
    state: str
    reason: str | None = None
    pending: int = 0
    dead: int = 0
    last_success_at: datetime | None = None
    retry_in: float | None = None  # seconds


class Endpoints(msgspec.Struct, frozen=True):
    """The answer of GET /webhooks/endpoints."""

    endpoints: list[Endpoint]


class Tested(msgspec.Struct, frozen=True):
    """The answer of POST /webhooks/test."""

    status: int | None = None
    seconds: float | None = None
    error: str | None = None
    signed: bool = False


class Replayed(msgspec.Struct, frozen=True):
    """The answer of POST /webhooks/deliveries/replay."""

    replayed: int


def deliveries(daemon: Daemon, asked: Mapping[str, str], *, as_json: bool) -> None:
    """Print the ledger, newest first. Raises Unreachable and Refused."""
    body = daemon.get("/webhooks/deliveries", asked)
    ledger = decode(body, Ledger)
    if as_json:
        typer.echo(body)
        return
    if not ledger.deliveries:
        say("no deliveries")
        return
    now = datetime.now(UTC)
    headings = ("ID", "STATE", "EVENT", "JOB", "TRIES", "NEXT", "LAST ANSWER", "ENDPOINT")
    render(Table(headings, [_row(each, now) for each in ledger.deliveries]))
    if ledger.next:
        say(f"older: add --before {ledger.next}")


def endpoints(daemon: Daemon, *, as_json: bool) -> None:
    """Print the receivers. Raises Unreachable and Refused."""
    body = daemon.get("/webhooks/endpoints")
    found = decode(body, Endpoints).endpoints
    if as_json:
        typer.echo(body)
    elif found:
        now = datetime.now(UTC)
        headings = ("STATE", "PENDING", "DEAD", "LAST SUCCESS", "NOTE", "ENDPOINT")
        render(Table(headings, [_endpoint_row(each, now) for each in found]))
    else:
        say("no endpoints")


def replay(daemon: Daemon, chosen: Sequence[Mapping[str, str]], *, as_json: bool) -> None:
    """Send again what each of `chosen` stands for. Raises Unreachable and Refused."""
    bodies = [_post(daemon, "/webhooks/deliveries/replay", each) for each in chosen]
    count = sum(decode(body, Replayed).replayed for body in bodies)
    typer.echo(msgspec.json.encode(Replayed(count)) if as_json else f"{count} will be sent again")


def enable(daemon: Daemon, url: str, *, as_json: bool) -> None:
    """Send to a disabled receiver again. Raises Unreachable and Refused."""
    body = _post(daemon, "/webhooks/endpoints/enable", {"url": url})
    typer.echo(body or b"{}") if as_json else say(f"{url} is enabled")


def send_test(daemon: Daemon, url: str, *, as_json: bool) -> None:
    """Have one message sent, and say how it went. Raises Refused unless it was accepted."""
    body = _post(daemon, "/webhooks/test", {"url": url})
    tested = decode(body, Tested)
    if as_json:
        typer.echo(body)
    else:
        signed = "signed" if tested.signed else "unsigned: FOREMAN_WEBHOOK_SECRET is not set"
        took = "" if tested.seconds is None else f" after {duration(tested.seconds)}"
        typer.echo(f"{tested.error or f'answered {tested.status}'}{took}, {signed}")
    if not 200 <= (tested.status or 0) < 300:
        raise Refused(f"{url} did not accept the message")


def _post(daemon: Daemon, path: str, document: Mapping[str, Any]) -> bytes:
    return daemon.post(path, msgspec.json.encode(document), patience=PATIENCE)


def _row(each: Delivery, now: datetime) -> tuple[Cell | str, ...]:
    last = each.attempts[-1] if each.attempts else None
    due = each.due_at if each.state == "pending" else None
    return (
        each.id,
        Cell(each.state, _STYLES.get(each.state, "")),
        each.type,
        each.job,
        str(len(each.attempts)),
        f"in {duration(max(0.0, (due - now).total_seconds()))}" if due else "",
        (last.error or str(last.status)) if last else "",
        each.endpoint,
    )


def _endpoint_row(each: Endpoint, now: datetime) -> tuple[Cell | str, ...]:
    success = each.last_success_at
    retry = "" if each.retry_in is None else f"tried again in {duration(each.retry_in)}"
    return (
        Cell(each.state, _STYLES.get(each.state, "")),
        str(each.pending),
        str(each.dead),
        f"{duration((now - success).total_seconds())} ago" if success else "",
        ", ".join(filter(None, (each.reason, retry))),
        each.url,
    )
