"""A websocket as the door sees it: an exchange until it is accepted, so one gate guards both."""

from time import perf_counter

from foreman.api.exchange import Exchange, Message, Receive, Scope, Send


class Handshake(Exchange):
    """A websocket that is asked for. To reply to it is to refuse it; accepted, it carries texts.

    What the client says is dropped by whoever watches for its leaving.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(scope | {"method": "GET"}, receive, self._refuse)
        self._hear = receive
        self._say = send

    async def accept(self) -> None:
        """Open the websocket: from now on it ends with a close code."""
        await self._hear()  # that it is asked for
        self.status, self.head_at = 101, perf_counter()
        await self._say({"type": "websocket.accept", "headers": self.extra})

    async def text(self, text: str, *, more: bool = False) -> None:
        """Send one message; with `more`, the next comes at once and both may leave together."""
        await self._say({"type": "websocket.send", "text": text, "more": more})

    async def close(self, code: int, reason: str = "") -> None:
        """Say goodbye; `reason` is at most 123 bytes."""
        await self._say({"type": "websocket.close", "code": code, "reason": reason})

    async def _refuse(self, message: Message) -> None:
        await self._say(message | {"type": f"websocket.{message['type']}"})
