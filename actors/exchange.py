"""The app's side of a connection: one task and one inbox for each request.

In place of Hypercorn's `TaskGroup`, under which an app that answers before it has read the whole
body waits for room in its own queue for ever, and an app whose handshake was refused never hears
that its client is gone.
"""

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import trio
from hypercorn.config import Config

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Message, Receive, Send], Awaitable[None]]

log = logging.getLogger("foreman.edge")

HANG_UP = "foreman.hang_up"
"""An ASGI extension: a function that takes a cancel scope, to be cancelled when the client has gone
and the app has heard its whole request. Until then the app hears `disconnect`, as in any server.
What a client says on a websocket from then on is dropped."""

INBOX = 10  # messages that the app may lag behind its client, each at most one read (64 KiB)


class Apps:
    """Runs the app for each request of one connection: Hypercorn's `TaskGroup`.

    An app may say of a websocket message that there is `more`: it waits for the next then, so that
    many leave in one packet. `holding` says so to the connection.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        flush: Callable[[], Awaitable[None]],
        accepted: Callable[[], None],
    ) -> None:
        self._nursery = nursery
        self._flush = flush
        self._accepted = accepted
        self.holding = False
        self._inbox: _Inbox | None = None
        self._ping_interval = 0.0
        self._pings = trio.CancelScope()

    async def spawn_app(
        self,
        app: ASGIApp,
        config: Config,
        scope: Message,
        send: Callable[..., Awaitable[None]],
    ) -> Send:
        async def send_on(message: Message) -> None:
            self.holding = message.get("more", False)
            await send(message)
            if message.get("more_body"):
                await self._flush()  # the end of a body flushes itself

        self._ping_interval = config.websocket_ping_interval or 0.0
        self._inbox = inbox = _Inbox(scope["type"])
        scope["extensions"][HANG_UP] = inbox.watch
        self._nursery.start_soon(self._run, app, scope, inbox, send_on, send)
        return inbox.put

    def spawn(self, ping: Callable[..., Awaitable[None]], *args: Any) -> None:
        """Hypercorn's websocket pings, one task for a connection. Alone, it outlives the client.

        It comes with the acceptance of a websocket, and tells of it.
        """
        self._accepted()
        self._nursery.start_soon(self._ping, ping, *args)

    def hang_up(self) -> None:
        """The client has gone."""
        self._pings.cancel()
        if self._inbox:
            self._inbox.close()

    async def _run(
        self,
        app: ASGIApp,
        scope: Message,
        inbox: "_Inbox",
        send: Send,
        finish: Callable[[None], Awaitable[None]],
    ) -> None:
        try:
            await app(scope, inbox.receive, send)
        except Exception:
            log.exception("the app failed on %s", scope["path"])
        finally:
            inbox.close()
        await finish(None)

    async def _ping(self, ping: Callable[..., Awaitable[None]], *args: Any) -> None:
        with self._pings:
            # Hypercorn would ping at once, which a client that just says goodbye may trip over.
            await trio.sleep(self._ping_interval)
            await ping(*args)


class _Inbox:
    """What the client sends, for the app to `receive`; its last message is the disconnect."""

    def __init__(self, kind: str) -> None:
        self._last: Message = {"type": f"{kind}.disconnect"}
        if kind == "websocket":
            self._last["code"] = 1006  # RFC 6455: closed without a closing frame
        self._sender, self._receiver = trio.open_memory_channel[Message](INBOX)
        self._scope: trio.CancelScope | None = None  # of an app that need not hear of the end
        self._whole = False  # the app has heard all of the request
        self._closed = False

    def watch(self, scope: trio.CancelScope) -> None:
        """See HANG_UP."""
        self._scope = scope

    async def put(self, message: Message) -> None:
        """Wait while the app lags behind. A disconnect never waits, nor do the deaf."""
        if message["type"] == self._last["type"]:
            self._last = message
            self.close()
            return
        if self._whole and self._scope is not None:
            return
        with suppress(trio.ClosedResourceError):
            try:
                self._sender.send_nowait(message)  # saves a trip through the scheduler
            except trio.WouldBlock:
                await self._sender.send(message)

    async def receive(self) -> Message:
        try:
            message = await self._next()
        except trio.EndOfChannel:
            message = self._last
        if not message.get("more_body", False):
            self._whole = True
            self._cancel_if_over()
        return message

    async def _next(self) -> Message:
        try:
            return self._receiver.receive_nowait()  # saves a trip through the scheduler
        except trio.WouldBlock:
            return await self._receiver.receive()

    def close(self) -> None:
        self._closed = True
        self._sender.close()
        self._cancel_if_over()

    def _cancel_if_over(self) -> None:
        if self._closed and self._whole and self._scope is not None:
            self._scope.cancel("the client hung up")
