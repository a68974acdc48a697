"""A receiver of webhooks that is never what limits: it counts, says 204 and notes the time.

`python -m tests.bench.receiver PORT`. GET /counts tells by path how many came and in how long;
what is sent to a path under /silent/ is read and never answered.
"""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from tests.bench.fast_target import answer, content_length

TAKEN = b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
COUNTS = "/counts"
SILENT = "/silent/"


@dataclass(slots=True)
class Count:
    """What came on one path; times are those of the event loop (seconds)."""

    number: int
    first: float
    last: float


class Delivery(asyncio.Protocol):
    """One connection with one request."""

    transport: asyncio.Transport

    def __init__(self, counts: dict[str, Count], clock: Callable[[], float]) -> None:
        self._counts = counts
        self._clock = clock
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0 or len(self._buffer) < end + 4 + content_length(self._buffer[:end].lower()):
            return
        path = self._buffer.split(b" ", 2)[1].decode()
        if path == COUNTS:
            self.transport.write(answer(msgspec.json.encode(self._counts)))
        elif not path.startswith(SILENT):
            self._count(path)
            self.transport.write(TAKEN)
            self.transport.close()

    def _count(self, path: str) -> None:
        now = self._clock()
        found = self._counts.setdefault(path, Count(0, now, now))
        found.number += 1
        found.last = now


async def serve(port: int) -> None:
    """Serve until the process is ended."""
    loop, counts = asyncio.get_running_loop(), dict[str, Count]()
    server = await loop.create_server(lambda: Delivery(counts, loop.time), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
