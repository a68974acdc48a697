"""Declares `foreman webhooks ...`."""

from enum import StrEnum
from typing import Annotated

import typer

from foreman.cli import completion
from foreman.cli.options import Json, given

app = typer.Typer(help="What webhooks were sent, what was not delivered, and once more.")


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"


Url = Annotated[str, typer.Argument(metavar="URL", help="The receiver.")]
OfJob = Annotated[str | None, typer.Option(help="Only this job's.", autocompletion=completion.jobs)]
OfEndpoint = Annotated[str | None, typer.Option(metavar="URL", help="Only to this receiver.")]
Limit = Annotated[int, typer.Option(min=1, max=500, help="How many.")]
Before = Annotated[str | None, typer.Option(metavar="ID", help="Only older than this one.")]
Moment = Annotated[str | None, typer.Option(metavar="TIME", help="Like 2026-05-01T06:00:00Z.")]


@app.command()
def deliveries(
    state: Annotated[DeliveryState | None, typer.Option(help="Only in this state.")] = None,
    job: OfJob = None,
    endpoint: OfEndpoint = None,
    limit: Limit = 20,
    before: Before = None,
    json: Json = False,
) -> None:
    """What was sent or is to be, newest first."""
    _show_deliveries(state, job, endpoint, limit, before, json)


@app.command()
def dead(
    job: OfJob = None,
    endpoint: OfEndpoint = None,
    limit: Limit = 20,
    before: Before = None,
    json: Json = False,
) -> None:
    """What was given up, newest first."""
    _show_deliveries(DeliveryState.DEAD, job, endpoint, limit, before, json)


@app.command()
def replay(
    delivery: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Deliveries to send again.")
    ] = None,
    job: OfJob = None,
    after: Moment = None,
    before: Moment = None,
    state: Annotated[
        DeliveryState | None, typer.Option(help="In that time, only those in this state.")
    ] = None,
    json: Json = False,
) -> None:
    """Send again: single deliveries, all of a job, or all of a time."""
    from foreman.cli import connection, terminal, webhooks

    span = given({"after": after, "before": before, "state": state})
    if sum(map(bool, (delivery, job, span))) != 1:
        raise typer.BadParameter("name deliveries, or --job, or --after and --before")
    if span and not (after and before):
        raise typer.BadParameter("a time needs both --after and --before")
    chosen = [{"id": each} for each in delivery or []] or [{"job": job} if job else span]
    with terminal.exit_status():
        webhooks.replay(connection.read(), chosen, as_json=json)


@app.command("test")
def send_test(url: Url, json: Json = False) -> None:
    """Have one signed message sent to a receiver now, and see what it answers."""
    from foreman.cli import connection, terminal, webhooks

    with terminal.exit_status():
        webhooks.send_test(connection.read(), url, as_json=json)


@app.command()
def endpoints(json: Json = False) -> None:
    """The receivers, and how they do."""
    from foreman.cli import connection, terminal, webhooks

    with terminal.exit_status():
        webhooks.endpoints(connection.read(), as_json=json)


@app.command()
def enable(url: Url, json: Json = False) -> None:
    """Send to a receiver again that was disabled, because it said 410 or for its errors."""
    from foreman.cli import connection, terminal, webhooks

    with terminal.exit_status():
        webhooks.enable(connection.read(), url, as_json=json)


def _show_deliveries(
    state: DeliveryState | None,
    job: str | None,
    endpoint: str | None,
    limit: int,
    before: str | None,
    json: bool,
) -> None:
    from foreman.cli import connection, terminal, webhooks

    wanted = {"state": state, "job": job, "endpoint": endpoint, "limit": limit, "before": before}
    with terminal.exit_status():
        webhooks.deliveries(connection.read(), given(wanted), as_json=json)
