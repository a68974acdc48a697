"""A seeded raw-socket fuzzer: what may come in over a socket, and a great deal of it.

    await fuzz("127.0.0.1", 8080, connections=20_000, seed=1)

One seed makes one sequence of connections; only their interleaving differs from run to run. It
asserts nothing: the server it is pointed at, any foreman, is the one to look at afterwards.
"""

from collections.abc import Callable
from contextlib import suppress
from random import Random

import trio

from tests.edge.handshakes import FATAL, HANDSHAKE

CONCURRENCY = 96  # open connections: enough to interleave, few enough for any descriptor limit
PATIENCE = 0.25  # s to wait for an answer, which some inputs never get; many times what one takes

PATHS = (b"/", b"/api/tags", b"/api/chat", b"/api/embed", b"/v1/models", b"/jobs", b"/events")
METHODS = (b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"PRI", b"get", b"G\xc9T", b"")
FIELDS = (
    b"Content-Length: 5",
    b"Content-Length: 99999999999999999999",
    b"Content-Length: -1",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: identity",
    b"Connection: close",
    b"Connection: Upgrade, HTTP2-Settings",
    b"Connection: \xff",
    b"Upgrade: h2c",
    b"Upgrade: websocket",
    b"Expect: 100-continue",
    b"Sec-WebSocket-Key: \x80",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Version: 99",
    b"Sec-WebSocket-Protocol: a, \xc3\xa9",
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=99",
    b"Host: \x00",
    b" folded",
    b"no colon",
    b"X: " + b"x" * 20_000,
)
BODIES = (b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"zz\r\n", b"{", b"\x00" * 100, b"x" * 40_000)
LINE_ENDS = (b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r")
ACCEPTABLE = HANDSHAKE + b"\r\n"
CORPUS = (*FATAL.values(), ACCEPTABLE, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")


async def fuzz(host: str, port: int, connections: int, seed: int) -> int:
    """Open `connections` of them, bad ones for the most part; the number that were answered."""
    work = [Random(f"{seed}/{n}") for n in range(connections)]
    answered = 0

    async def attack() -> None:
        nonlocal answered
        while work:
            heard = await _converse(host, port, work.pop())
            answered += heard  # not `+= await`, which adds to what was there before

    async with trio.open_nursery() as nursery:
        for _ in range(CONCURRENCY):
            nursery.start_soon(attack)
    return answered


async def _converse(host: str, port: int, random: Random) -> bool:
    """One connection: say something, in pieces, perhaps listen, and leave in some way."""
    answer = b""
    socket = trio.socket.socket()
    with socket, suppress(OSError):
        await socket.connect((host, port))
        data = random.choice(INPUTS)(random)
        if data.startswith(ACCEPTABLE) and random.random() < 0.8:
            await socket.send(ACCEPTABLE)  # most frames should find a websocket that is open
            data = data.removeprefix(ACCEPTABLE)
            with trio.move_on_after(PATIENCE):
                answer = await socket.recv(65536)
        for piece in _pieces(random, data):
            await socket.send(piece)
        if random.random() < 0.2:
            socket.shutdown(trio.socket.SHUT_WR)
        if random.random() < 0.8:
            with trio.move_on_after(PATIENCE):
                answer += await socket.recv(65536)
        if random.random() < 0.3:
            reset = (1).to_bytes(4, "little") + bytes(4)
            socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, reset)
    return bool(answer)


def _pieces(random: Random, data: bytes) -> list[bytes]:
    cuts = sorted(random.randrange(len(data) + 1) for _ in range(random.choice((0, 0, 0, 1, 3))))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def _noise(random: Random) -> bytes:
    return random.randbytes(random.randrange(200))


def _request(random: Random) -> bytes:
    start = b" ".join((random.choice(METHODS), random.choice(PATHS), b"HTTP/1.1"))
    fields = random.choices(FIELDS, k=random.randrange(5))
    end = random.choice(LINE_ENDS)
    return end.join((start, b"Host: a", *fields, b"", b"")) + random.choice(BODIES)


def _mutant(random: Random) -> bytes:
    """A good or a fatal request with a few bytes changed, doubled or lost."""
    data = bytearray(random.choice(CORPUS))
    for _ in range(random.randrange(1, 6)):
        place = random.randrange(len(data))
        kind = random.randrange(3)
        if kind == 0:
            data[place] = random.randrange(256)
        elif kind == 1:
            data[place:place] = data[place : place + random.randrange(40)]
        else:
            del data[place : place + random.randrange(1, 5)]
    return bytes(data)


def _handshake(random: Random) -> bytes:
    fields = random.choices(FIELDS, k=random.randrange(3))
    return HANDSHAKE + b"".join(f + b"\r\n" for f in fields) + b"\r\n" + random.choice(BODIES)


def _frames(random: Random) -> bytes:
    """A good handshake, then frames that need not be."""
    frames = bytearray()
    for _ in range(random.randrange(1, 5)):
        opcode = random.choice((0, 1, 2, 3, 8, 9, 10, 15)) | random.choice((0, 0x80, 0x80, 0xC0))
        payload = random.randbytes(random.randrange(125))
        length = random.choice((len(payload), len(payload), 126, 127)) | 0x80
        frames += bytes((opcode, length)) + bytes(4) + payload
    return ACCEPTABLE + bytes(frames)


def _fatal(random: Random) -> bytes:
    return random.choice(CORPUS)


INPUTS: tuple[Callable[[Random], bytes], ...] = (
    _noise,
    _request,
    _request,
    _mutant,
    _handshake,
    _frames,
    _fatal,
)
