"""The door: one ASGI app that checks who asks and hands the exchange to whoever answers it.

Ollama's routes are relayed by `inference` and `passthrough`; foreman's own API is a Quart app.
"""

from collections.abc import Callable
from dataclasses import dataclass
from posixpath import normpath

from foreman.api import inference, passthrough
from foreman.api.exchange import ASGIApp, ClientGone, Exchange, Receive, Scope, Send
from foreman.api.gate import PREFLIGHT, Gate
from foreman.api.inference import Embedding, Waits
from foreman.api.ports import Ports
from foreman.api.replies import TEXT, refuse
from foreman.wire import Kind, Route, routes_at


@dataclass(frozen=True, slots=True)
class Door:
    """The settings of the HTTP surface."""

    gate: Gate
    waits: Waits
    embedding: Embedding
    allow_admin: bool


def build(ports: Ports, door: Door, own: ASGIApp, counted: Callable[[str, int], None]) -> ASGIApp:
    """The ASGI app. `own` answers foreman's own routes; `counted(route, status)` hears of each."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await own(scope, receive, send)  # websockets are foreman's own
            return
        exchange = Exchange(scope, receive, send)
        try:
            route = await _enter(exchange, door)
            if route is None:
                pass
            elif route.kind is Kind.OWN:
                await own(scope, receive, exchange.send)
            else:
                await _answer(exchange, route, ports, door)
            counted(route.path if route else "", exchange.status)
        except ClientGone:
            counted("", 499)

    return app


async def _answer(exchange: Exchange, route: Route, ports: Ports, door: Door) -> None:
    match route.kind:
        case Kind.INFERENCE | Kind.EMBEDDING:
            await inference.handle(exchange, route, ports, door.waits, door.embedding)
        case Kind.METADATA:
            await passthrough.metadata(exchange, route, ports, door.waits.metadata, door.waits.body)
        case Kind.ADMIN:
            await passthrough.admin(exchange, route, ports, door.allow_admin, door.waits.body)
        case Kind.OWN:
            raise AssertionError("own routes are not answered here")


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
    if gate.client(exchange.path, authorization, key) is None:
        await refuse(exchange, route.dialect, 401, "a token is needed: Authorization: Bearer ...")
        return None
    return route


def _clean(path: str) -> str:
    """`//api//chat/` is `/api/chat`: base URLs that end in a slash are common."""
    return normpath("/" + path.lstrip("/")) if "//" in path or path[-1:] == "/" else path
