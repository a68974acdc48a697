"""The ingress: the listening socket, and the HTTP surface behind it.

Inbox:  none; clients come through the socket.
Owns:   the connections, the ids of new jobs. The socket itself outlives a crash.
Crash:  open connections are cut; the next incarnation accepts new ones.
"""

import socket

import trio

from actors.desk import Desk
from actors.listener import EdgeLimits, serve
from actors.messages import Drain
from foreman.api import app
from foreman.api.exchange import ASGIApp, Message, Receive, Scope, Send
from foreman.api.lazy import LazyApp
from foreman.api.ports import Ports
from foreman.metrics import Metrics
from foreman.target import Target


async def run(
    listener: socket.socket,
    desk: Desk,
    target: Target,
    metrics: Metrics,
    door: app.Door,
    limits: EdgeLimits,
    grace: float,
    stopping: trio.Event,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until `stopping` is set; then finish what runs, for at most `grace` seconds."""
    ports = Ports(desk, target)
    own = LazyApp(ports, metrics.exposition)
    asgi = app.build(ports, door, own, metrics.answered)

    async def stop() -> None:
        await stopping.wait()
        desk.tail.close()
        desk.live.close()
        await desk.channels.worker.send(Drain())

    await serve(
        while_connected(asgi),
        listener.dup(),
        limits,
        shutdown=stop,
        grace=grace,
        task_status=task_status,
    )


def while_connected(asgi: ASGIApp) -> ASGIApp:
    """Cancel the app when its client hangs up: what it waits for is nobody's any more."""

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        async with trio.open_nursery() as nursery:

            async def hang_up() -> None:
                while (await receive())["type"] == "websocket.receive":
                    pass  # a websocket only listens; after a whole body there is but the disconnect
                nursery.cancel_scope.cancel("the client hung up")

            async def receive_and_watch() -> Message:
                message = await receive()
                if not message.get("more_body", False):
                    nursery.start_soon(hang_up)
                return message

            await asgi(scope, receive_and_watch, send)
            nursery.cancel_scope.cancel("answered")

    return watched
