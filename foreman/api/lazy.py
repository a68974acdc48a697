"""foreman's own API on first use: Quart costs a third of a start and an eighth of the memory."""

from importlib import import_module

import trio

from foreman.api.exchange import ASGIApp, Receive, Scope, Send
from foreman.api.ports import Ports


class LazyApp:
    """An ASGI app that builds the Quart app of `foreman.api.own` when the first request comes."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if app is None:
            # In a thread: half a second of imports must not hold up anybody's tokens.
            own = await trio.to_thread.run_sync(import_module, "foreman.api.own")
            app = self._app = own.build(self._ports)
        await app(scope, receive, send)
