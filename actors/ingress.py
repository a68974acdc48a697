"""The ingress: the listening socket, and the HTTP surface behind it.

Inbox:  none; clients come through the socket.
Owns:   the connections, the ids of new jobs. The socket itself outlives a crash.
Crash:  open connections are cut; the next incarnation accepts new ones.
"""

import socket

import trio

from actors.desk import Desk
from actors.exchange import HANG_UP
from actors.listener import EdgeLimits, serve
from actors.messages import Drain
from foreman.api import app
from foreman.api.exchange import ASGIApp, Receive, Scope, Send
from foreman.api.lazy import LazyApp
from foreman.api.ports import Ports
from foreman.api.scrape import Look, Scrape
from foreman.metrics.counts import Metrics
from foreman.target import Target
from foreman.tracing import NO_TRACER, Tracer

REFUSALS = 0.5  # seconds of the grace in which those leave who were not served in time


async def run(
    listener: socket.socket,
    desk: Desk,
    target: Target,
    metrics: Metrics,
    look: Look,
    door: app.Door,
    limits: EdgeLimits,
    grace: float,
    stopping: trio.Event,
    *,
    tracer: Tracer = NO_TRACER,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until `stopping` is set; then finish what runs and waits, for at most `grace` seconds.

    Shortly before they are over the worker refuses the calls that it has not begun.
    """
    if stopping.is_set():  # it crashed while it stopped
        task_status.started()
        return
    ports = Ports(desk, target, tracer)
    scrape = Scrape(desk, metrics, look)
    asgi = app.build(ports, door, LazyApp(ports), metrics.http.request, scrape)

    async def stop() -> None:
        await stopping.wait()
        desk.tail.close()
        desk.live.close()
        listener.close()  # who comes now is refused, or waits at the service manager's own copy
        refuse_at = trio.current_time() + max(grace / 2, grace - REFUSALS)
        await desk.channels.worker.send(Drain(refuse_at))

    await serve(
        while_connected(asgi),
        listener.dup(),
        limits,
        shutdown=stop,
        grace=grace,
        connected=metrics.http.connected,
        task_status=task_status,
    )


def while_connected(asgi: ASGIApp) -> ASGIApp:
    """Cancel the app when its client hangs up: what it waits for is nobody's any more."""

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        with trio.CancelScope() as here:
            scope["extensions"][HANG_UP](here)
            await asgi(scope, receive, send)

    return watched
