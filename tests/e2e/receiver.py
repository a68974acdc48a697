"""Somebody who is told of jobs: checks each signature with the library of the standard."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import h11
import trio
from standardwebhooks import Webhook

from tests.fakes.gates import Gate

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass(frozen=True, slots=True)
class Message:
    """What was sent, its signature being right."""

    id: str
    body: bytes

    @property
    def data(self) -> dict[str, Any]:
        """The event's object."""
        data: dict[str, Any] = json.loads(self.body)["data"]
        return data


@dataclass
class Receiver:
    """What came, in the order in which it came; `gate` holds back the answers."""

    url: str
    gate: Gate = field(default_factory=Gate)
    messages: list[Message] = field(default_factory=list[Message])

    @property
    def events(self) -> list[tuple[int, str]]:
        """Number and type of each."""
        return [(each.data["seq"], each.data["type"]) for each in self.messages]


@asynccontextmanager
async def receiver() -> AsyncGenerator[Receiver]:
    """Listen on 127.0.0.1 until the block ends. A wrong signature fails the test."""
    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        found = Receiver(f"http://127.0.0.1:{port}/hook")
        nursery.start_soon(trio.serve_listeners, partial(_serve, found), [listener])
        yield found
        nursery.cancel_scope.cancel("the test is over")


async def _serve(receiver: Receiver, stream: trio.SocketStream) -> None:
    wire = h11.Connection(h11.SERVER)
    async with stream:
        try:
            while wire.our_state is not h11.MUST_CLOSE:
                await _answer(receiver, stream, wire)
        except (trio.BrokenResourceError, h11.RemoteProtocolError):
            pass  # the daemon was killed in the middle of it


async def _answer(receiver: Receiver, stream: trio.SocketStream, wire: h11.Connection) -> None:
    headers, body = dict[str, str](), b""
    while True:
        match wire.next_event():
            case h11.Request() as head:
                headers = {name.decode(): value.decode() for name, value in head.headers}
            case h11.Data() as part:
                body += part.data
            case h11.NEED_DATA:
                wire.receive_data(await stream.receive_some())
            case h11.EndOfMessage():
                break
            case _:
                return
    Webhook(SECRET).verify(body, headers)
    receiver.messages.append(Message(headers["webhook-id"], body))
    await receiver.gate.passed()
    yes = h11.Response(status_code=200, headers=[("content-length", "0")])
    await stream.send_all((wire.send(yes) or b"") + (wire.send(h11.EndOfMessage()) or b""))
    wire.start_next_cycle()
