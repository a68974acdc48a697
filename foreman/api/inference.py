"""A call to a model: admitted or refused at once, then queued, then relayed byte for byte."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from math import inf

import trio

from foreman.admission import Admitted, Refused, admit, unknown_model
from foreman.api.exchange import BodyTooLarge, BodyTooSlow, Exchange
from foreman.api.passthrough import relay_unqueued, unload
from foreman.api.ports import Desk, Ports
from foreman.api.replies import break_off, heartbeat, object_type, refuse, stream_type
from foreman.errors import NoReply
from foreman.streams import error_text_of
from foreman.wire import (
    Dialect,
    Kind,
    Request,
    ResponseEnd,
    ResponseFailed,
    ResponseHead,
    ResponsePart,
    ResponseWhole,
    Route,
)

DROPPED = "the request was dropped, please try again"


@dataclass(frozen=True, slots=True)
class Waits:
    """How long what may take, in seconds; sizes in bytes."""

    commit_after: float
    heartbeat: float
    body: float
    metadata: float
    max_body: int


@dataclass(frozen=True, slots=True)
class Embedding:
    """Which model embeds beside the queue (None = any), and what becomes of the others."""

    model_key: str | None
    other: str  # queue | reject | bypass


async def handle(
    exchange: Exchange, route: Route, ports: Ports, waits: Waits, embedding: Embedding
) -> None:
    """Answer an inference or embedding route."""
    try:
        body = await exchange.body(waits.max_body, waits.body)
        admitted = admit(route, exchange.headers, body)
        await check_installed(route, admitted, ports.desk)
        bypass = route.kind is Kind.EMBEDDING and _bypasses(admitted, embedding)
    except Refused as refused:
        await refuse(exchange, route.dialect, refused.status, refused.text)
        return
    except BodyTooLarge as error:
        await refuse(exchange, route.dialect, 413, str(error))
        return
    except BodyTooSlow:
        await refuse(exchange, route.dialect, 408, "the request body did not arrive in time")
        return
    except NoReply:
        await refuse(exchange, route.dialect, 503, DROPPED)
        return
    trace = exchange.span.context
    request = Request(exchange.method.encode(), exchange.target, exchange.headers, body, trace)
    if admitted.unload:
        await unload(exchange, route, ports, request, admitted, waits.metadata)
    elif is_cloud(admitted, ports.desk):
        await relay_unqueued(exchange, route, ports.target, request, inf)
    elif bypass:
        async with ports.desk.embed(request, admitted.model) as parts:
            await Relay(exchange, route.dialect, False, inf, inf).run(parts)
    else:
        async with ports.desk.call(route, admitted, request, exchange.client) as queued:
            exchange.span.set({"foreman.job.id": queued.job})
            exchange.extra += [
                (b"x-foreman-job", queued.job.encode()),
                (b"x-foreman-position", b"%d" % queued.position),
            ]
            relay = Relay(
                exchange, route.dialect, admitted.streamed, waits.commit_after, waits.heartbeat
            )
            await relay.run(queued.parts)


async def check_installed(route: Route, admitted: Admitted, desk: Desk) -> None:
    """Raise Refused for a model the target does not have, after one more (shared) look at it.

    While the target has never been seen nobody can tell: then the call waits like any other.
    """
    if admitted.cloud or desk.inventory().find(admitted.key):
        return
    inventory = await desk.refresh()
    if inventory.polled_at is not None and not inventory.find(admitted.key):
        raise unknown_model(route, admitted.model)


def is_cloud(admitted: Admitted, desk: Desk) -> bool:
    """It runs elsewhere, by its name or as an installed stub: it never takes the slot."""
    entry = desk.inventory().find(admitted.key)
    return admitted.cloud or (entry is not None and entry.remote)


def _bypasses(admitted: Admitted, embedding: Embedding) -> bool:
    if embedding.model_key is None or admitted.key == embedding.model_key:
        return True
    if embedding.other == "reject":
        raise Refused(
            403,
            f"{admitted.model} is not the embedding model of this server"
            " (FOREMAN_EMBED_MODEL), and FOREMAN_EMBED_OTHER=reject",
        )
    return embedding.other == "bypass"


class Relay:
    """Sends an answer's parts to the client, and signs of life until the first of them.

    Nothing is committed for `commit_after` seconds, so that real status codes survive; from then
    on a heartbeat goes out every `heartbeat` seconds and failures are told inside the stream.
    """

    def __init__(
        self,
        exchange: Exchange,
        dialect: Dialect,
        streamed: bool,
        commit_after: float,
        heartbeat: float,
    ) -> None:
        self._exchange = exchange
        self._dialect = dialect
        self._streamed = streamed
        self._wait = commit_after
        self._heartbeat = heartbeat
        self._late_error: bytearray | None = None  # an error body that came after our 200
        self._late_status = 0

    async def run(self, parts: AsyncIterator[ResponsePart]) -> None:
        """Relay until the end. Returning without having finished the exchange cuts it."""
        while True:
            try:
                with trio.fail_after(self._wait):
                    part = await anext(parts, None)
            except trio.TooSlowError:
                await self._sign_of_life()
                continue
            if part is None:
                await self._fail(ResponseFailed(503, DROPPED))
                return
            if await self._pass(part):
                return

    async def _sign_of_life(self) -> None:
        if not self._exchange.committed:
            kind = stream_type(self._dialect) if self._streamed else object_type(self._dialect)
            await self._exchange.start(200, [kind])
        await self._exchange.write(heartbeat(self._dialect, self._streamed))
        self._wait = self._heartbeat

    async def _pass(self, part: ResponsePart) -> bool:  # noqa: C901  one case a part
        """Send one part; True after the last."""
        match part:
            case bytes():
                if self._late_error is not None:
                    self._late_error += part
                elif part:
                    await self._exchange.write(part)
            case ResponseHead(status, headers):
                self._wait = inf  # the target speaks: its silences are the worker's concern
                if not self._exchange.committed:
                    await self._exchange.start(status, headers)
                elif status >= 400:
                    self._late_error, self._late_status = bytearray(), status
            case ResponseEnd():
                if self._late_error is None:
                    await self._exchange.finish()
                else:
                    text = error_text_of(bytes(self._late_error)) or "the request failed"
                    await self._fail(ResponseFailed(self._late_status, text))
                return True
            case ResponseWhole(head, body):
                if not self._exchange.committed:
                    await self._exchange.start(head.status, head.headers)
                await self._exchange.finish(body)
                return True
            case ResponseFailed():
                await self._fail(part)
                return True
        return False

    async def _fail(self, failed: ResponseFailed) -> None:
        if not self._exchange.committed:
            await refuse(
                self._exchange, self._dialect, failed.status, failed.text, failed.retry_after
            )
        else:
            await break_off(self._exchange, self._dialect, failed.status, failed.text)
