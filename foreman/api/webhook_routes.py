"""The webhooks: what was delivered and what was not, once more, and how the endpoints fare."""

from functools import partial
from typing import TypeVar, cast

import msgspec
from quart import Response, request
from quart_trio import QuartTrio

from foreman import intake, ledger
from foreman.api.parameters import given, limit, wrong
from foreman.api.ports import Ports
from foreman.api.problems import Problem
from foreman.api.quart_glue import json_response, owner
from foreman.api.webhook_view import (
    MESSAGE_STATES,
    DeliveryPage,
    EndpointList,
    Replay,
    Replayed,
    Tested,
    Url,
    delivery_view,
    endpoint_view,
)
from foreman.jobs import JobId
from foreman.ledger import Selection
from foreman.outbox import MessageState

B = TypeVar("B", bound=msgspec.Struct)
PAGED = ("state", "job", "endpoint", "before", "limit")
NOTHING_CHOSEN = "write one of id, job, or after and before"


def add(app: QuartTrio, ports: Ports) -> None:
    """Add the routes of this file to the app."""
    desk = ports.desk

    @app.get("/webhooks/deliveries")
    async def deliveries() -> Response:
        arguments = given(request.query_string, PAGED)
        wanted = limit(arguments.get("limit"))
        selection = Selection(
            job=cast("JobId | None", arguments.get("job")),
            endpoint=arguments.get("endpoint"),
            state=_state(arguments.get("state")),
        )
        before = arguments.get("before")
        asked = partial(
            ledger.deliveries, wanted=selection, owner=owner(), before=before, limit=wanted + 1
        )
        found = await desk.read(asked)
        page = found[:wanted]
        following = page[-1].id if len(found) > wanted else None
        return json_response(DeliveryPage([delivery_view(each) for each in page], following))

    @app.post("/webhooks/deliveries/replay")
    async def replay() -> Response:
        wanted = await _body(Replay)
        ids = await desk.read(partial(ledger.replayable, wanted=_selection(wanted), owner=owner()))
        if wanted.id is not None and not ids:
            raise Problem(404, "no_such_delivery", f"there is no delivery {wanted.id}", field="/id")
        replayed = await desk.replay(ids)
        if ids and not replayed:
            raise Problem(409, "endpoint_disabled", "the endpoint is disabled; enable it first")
        return json_response(Replayed(replayed), 202)

    @app.get("/webhooks/endpoints")
    async def endpoints() -> Response:
        found = await desk.read(partial(ledger.list_endpoints, owner=owner()))
        return json_response(EndpointList([endpoint_view(each) for each in found]))

    @app.post("/webhooks/endpoints/enable")
    async def enable() -> Response:
        wanted = await _body(Url)
        look = partial(ledger.list_endpoints, owner=owner(), url=wanted.url)
        if not await desk.read(look) or not await desk.enable_endpoint(wanted.url):
            text = "no webhook was ever for this URL"
            raise Problem(404, "no_such_endpoint", text, field="/url")
        [found] = await desk.read(look)
        return json_response(endpoint_view(found))

    @app.post("/webhooks/test")
    async def test() -> Response:
        wanted = await _body(Url)
        tested = await desk.test_webhook(wanted.url)
        attempt = tested.attempt
        seconds = round(attempt.seconds, 3)
        return json_response(Tested(attempt.status, seconds, attempt.error, tested.signed))


async def _body(kind: type[B]) -> B:
    """What the client sent. Raises Problem."""
    try:
        return msgspec.json.decode(await request.get_data(), type=kind)
    except msgspec.ValidationError as error:
        misfit = intake.misfit(str(error), {"": kind.__struct_fields__})
        raise Problem(400, "invalid", misfit.text, field=misfit.field) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem(400, "invalid", f"the body is not JSON: {error}", field="") from None


def _selection(wanted: Replay) -> Selection:
    """Raises Problem unless it is one message, one job's, or those of a time."""
    period = wanted.after is not None and wanted.before is not None
    alone = (wanted.after is None) == (wanted.before is None)
    if not alone or sum((wanted.id is not None, wanted.job is not None, period)) != 1:
        raise Problem(400, "invalid", NOTHING_CHOSEN, field="")
    job = None if wanted.job is None else JobId(wanted.job)
    return Selection(
        id=wanted.id, job=job, state=wanted.state, after=wanted.after, before=wanted.before
    )


def _state(text: str | None) -> MessageState | None:
    for each in MESSAGE_STATES:
        if text == each:
            return each
    if text is not None:
        raise wrong("state", text, f"write one of {', '.join(MESSAGE_STATES)}")
    return None
