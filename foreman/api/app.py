"""The door: one ASGI app that checks who asks and hands the exchange to whoever answers it.

Ollama's routes are relayed by `inference` and `passthrough`; foreman's own API is a Quart app.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from posixpath import normpath

from foreman.api import inference, passthrough, submissions
from foreman.api.event_stream import EventStreams
from foreman.api.exchange import OWNER, ASGIApp, ClientGone, Exchange, Receive, Scope, Send
from foreman.api.gate import PREFLIGHT, Gate
from foreman.api.inference import Embedding, Waits
from foreman.api.ports import Ports
from foreman.api.replies import TEXT, refuse
from foreman.api.results import Results
from foreman.api.status import Status
from foreman.api.submissions import Intake
from foreman.api.traced import tracing
from foreman.api.websocket import Handshake
from foreman.metrics.http_series import Answered, Asked
from foreman.wire import Kind, Route, routes_at

Measured = Callable[[Answered], AbstractContextManager[Asked]]


@dataclass(frozen=True, slots=True)
class Door:
    """The settings of the HTTP surface."""

    gate: Gate
    waits: Waits
    embedding: Embedding
    intake: Intake
    allow_admin: bool
    max_subscribers: int


def build(
    ports: Ports,
    door: Door,
    own: ASGIApp,
    measured: Measured,
    exposition: Callable[[], Awaitable[bytes]],
) -> ASGIApp:
    """The ASGI app.

    `own` answers foreman's own routes that stand on Quart, `measured` is around each exchange,
    `exposition` gives the metrics in Prometheus' text format.
    """
    events = EventStreams(ports.desk, door.max_subscribers)
    results = Results(ports.desk)
    status = Status(ports.desk, exposition)
    traced = tracing(ports.tracer)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        asked = Handshake if scope["type"] == "websocket" else Exchange
        exchange = asked(scope, receive, send)
        with measured(exchange) as request, suppress(ClientGone), traced(exchange):
            route = await _enter(exchange, door)
            if route is None:
                return
            request.enter(route)
            if route.kind is Kind.EVENTS:
                await events.handle(exchange, door.gate.owner(exchange.client))
            elif isinstance(exchange, Handshake):
                await refuse(exchange, route.dialect, 400, "there is no websocket here")
            elif route.kind is Kind.RESULT:
                await results.handle(exchange, door.gate.owner(exchange.client))
            elif route.kind is Kind.STATUS:
                await status.handle(exchange)
            elif route.kind is Kind.OWN:
                named = scope | {"path": exchange.path, OWNER: door.gate.owner(exchange.client)}
                await own(named, receive, exchange.send)
            else:
                await _answer(exchange, route, ports, door)

    return app


async def _answer(exchange: Exchange, route: Route, ports: Ports, door: Door) -> None:
    match route.kind:
        case Kind.INFERENCE | Kind.EMBEDDING:
            await inference.handle(exchange, route, ports, door.waits, door.embedding)
        case Kind.METADATA:
            await passthrough.metadata(exchange, route, ports, door.waits.metadata, door.waits.body)
        case Kind.ADMIN:
            await passthrough.admin(exchange, route, ports, door.allow_admin, door.waits.body)
        case Kind.SUBMIT:
            submit = submissions.bulk if route.path == "/jobs/bulk" else submissions.single
            await submit(exchange, ports, door.waits, door.intake)
        case Kind.OWN | Kind.STATUS | Kind.EVENTS | Kind.RESULT:
            raise AssertionError("these are not answered here")


async def _enter(exchange: Exchange, door: Door) -> Route | None:
    """Check who asks for what; None when the exchange has been answered already."""
    host = exchange.header(b"host")
    if not door.gate.host_allowed(host):
        await exchange.reply(403, [], b"")
        return None
    origin = exchange.header(b"origin")
    cors = door.gate.origin_headers(origin, host)
    if cors is None:
        await exchange.reply(403, [], b"")
        return None
    exchange.extra += cors
    if exchange.method == "OPTIONS" and origin:
        await exchange.reply(204, PREFLIGHT, b"")
        return None
    return await _route(exchange, door.gate)


async def _route(exchange: Exchange, gate: Gate) -> Route | None:
    exchange.path = _clean(exchange.path)
    routes = routes_at(exchange.path)
    if not routes:
        await exchange.reply(404, [TEXT], b"404 page not found")
        return None
    route = next((each for each in routes if exchange.method in each.methods), None)
    if route is None:
        allowed = ", ".join(sorted({method for each in routes for method in each.methods}))
        await exchange.reply(405, [TEXT, (b"allow", allowed.encode())], b"405 method not allowed")
        return None
    authorization, key = exchange.header(b"authorization"), exchange.header(b"x-api-key")
    client = gate.client(exchange.path, authorization, key)
    if client is None:
        await refuse(exchange, route.dialect, 401, "a token is needed: Authorization: Bearer ...")
        return None
    exchange.client = client
    return route


def _clean(path: str) -> str:
    """`//api//chat/` is `/api/chat`: base URLs that end in a slash are common."""
    return normpath("/" + path.lstrip("/")) if "//" in path or path[-1:] == "/" else path
