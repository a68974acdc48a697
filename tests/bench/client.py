"""The load clients: a program per scenario, so that nothing of them shares a core with the daemon.

`python -m tests.bench.client SCENARIO`, with its arguments as JSON on stdin and its measurements as
JSON on stdout. Every scenario goes round its servers in turn, so that all of them see the same
machine.
"""

import asyncio
import socket
import sys
from collections.abc import Callable
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


class Caller:
    """One keep-alive connection that blocks: nothing is leaner."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def call(self, message: bytes) -> tuple[float, float, Answer]:
        """When the request was sent, when the answer was complete, and the answer."""
        answer = Answer()
        began = perf_counter()
        self._socket.sendall(message)
        while True:
            data = self._socket.recv(READ)
            if answer.feed(data):
                return began, perf_counter(), good(answer)
            if not data:
                raise ConnectionError("the server hung up within an answer")


def good(answer: Answer) -> Answer:
    """The answer, which has to be a 200: a fast refusal is no result."""
    if answer.status != 200:
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
            found["gaps"] += [after - before for before, after in zip(arrivals, arrivals[1:])]
            found["lines"].append(len(arrivals))
            found["merged"] += answer.merged
    return seen


class Repeater(asyncio.Protocol):
    """Sends the same request again as soon as it is answered, until told to stop."""

    transport: asyncio.Transport

    def __init__(self, message: bytes, over: Callable[[], bool]) -> None:
        self._message = message
        self._over = over
        self._answer = Answer()
        self.answered = 0
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def begin(self) -> None:
        self.done = asyncio.get_running_loop().create_future()
        self.transport.write(self._message)

    def data_received(self, data: bytes) -> None:
        try:
            if not self._answer.feed(data):
                return
            good(self._answer)
        except RuntimeError as error:
            self.done.set_exception(error)
            return
        self._answer = Answer()
        self.answered += 1
        if self._over():
            self.done.set_result(None)
        else:
            self.transport.write(self._message)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(ConnectionError("the server hung up"))


async def embeds(
    ports: list[int], clients: int, rounds: int, seconds: float
) -> list[list[float]]:
    """Embeddings a second in each round, by server."""
    loop = asyncio.get_running_loop()
    until = 0.0

    def over() -> bool:
        return loop.time() >= until

    crowds = [[await connect(loop, port, over) for _ in range(clients)] for port in ports]
    rates: list[list[float]] = [[] for _ in ports]
    for number in range(rounds + 1):
        for crowd, found in zip(crowds, rates, strict=True):
            before = sum(each.answered for each in crowd)
            began = loop.time()
            until = began + (seconds if number else 0.2)
            for each in crowd:
                each.begin()
            await asyncio.gather(*(each.done for each in crowd))
            if number:
                answered = sum(each.answered for each in crowd) - before
                found.append(answered / (loop.time() - began))
    return rates


async def connect(
    loop: asyncio.AbstractEventLoop, port: int, over: Callable[[], bool]
) -> Repeater:
    """An open connection to an embedding server."""
    _, repeater = await loop.create_connection(
        lambda: Repeater(EMBED, over), "127.0.0.1", port
    )
    return repeater


async def trace(port: int, models: list[str], at: list[float]) -> list[float]:
    """Seconds from the first request to the end of each answer, in the order of the calls.

    Call number i asks for models[i] on a connection of its own, at[i] seconds after the first.
    """
    loop = asyncio.get_running_loop()
    bodies = [CHAT.replace(b"fast", model.encode()) % b"false" for model in models]
    callers = [
        (await loop.create_connection(lambda: Repeater(message, lambda: True), "127.0.0.1", port))[1]
        for message in (request("/api/chat", body) for body in bodies)
    ]
    began = loop.time() + 0.05
    ended: list[float] = [0.0] * len(models)

    async def one(number: int) -> None:
        await asyncio.sleep(began + at[number] - loop.time())
        callers[number].begin()
        await callers[number].done
        ended[number] = loop.time() - began

    await asyncio.gather(*(one(number) for number in range(len(models))))
    return ended


def main() -> None:
    """Run the scenario named on the command line."""
    arguments = msgspec.json.decode(sys.stdin.buffer.read())
    match sys.argv[1]:
        case "calls":
            measured: object = calls(**arguments)
        case "streams":
            measured = streams(**arguments)
        case "embeds":
            measured = asyncio.run(embeds(**arguments))
        case "trace":
            measured = asyncio.run(trace(**arguments))
        case unknown:
            sys.exit(f"no such scenario: {unknown}")
    sys.stdout.buffer.write(msgspec.json.encode(measured))


if __name__ == "__main__":
    main()
