"""The load clients: a program per scenario, so that nothing of them shares a core with the daemon.

`python -m tests.bench.client SCENARIO`, with its arguments as JSON on stdin and its measurements as
JSON on stdout. Every scenario goes round its servers in turn, so that all of them see the same
machine.
"""

import asyncio
import inspect
import socket
import sys
from collections.abc import Callable, Mapping
from itertools import pairwise
from time import perf_counter, sleep
from typing import Any

import msgspec

from tests.bench.answers import Answer, request

CHAT = b'{"model":"fast","stream":%s,"messages":[{"role":"user","content":"why is the sky blue?"}]}'
WHOLE = request("/api/chat", CHAT % b"false")
STREAM = request("/api/chat", CHAT % b"true")
EMBED = request("/api/embed", b'{"model":"embedder","input":"why is the sky blue?"}')
READ = 1 << 16
WARM_UP = 20  # calls before any that counts
WARM_UP_SECONDS = 0.3


class Caller:
    """One client that keeps its connection and blocks: nothing is leaner."""

    def __init__(self, port: int) -> None:
        self._address = "127.0.0.1", port
        self._connect()

    def call(self, message: bytes) -> tuple[float, float, Answer]:
        """When the request was sent, when the answer was complete, and the answer."""
        answer = Answer()
        began = perf_counter()
        self._socket.sendall(message)
        while data := self._socket.recv(READ):
            if answer.feed(data):
                ended = perf_counter()
                if good(answer).last:
                    self._connect()
                return began, ended, answer
        raise ConnectionError("the server hung up within an answer")

    def _connect(self) -> None:
        self._socket = socket.create_connection(self._address)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def good(answer: Answer) -> Answer:
    """The answer, which has to be a 200 or a 202: a fast refusal is no result."""
    if answer.status not in (200, 202):
        raise RuntimeError(f"{answer.status}: {answer.body!r}")
    return answer


def calls(ports: list[int], rounds: int, each: int, pause: float) -> list[list[float]]:
    """Seconds of every non-streamed chat, by server; `pause` seconds between two."""
    callers = [Caller(port) for port in ports]
    taken: list[list[float]] = [[] for _ in ports]
    for number in range(rounds + 1):
        for caller, seconds in zip(callers, taken, strict=True):
            for _ in range(each if number else WARM_UP):
                began, ended, _ = caller.call(WHOLE)
                if number:
                    seconds.append(ended - began)
                if pause:
                    sleep(pause)
    return taken


def streams(ports: list[int], rounds: int) -> list[dict[str, Any]]:
    """By server: seconds to each first line, seconds between lines, lines, and how many merged."""
    callers = [Caller(port) for port in ports]
    seen: list[dict[str, Any]] = [
        {"first": [], "gaps": [], "lines": [], "merged": 0} for _ in ports
    ]
    for number in range(rounds + 1):
        for caller, found in zip(callers, seen, strict=True):
            began, _, answer = caller.call(STREAM)
            if number == 0:
                continue
            arrivals = answer.arrivals
            found["first"].append(arrivals[0] - began)
            found["gaps"] += [after - before for before, after in pairwise(arrivals)]
            found["lines"].append(len(arrivals))
            found["merged"] += answer.merged
    return seen


class Repeater(asyncio.Protocol):
    """Sends the same request again as soon as it is answered, until told to stop."""

    transport: asyncio.Transport

    def __init__(self, port: int, message: bytes, over: Callable[[], bool]) -> None:
        self._loop = asyncio.get_running_loop()
        self._port = port
        self._message = message
        self._over = over
        self._answer = Answer()
        self.answered = 0
        self.done: asyncio.Future[bool] = self._loop.create_future()

    async def connect(self) -> None:
        """Open the connection, or a new one where the server has ended the last."""
        await self._loop.create_connection(lambda: self, "127.0.0.1", self._port)

    async def repeat(self) -> None:
        """Ask and ask again, until it is over."""
        self.done = self._loop.create_future()
        self.transport.write(self._message)
        while await self.done:
            self.done = self._loop.create_future()
            await self.connect()
            self.transport.write(self._message)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            if self._answer.feed(data):
                self._next(good(self._answer).last)
        except RuntimeError as error:
            self.done.set_exception(error)

    def _next(self, reconnect: bool) -> None:
        self._answer = Answer()
        self.answered += 1
        if self._over():
            self.done.set_result(False)
        elif reconnect:
            self.done.set_result(True)
        else:
            self.transport.write(self._message)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(ConnectionError("the server hung up"))


async def embeds(ports: list[int], clients: int, rounds: int, seconds: float) -> list[list[float]]:
    """Embeddings a second in each round, by server."""
    return await rates(ports, EMBED, clients, rounds, seconds)


async def rates(
    ports: list[int], message: bytes, clients: int, rounds: int, seconds: float
) -> list[list[float]]:
    """Answers a second in each round, by server, from clients that each keep a connection."""
    loop = asyncio.get_running_loop()
    until = 0.0

    def over() -> bool:
        return loop.time() >= until

    taken: list[list[float]] = [[] for _ in ports]
    for number in range(rounds + 1):
        for port, found in zip(ports, taken, strict=True):
            crowd = [Repeater(port, message, over) for _ in range(clients)]
            await asyncio.gather(*(each.connect() for each in crowd))
            began = loop.time()
            until = began + (seconds if number else WARM_UP_SECONDS)
            await asyncio.gather(*(each.repeat() for each in crowd))
            rate = sum(each.answered for each in crowd) / (loop.time() - began)
            for each in crowd:
                each.transport.close()
            if number:
                found.append(rate)
    return taken


async def trace(port: int, models: list[str], at: list[float]) -> list[float]:
    """Seconds from the first request to the end of each answer, in the order of the calls.

    Call number i asks for models[i] on a connection of its own, at[i] seconds after the first.
    """
    loop = asyncio.get_running_loop()
    callers = [Repeater(port, chat_with(model), lambda: True) for model in models]
    began = loop.time()
    ended = [0.0] * len(models)

    async def one(number: int) -> None:
        await asyncio.sleep(began + at[number] - loop.time())
        await callers[number].connect()  # not before: a server closes what only idles
        await callers[number].repeat()
        ended[number] = loop.time() - began

    await asyncio.gather(*(one(number) for number in range(len(models))))
    return ended


def chat_with(model: str) -> bytes:
    """A non-streamed chat with this model."""
    return request("/api/chat", CHAT.replace(b"fast", model.encode()) % b"false")


def play(scenarios: Mapping[str, Callable[..., object]]) -> None:
    """Run the scenario named on the command line: its arguments on stdin, its result on stdout."""
    arguments = msgspec.json.decode(sys.stdin.buffer.read())
    measured = scenarios[sys.argv[1]](**arguments)
    if inspect.iscoroutine(measured):
        measured = asyncio.run(measured)
    sys.stdout.buffer.write(msgspec.json.encode(measured))


if __name__ == "__main__":
    play({"calls": calls, "streams": streams, "embeds": embeds, "trace": trace})
