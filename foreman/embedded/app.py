"""The embedded target: takes an HTTP exchange, finds its route, its fault and its answer."""

import re

import msgspec
import trio
import zstandard

from foreman import names
from foreman.embedded import origins, routes
from foreman.embedded.blobs import Blobs
from foreman.embedded.clock import Clock
from foreman.embedded.engine import Engine
from foreman.embedded.failures import Failed, Unauthorized
from foreman.embedded.go import BadRequest, Fields, decode
from foreman.embedded.host import Host, answer, unauthorized
from foreman.embedded.http1 import Exchange, Request, Severed, converse
from foreman.embedded.installed import Installed
from foreman.embedded.oracle import Oracle, Recorded, keep_body
from foreman.embedded.residency import MAX_QUEUE, Residency
from foreman.embedded.routes import Incoming, Route
from foreman.embedded.script import Cut, Fault, Hang, Script, Status
from foreman.embedded.scripted import ScriptedEngine

_TEXT = (b"Content-Type", b"text/plain")
_MAX_DECOMPRESSED = 20 << 20  # bytes
_OWN = "/_embedded/"


class EmbeddedTarget:
    """One Ollama-like server. Serve it with `server.serve`, ask `oracle` what it did.

    `max_loaded` is OLLAMA_MAX_LOADED_MODELS, `max_queue` OLLAMA_MAX_QUEUE.
    """

    def __init__(self, engine: Engine, *, max_loaded: int = 3, max_queue: int = MAX_QUEUE) -> None:
        self.engine = engine
        self.oracle = Oracle()
        self.residency = Residency(engine, self.oracle, max_loaded=max_loaded, max_queue=max_queue)
        self._clock = Clock()
        installed = Installed(engine)
        self._host = Host(engine, installed, self.residency, self._clock, self.oracle, Blobs())

    async def converse(self, stream: trio.abc.Stream) -> None:
        """Answer one connection until it ends."""
        await converse(stream, self._clock, self.handle)

    async def handle(self, exchange: Exchange) -> None:
        """Answer one request. Raises Severed where the connection is to be broken off."""
        request = exchange.request
        if request.path.startswith(_OWN):
            await self._own(exchange)
            return
        recorded = self.oracle.record(request)
        if not origins.is_local_name(request.header(b"host")):
            await exchange.respond(403)
            return
        if origin := origins.cross_origin(request):
            if not origins.is_allowed(origin):
                await exchange.respond(403)
                return
            if request.method == "OPTIONS":
                await exchange.respond(204, origins.preflight(origin))
                return
            exchange.granted += origins.granting(origin)
        await self._route(exchange, recorded)

    async def _route(self, exchange: Exchange, recorded: Recorded) -> None:
        request = exchange.request
        found = routes.find(request.path)
        for route, parameter in found:
            if request.method in route.methods:
                await self._answer(exchange, recorded, route, parameter)
                return
        if request.method == "OPTIONS" and not origins.is_address(request.header(b"host")):
            await exchange.respond(204)
        elif found:
            allowed = ", ".join(method for route, _ in found for method in route.methods)
            headers = [(b"Allow", allowed.encode()), _TEXT]
            await exchange.respond(405, headers, b"405 method not allowed")
        elif moved := _moved(request.path):
            await _redirect(exchange, *moved)
        else:
            await exchange.respond(404, [_TEXT], b"404 page not found")

    async def _answer(
        self, exchange: Exchange, recorded: Recorded, route: Route, parameter: str
    ) -> None:
        try:
            body = b"" if route.streams_body else await exchange.read_all()
            keep_body(recorded, body)
            fields, error = _fields(route, exchange.request, body)
            fault = self.engine.fault(route.path, _model_key(fields))
            if await _strikes_first(exchange, fault):
                return
            if error:
                raise error
            await route.handler(self._host, exchange, Incoming(fields, body, parameter, fault))
        except BadRequest as refused:
            await _refuse(exchange, route, 400, refused.text)
        except Failed as failed:
            await _refuse(exchange, route, failed.status, failed.text)
        except Unauthorized:
            await unauthorized(exchange)

    async def _own(self, exchange: Exchange) -> None:
        """The rig's own routes: what was seen, and another script."""
        body = await exchange.read_all()
        match exchange.request.method, exchange.request.path:
            case "GET", "/_embedded/stats":
                await answer(exchange, self.oracle.report())
            case "PUT", "/_embedded/script" if isinstance(self.engine, ScriptedEngine):
                try:
                    script = msgspec.json.decode(body, type=Script)
                except (msgspec.ValidationError, msgspec.DecodeError) as error:
                    await answer(exchange, {"error": str(error)}, 400)
                    return
                await answer(exchange, {})
                self.engine.script = script
            case _:
                await exchange.respond(404, [_TEXT], b"404 page not found")


def _fields(route: Route, request: Request, body: bytes) -> tuple[Fields, BadRequest | None]:
    """What the body says; a body that is wrong is no reason for a fault not to strike."""
    nothing = Fields(route.struct, {})
    if not route.struct:
        return nothing, None
    try:
        if request.header(b"content-encoding") == b"zstd" and request.path.startswith("/v1/"):
            body = _decompress(body)
        if not body.strip():
            return nothing, BadRequest(route.refusal.empty)
        return decode(body, route.struct), None
    except BadRequest as error:
        return nothing, error


def _decompress(body: bytes) -> bytes:
    try:
        with zstandard.ZstdDecompressor().stream_reader(body) as reader:
            data = reader.read(_MAX_DECOMPRESSED + 1)
    except zstandard.ZstdError:
        raise BadRequest("failed to decompress request body") from None
    if len(data) > _MAX_DECOMPRESSED:
        raise BadRequest("http: request body too large")
    return data


def _model_key(fields: Fields) -> str | None:
    named = fields.any("model") or fields.any("name")
    try:
        return names.key(named) if isinstance(named, str) else None
    except names.InvalidName:
        return None


async def _strikes_first(exchange: Exchange, fault: Fault | None) -> bool:
    """Let a fault strike that concerns no stream. True if it was the answer."""
    match fault:
        case Status():
            body = fault.body
            headers = {"Content-Type": "application/json; charset=utf-8"} | fault.headers
            data = msgspec.json.encode({"error": fault.text}) if body is None else body.encode()
            encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
            await exchange.respond(fault.status, encoded, data)
            return True
        case Hang(after_tokens=None):
            await trio.sleep_forever()
        case Cut(after_tokens=None, after_bytes=None):
            raise Severed
        case _:
            pass
    return False


async def _refuse(exchange: Exchange, route: Route, status: int, text: str) -> None:
    headers = [(b"Content-Type", route.refusal.kind)]
    await exchange.respond(status, headers, route.refusal.body(status, text))


def _moved(path: str) -> tuple[str, bool] | None:
    """Where a misspelled path leads, and whether it was only a slash at the end."""
    clean = _clean(path)
    if clean != path and clean != path.rstrip("/"):
        return clean, False
    if path != "/" and path.endswith("/") and routes.find(path.rstrip("/")):
        return path.rstrip("/"), True
    return None


def _clean(path: str) -> str:
    """Go's path.Clean: no doubled slashes, no dots; a slash at the end stays."""
    kept: list[str] = []
    for segment in re.split("/+", path):
        if segment == "..":
            kept = kept[:-1]
        elif segment not in ("", "."):
            kept.append(segment)
    end = "/" if path.endswith("/") and kept else ""
    return "/" + "/".join(kept) + end


async def _redirect(exchange: Exchange, where: str, only_slash: bool) -> None:
    permanent = only_slash and exchange.request.method == "GET"
    status, phrase = (301, "Moved Permanently") if permanent else (307, "Temporary Redirect")
    headers = [(b"Location", where.encode())]
    if exchange.request.method not in ("GET", "HEAD"):
        await exchange.respond(status, headers)
        return
    body = f'<a href="{where}">{phrase}</a>.\n\n'.encode()
    await exchange.respond(status, [*headers, (b"Content-Type", b"text/html; charset=utf-8")], body)
