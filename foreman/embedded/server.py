"""Serves an embedded target on a TCP port, or in memory, where a virtual clock works."""

import trio

from foreman.embedded.app import EmbeddedTarget


async def serve(
    target: EmbeddedTarget,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; started with the URL. Raises OSError if the port cannot be had.

    In an outage the port is closed and every connection is cut; afterwards the same port is back.
    """
    listeners = await trio.open_tcp_listeners(port, host=host)
    port = listeners[0].socket.getsockname()[1]
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(target.residency.expire_idle)
            task_status.started(f"http://{f'[{host}]' if ':' in host else host}:{port}")
            while True:
                async with trio.open_nursery() as up:
                    up.start_soon(trio.serve_listeners, target.converse, listeners)
                    await target.engine.wait_down()
                    up.cancel_scope.cancel("a scripted outage")
                await target.engine.wait_up()
                listeners = await trio.open_tcp_listeners(port, host=host)
    finally:
        target.residency.clear()
