"""Thousands of websocket subscribers in one process; see `tests.bench.client` for how it is run.

Raw sockets and a handshake by hand: a library's websocket would cost more than the daemon's end.
"""

import selectors
import socket
from dataclasses import dataclass, field
from time import perf_counter
from typing import cast

import psutil  # type: ignore[import-untyped]  # comes without types

from tests.bench.answers import HEAD_END, request
from tests.bench.client import READ, Caller, play
from tests.bench.job_client import HELD

HANDSHAKE = (
    b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
AT_ONCE = 50  # handshakes under way
SETTLED = 2.0  # seconds after which nothing of an arrival is still under way
PAUSE = 0.1  # seconds between two events
PATIENCE = 30.0  # seconds for an event to reach everybody
SUBMISSION = request("/jobs", HELD)

TEXT = 0x81  # the first byte of a whole text message
PING = 0x89
PONG = b"\x8a\x80\0\0\0\0"  # masked, without content
LONG = 126  # this length says that the next two bytes are it


class Subscriber:
    """One websocket that only listens."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.sendall(HANDSHAKE)
        self._buffer = b""

    def enter(self) -> None:
        """Read the answer to the handshake."""
        while HEAD_END not in self._buffer:
            self._read()
        head, _, self._buffer = self._buffer.partition(HEAD_END)
        if not head.startswith(b"HTTP/1.1 101 "):
            raise ConnectionError(f"no websocket: {head!r}")

    def hear(self) -> int:
        """Read what there is; how many events it was. Pings are answered."""
        self._read()
        events = 0
        while frame := self._frame():
            if frame == PING:
                self.socket.sendall(PONG)
            elif frame == TEXT:
                events += 1
            else:
                raise ConnectionError(f"an unexpected frame: {frame:#x}")
        return events

    def _read(self) -> None:
        piece = self.socket.recv(READ)
        if not piece:
            raise ConnectionError(f"the server hung up after {self._buffer!r}")
        self._buffer += piece

    def _frame(self) -> int:
        """Take the first byte of the next frame, and drop the rest of it; 0 where none is whole."""
        buffer = self._buffer
        head = 4 if buffer[1:2] == bytes([LONG]) else 2
        end = head + int.from_bytes(buffer[head // 2 : head], "big")
        if len(buffer) < max(head, end):
            return 0
        self._buffer = buffer[end:]
        return buffer[0]


@dataclass(slots=True)
class Crowd:
    """All subscribers of one daemon."""

    port: int
    members: list[Subscriber] = field(default_factory=list[Subscriber])
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)

    def grow(self, size: int) -> None:
        """Let subscribers enter until there are that many."""
        while (missing := size - len(self.members)) > 0:
            entering = [Subscriber(self.port) for _ in range(min(AT_ONCE, missing))]
            for each in entering:
                each.enter()
                self._selector.register(each.socket, selectors.EVENT_READ, each)
            self.members += entering
            self._listen(0)

    def rest(self, seconds: float) -> None:
        """Answer pings, and drop the events that come."""
        until = perf_counter() + seconds
        while (left := until - perf_counter()) > 0:
            self._listen(left)

    def tell(self, caller: Caller) -> list[float]:
        """Seconds from sending a submission to its event, by subscriber, in order of arrival."""
        began, _, _ = caller.call(SUBMISSION)
        arrivals: list[float] = []
        while (missing := len(self.members) - len(arrivals)) > 0:
            if perf_counter() > began + PATIENCE:
                raise TimeoutError(f"{missing} did not hear of the event")
            arrivals += self._listen(PATIENCE)
        return [at - began for at in arrivals]

    def _listen(self, seconds: float) -> list[float]:
        """Wait at most that long for something to read; when (`perf_counter`) each event was."""
        arrivals: list[float] = []
        for key, _ in self._selector.select(seconds):
            events = cast(Subscriber, key.data).hear()
            arrivals += [perf_counter()] * events
        return arrivals


def crowd(
    port: int, process: int, listeners: int, subscribers: int, events: int
) -> dict[str, object]:
    """How long events take to reach `listeners`; the daemon's MB when there are `subscribers`."""
    caller, members = Caller(port), Crowd(port)
    caller.call(SUBMISSION)  # it runs from now on: those to come only wait, an event each
    members.grow(listeners)
    members.rest(SETTLED)
    seconds: list[list[float]] = []
    for _ in range(events):
        seconds.append(members.tell(caller))
        members.rest(PAUSE)
    before = megabytes(process)
    members.grow(subscribers)
    members.rest(SETTLED)
    return {"seconds": seconds, "listening": before, "idle": megabytes(process)}


def megabytes(process: int) -> float:
    """The memory of a process in MB (10^6 bytes): its share of what it shares, where told."""
    memory = psutil.Process(process).memory_full_info()
    return float(getattr(memory, "pss", memory.rss)) / 1e6


if __name__ == "__main__":
    play({"crowd": crowd})
