"""What the conversations with a daemon need of the world, and the values they exchange with it."""

from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol, Self, TypeVar
from urllib.parse import urlencode

T = TypeVar("T")

CONNECT_LIMIT = 5.0  # seconds for a connection
SILENCE_LIMIT = 60.0  # seconds; nobody's work: what says nothing for longer is asked again
INFERENCE_SILENCE = 900.0  # seconds; above what the daemon grants its target (10 min) by default


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `silence`: the longest time (s) without a byte of the answer.

    `repeatable`: sent twice it does no more than sent once.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    silence: float = SILENCE_LIMIT
    repeatable: bool = True

    @property
    def target(self) -> str:
        """Path and query."""
        return f"{self.path}?{urlencode(self.query)}" if self.query else self.path


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer whose head has come; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]

    async def read(self) -> bytes:
        """The whole body. Raises Unreachable when it breaks off."""
        return b"".join([chunk async for chunk in self.chunks])

    def lines(self) -> "Lines":
        """The body's lines as they become whole."""
        return Lines(self.chunks)


class Lines:
    """Cuts chunks into lines, without those that are blank. Raises Unreachable.

    No generator: an asynchronous one that is left early has to be closed by its user.
    """

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._whole: deque[bytes] = deque()
        self._rest = b""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while not self._whole:
            try:
                self._feed(await anext(self._chunks))
            except StopAsyncIteration:
                if not self._rest.strip():
                    raise
                self._feed(b"\n")
        return self._whole.popleft()

    def _feed(self, chunk: bytes) -> None:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        self._whole.extend(line for line in lines if line.strip())


class Transport(Protocol):
    """One daemon over HTTP. Everything raises Unreachable, `subscribe` also Refused.

    The methods of a synchronous transport never suspend: `foreman.client.sync` rests on that.
    """

    patience: float
    """Seconds for which a daemon that does not answer, or is busy, is asked again."""

    def open(self, request: Request) -> AbstractAsyncContextManager[Reply]:
        """Send it; leaving the block hangs up."""
        ...

    def subscribe(self, request: Request) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The messages of an event route, one JSON object each; they end when it closes well."""
        ...

    async def blocking(self, call: Callable[[], T]) -> T:
        """What `call` returns, which may wait for the disk."""
        ...

    async def sleep(self, seconds: float) -> None: ...

    def clock(self) -> float:
        """Monotonic seconds."""
        ...
