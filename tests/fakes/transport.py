"""A client's Transport without a network: what is asked is written down, the answers are given.

`ScriptedTransport` checkpoints like a real one; its clock stands still but for the pauses.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
import trio

from foreman.client import asking
from foreman.client.errors import Unreachable
from foreman.client.transport import Reply, Request

T = TypeVar("T")

CREATED = "2027-01-15T08:00:00Z"


@dataclass(frozen=True)
class Says:
    """An answer. `cut`: the connection breaks after this many bytes of it."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict[str, str])
    cut: int | None = None


def says(document: Any, status: int = 200, **headers: str) -> Says:
    """A JSON answer; `retry_after` becomes Retry-After."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Says(msgspec.json.encode(document), status, named)


def streams(*documents: Any, broken: bool = False, **headers: str) -> Says:
    """An NDJSON answer, `broken` in the middle of a further line."""
    body = b"".join(msgspec.json.encode(each) + b"\n" for each in documents)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Says(body + b'{"half', 200, named, len(body) + 4) if broken else Says(body, 200, named)


def refuses(status: int, code: str, detail: str = "no", **headers: str) -> Says:
    """A problem."""
    return says({"status": status, "code": code, "detail": detail}, status, **headers)


def job(name: str = "J1", state: str = "done", **fields: Any) -> dict[str, Any]:
    """A job's view."""
    plain = {"id": name, "state": state, "class": "batch", "endpoint": "/api/chat", "model": "m"}
    return {**plain, "created_at": CREATED, **fields}


def event(seq: int, state: str = "working", name: str = "J1", **fields: Any) -> dict[str, Any]:
    """An event's object."""
    return {
        "seq": seq,
        "n": seq,
        "previous_seq": seq - 1,
        "job": name,
        "type": f"job.{state}",
        "state": state,
        "attempt": 1,
        "at": CREATED,
        "model": "m",
        "class": "batch",
        "labels": {},
        **fields,
    }


def away(*, sent: bool = False) -> Unreachable:
    """Nobody there; or, `sent`, the connection broke before the answer."""
    return Unreachable("http://daemon", "refused", sent=sent)


Given = Says | Unreachable


class ScriptedTransport:
    """Answers with these, one after the other; or with what `answer` makes of a request."""

    def __init__(
        self,
        *given: Given,
        answer: Callable[[Request], Given] | None = None,
        patience: float = 60.0,
    ) -> None:
        self.patience = patience
        self.asked: list[Request] = []
        self.slept: list[float] = []
        self.open_now = 0
        self._given = list(given)
        self._answer = answer or (lambda request: self._given.pop(0))

    @asynccontextmanager
    async def open(self, request: Request) -> AsyncGenerator[Reply]:
        await trio.lowlevel.checkpoint()
        self.asked.append(request)
        given = self._answer(request)
        if isinstance(given, Unreachable):
            raise given
        self.open_now += 1
        try:
            yield Reply(given.status, given.headers, _Chunks(given))
        finally:
            self.open_now -= 1

    @asynccontextmanager
    async def subscribe(self, request: Request) -> AsyncGenerator[AsyncIterator[bytes]]:
        async with self.open(request) as reply:
            await asking.accept(reply)
            yield reply.lines()

    async def blocking(self, call: Callable[[], T]) -> T:
        await trio.lowlevel.checkpoint()
        return call()

    async def sleep(self, seconds: float) -> None:
        await trio.lowlevel.checkpoint()
        self.slept.append(seconds)

    def clock(self) -> float:
        return sum(self.slept)

    @property
    def paths(self) -> list[str]:
        """What was asked for, in order."""
        return [request.target for request in self.asked]


class _Chunks:
    """A body in pieces of seven bytes, so that nothing comes whole."""

    def __init__(self, given: Says) -> None:
        self._left = given.body[: given.cut]
        self._broken = given.cut is not None

    def __aiter__(self) -> "_Chunks":
        return self

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        piece, self._left = self._left[:7], self._left[7:]
        if piece:
            return piece
        if self._broken:
            raise away(sent=True)
        raise StopAsyncIteration


async def everything(items: AsyncGenerator[T]) -> list[T]:
    """All the items."""
    return [item async for item in items]


async def first(items: AsyncGenerator[T], count: int) -> list[T]:
    """So many of them; then it is closed."""
    found = [await anext(items) for _ in range(count)]
    await items.aclose()
    return found


def bodies(requests: Iterable[Request]) -> list[Any]:
    """The JSON that went out."""
    return [msgspec.json.decode(request.body) for request in requests if request.body]
