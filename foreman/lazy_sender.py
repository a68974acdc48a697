"""Webhooks on first use: httpx costs a fifth of a start and a tenth of the memory."""

from collections.abc import Callable
from typing import Protocol

import trio

from foreman.delivery import Attempt


class Sends(Protocol):
    """Makes attempts: `foreman.sending.Sender`, or who stands in for it."""

    @property
    def signed(self) -> bool:
        """Whether receivers can check who sent it."""
        ...

    async def send(self, url: str, message_id: str, body: bytes) -> Attempt:
        """Make one attempt. Nothing the receiver does is raised."""
        ...


class LazySender:
    """Builds the sender when the first message is to go out."""

    def __init__(self, build: Callable[[], Sends], *, signed: bool) -> None:
        self.signed = signed
        self._build = build
        self._sender: Sends | None = None

    async def send(self, url: str, message_id: str, body: bytes) -> Attempt:
        if self._sender is None:
            # In a thread: a quarter of a second of imports must not hold up anybody's tokens.
            self._sender = await trio.to_thread.run_sync(self._build)
        return await self._sender.send(url, message_id, body)
