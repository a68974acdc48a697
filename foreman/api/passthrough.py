"""What is never queued: metadata, unloads, cloud models, and admin routes if allowed."""

from math import inf

import trio

from foreman.admission import Admitted
from foreman.api.exchange import BodyTooLarge, BodyTooSlow, Exchange, Upload
from foreman.api.ports import Ports
from foreman.api.replies import JSON, break_off, refuse
from foreman.errors import TargetError
from foreman.inventory import Inventory
from foreman.target import Answer, Target
from foreman.wire import Request, Route

RUNNING = b"Ollama is running"
ADMIN_OFF = "FOREMAN_ALLOW_ADMIN is off: this server does not change models for its clients"
METADATA_BODY = 1 << 20  # bytes; /api/show and the like send a name


async def metadata(
    exchange: Exchange, route: Route, ports: Ports, seconds: float, body_seconds: float
) -> None:
    """Ask the target now; what the poller remembers answers where the target is away."""
    if route.path == "/":
        await exchange.reply(200, [(b"content-type", b"text/plain; charset=utf-8")], RUNNING)
        return
    try:
        body = await exchange.body(METADATA_BODY, body_seconds)
    except BodyTooLarge as error:
        await refuse(exchange, route.dialect, 413, str(error))
        return
    except BodyTooSlow:
        await refuse(exchange, route.dialect, 408, "the request body did not arrive in time")
        return
    trace = exchange.span.context
    request = Request(exchange.method.encode(), exchange.target, exchange.headers, body, trace)
    remembered = _remembered(route, ports.desk.inventory())
    await relay_unqueued(exchange, route, ports.target, request, seconds, remembered)


def _remembered(route: Route, inventory: Inventory) -> bytes | None:
    """What can be said without the target; None where only the target can tell."""
    if inventory.polled_at is None and route.path != "/api/tags":
        return None
    return {"/api/tags": inventory.tags, "/api/version": inventory.version}.get(route.path)


async def unload(
    exchange: Exchange, route: Route, ports: Ports, request: Request, admitted: Admitted, s: float
) -> None:
    """Pass an unload on at once, within `s` seconds, and let the worker know."""
    await relay_unqueued(exchange, route, ports.target, request, s)
    await ports.desk.unloaded(admitted.key)


async def admin(exchange: Exchange, route: Route, ports: Ports, allowed: bool, s: float) -> None:
    """Pass a mutating call through, streamed both ways; its body may pause for `s` seconds."""
    if not allowed:
        await refuse(exchange, route.dialect, 403, ADMIN_OFF)
        return
    trace = exchange.span.context
    request = Request(exchange.method.encode(), exchange.target, exchange.headers, trace=trace)
    await _relay(exchange, route, ports.target, request, inf, upload=Upload(exchange, s))
    await ports.desk.refresh()  # what is installed may have changed


async def relay_unqueued(
    exchange: Exchange,
    route: Route,
    target: Target,
    request: Request,
    seconds: float,
    remembered: bytes | None = None,
) -> None:
    """Relay an answer as it comes, if its head comes within `seconds`."""
    await _relay(exchange, route, target, request, seconds, remembered=remembered)


async def _relay(
    exchange: Exchange,
    route: Route,
    target: Target,
    request: Request,
    seconds: float,
    *,
    remembered: bytes | None = None,
    upload: Upload | None = None,
) -> None:
    try:
        with trio.fail_after(seconds) as waiting:
            async with target.send(request, upload) as answer:
                waiting.deadline = inf
                await _copy(exchange, answer)
    except (TargetError, trio.TooSlowError) as error:
        text = f"the Ollama server cannot be reached: {str(error) or 'no answer in time'}"
        if exchange.committed:
            await break_off(exchange, route.dialect, 502, text)
        elif remembered is not None:
            await exchange.reply(200, [JSON], remembered)
        else:
            await refuse(exchange, route.dialect, 503, text)
    except BodyTooSlow:
        if not exchange.committed:
            await refuse(exchange, route.dialect, 408, "the request body did not arrive in time")


async def _copy(exchange: Exchange, answer: Answer) -> None:
    await exchange.start(answer.status, answer.headers)
    if exchange.method != "HEAD":
        async for chunk in answer.body:
            await exchange.write(chunk)
    await exchange.finish()
