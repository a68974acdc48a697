"""Subscribers of a real daemon: both transports, resuming, the stop, and clients that misbehave."""

import json
import socket
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from tests.conftest import StartDaemon
from tests.e2e.processes import chat, until, upstream
from tests.fakes.daemon import Daemon, connected, spawned

STATES = ["queued", "loading", "working", "done"]
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10  # opcodes of RFC 6455
LONG_LABELS = {f"label-{number}": "x" * 256 for number in range(32)}  # some 8 KiB an event


@asynccontextmanager
async def subscribed(url: str, target: str) -> AsyncGenerator[WebSocketConnection]:
    """A websocket on a socket that is closed in any case, which trio-websocket leaves open."""
    at = httpx.URL(url)
    stream = await trio.open_tcp_stream(at.host, at.port or 80)
    async with stream, trio.open_nursery() as nursery:
        yield await wrap_client_stream(nursery, stream, at.host, target)
        nursery.cancel_scope.cancel("the test has seen enough")


async def submit(foreman: Daemon, count: int = 1, **fields: Any) -> list[str]:
    body = {"request": chat(stream=False), **fields}
    return [(await foreman.client.post("/jobs", json=body)).json()["id"] for _ in range(count)]


async def lines(foreman: Daemon, target: str) -> list[Any]:
    answer = await foreman.client.get(target)
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


async def messages(url: str, target: str) -> tuple[list[Any], int]:
    """All that a websocket is told, and the code it is closed with."""
    told: list[Any] = []
    async with subscribed(url, target) as websocket:
        try:
            while True:
                told.append(json.loads(await websocket.get_message()))
        except ConnectionClosed as closed:
            assert closed.reason is not None
            return told, closed.reason.code


class RawWebsocket:
    """A client that does exactly what it is told, and answers nothing by itself."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._received = bytearray()
        self.head = b""

    async def open(self, *headers: str, target: str = "/events") -> None:
        request = [
            f"GET {target} HTTP/1.1",
            *(() if any(each.startswith("Host:") for each in headers) else ("Host: 127.0.0.1",)),
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            *headers,
        ]
        await self._stream.send_all("\r\n".join([*request, "", ""]).encode())
        while b"\r\n\r\n" not in self._received:
            await self._more()
        head, _, rest = self._received.partition(b"\r\n\r\n")
        self.head, self._received = bytes(head), rest

    @property
    def status(self) -> int:
        return int(self.head.split()[1])

    async def send(self, opcode: int, payload: bytes, *, last: bool = True) -> None:
        await self._stream.send_all(frame(opcode, payload, last=last))

    async def send_raw(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def receive(self) -> tuple[int, bytes]:
        """The next frame. Raises EOFError when the server has closed the connection."""
        while (found := _first_frame(self._received)) is None:
            await self._more()
        opcode, payload, size = found
        del self._received[:size]
        return opcode, payload

    async def closed_with(self) -> int | None:
        """Read on to the end; the code of the close frame, None where there was none."""
        try:
            while True:
                opcode, payload = await self.receive()
                if opcode == CLOSE:
                    return int.from_bytes(payload[:2])
        except EOFError:
            return None

    async def ended(self) -> None:
        """Return when the server has closed the connection."""
        try:
            while await self._stream.receive_some():
                pass
        except trio.BrokenResourceError:
            pass

    async def _more(self) -> None:
        try:
            data = await self._stream.receive_some()
        except trio.BrokenResourceError:
            data = b""
        if not data:
            raise EOFError
        self._received += data


def frame(opcode: int, payload: bytes, *, last: bool = True) -> bytes:
    """A client's frame, its mask all zeroes."""
    length = len(payload)
    if length < 126:
        size = bytes([0x80 | length])
    elif length < 1 << 16:
        size = bytes([0x80 | 126]) + struct.pack("!H", length)
    else:
        size = bytes([0x80 | 127]) + struct.pack("!Q", length)
    return bytes([0x80 * last | opcode]) + size + bytes(4) + payload


def _first_frame(data: bytearray) -> tuple[int, bytes, int] | None:
    if len(data) < 2:
        return None
    start, length = 2, data[1]
    if length == 126:
        start, length = 4, int.from_bytes(data[2:4])
    elif length == 127:
        start, length = 10, int.from_bytes(data[2:10])
    if len(data) < start + length:
        return None
    return data[0] & 0x0F, bytes(data[start : start + length]), start + length


@asynccontextmanager
async def raw(foreman: Daemon, receive_buffer: int | None = None) -> AsyncGenerator[RawWebsocket]:
    plain = trio.socket.socket()
    if receive_buffer is not None:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    await plain.connect(("127.0.0.1", foreman.port))
    async with trio.SocketStream(plain) as stream:
        yield RawWebsocket(stream)


async def test_a_jobs_states_arrive_in_order_and_then_the_websocket_is_closed(
    daemon: StartDaemon,
) -> None:
    async with daemon() as foreman:
        foreman.engine.tokens.close()
        [job] = await submit(foreman)
        await foreman.engine.tokens.holds()
        told: list[Any] = []
        async with subscribed(foreman.url, f"/jobs/{job}/events") as websocket:
            while len(told) < 3:
                told.append(json.loads(await websocket.get_message()))
            foreman.engine.tokens.open()
            told.append(json.loads(await websocket.get_message()))
            with pytest.raises(ConnectionClosed) as closed:
                await websocket.get_message()
        assert [event["state"] for event in told] == STATES
        assert [event["n"] for event in told] == [1, 2, 3, 4]
        assert closed.value.reason is not None
        assert closed.value.reason.code == 1000
        assert await lines(foreman, f"/jobs/{job}/events") == told


async def test_it_resumes_at_every_seq_on_either_transport_before_and_after_a_restart(
    daemon: StartDaemon,
) -> None:
    """C59: every seq, 0, ahead of the head, not a number."""
    async with daemon() as foreman:
        for job in await submit(foreman, 2):
            await foreman.job_ended(job)
        log = await check_every_cursor(foreman)
    async with daemon() as foreman:  # its memory of the log is empty
        assert await check_every_cursor(foreman) == log
        assert (await foreman.client.get("/events?after=x")).status_code == 400


async def check_every_cursor(foreman: Daemon) -> list[Any]:
    log = await lines(foreman, "/events?after=0&follow=0")
    assert [event["seq"] for event in log] == list(range(1, 9))
    for after in range(9):
        target = f"/events?after={after}&follow=0"
        assert await lines(foreman, target) == log[after:]
        assert await messages(foreman.url, target) == (log[after:], 1000)
    resync = {"type": "resync", "reason": "ahead", "after": 99, "first_seq": 1, "last_seq": 8}
    assert await lines(foreman, "/events?after=99") == [resync]
    assert await messages(foreman.url, "/events?after=99") == ([resync], 4409)
    return log


async def test_all_who_watch_one_job_see_all_of_it(daemon: StartDaemon) -> None:
    """C57: in small; the figures for thousands are the benchmark's."""
    async with daemon() as foreman:
        foreman.engine.tokens.close()
        [job] = await submit(foreman)
        told: list[tuple[list[Any], int]] = []

        async def watch() -> None:
            told.append(await messages(foreman.url, f"/jobs/{job}/events?after=0"))

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(watch)
            await foreman.engine.tokens.holds()
            foreman.engine.tokens.open()
        assert [[event["state"] for event in events] for events, _ in told] == [STATES] * 50


async def test_a_subscriber_that_stops_reading_is_cut_and_the_others_are_not(
    daemon: StartDaemon,
) -> None:
    """C58: it cannot be told, for it does not read; the log is there when it comes back."""
    async with daemon(write_stall=0.5, max_subscribers=2) as foreman:
        foreman.engine.tokens.close()
        async with raw(foreman, receive_buffer=4096) as stalled, trio.open_nursery() as nursery:
            await stalled.open()
            seen: list[int] = []

            async def read() -> None:
                async with foreman.client.stream("GET", "/events?after=0") as answer:
                    async for line in answer.aiter_lines():
                        seen.append(json.loads(line)["seq"])

            nursery.start_soon(read)
            await flood(foreman, 1000)
            await until(lambda: len(seen) >= 1000)
            await room_for_one(foreman)
            nursery.cancel_scope.cancel("it has seen enough")
        assert seen == list(range(1, len(seen) + 1))


async def flood(foreman: Daemon, count: int) -> None:
    """So many large events, from jobs that wait."""
    line = json.dumps({"request": chat(stream=False), "labels": LONG_LABELS}).encode() + b"\n"
    answer = await foreman.client.post("/jobs/bulk", content=line * count)
    assert answer.status_code == 200, answer.text


async def room_for_one(foreman: Daemon) -> None:
    """Return when one more may subscribe."""

    async def admitted() -> bool:
        return (await foreman.client.get("/events?follow=0")).status_code == 200

    await until(admitted)


async def test_a_slow_subscriber_is_closed_with_its_last_sequence(daemon: StartDaemon) -> None:
    """C58: slow, but still reading."""
    async with (
        daemon() as foreman,
        raw(foreman, receive_buffer=4096) as slow,
    ):
        foreman.engine.tokens.close()
        await slow.open()
        await flood(foreman, 1000)  # more than lies between it and the daemon
        for _ in range(5):
            body = json.dumps({"request": chat(stream=False)}).encode() + b"\n"
            await foreman.client.post("/jobs/bulk", content=body * 1200)
        last = 0
        while (received := await slow.receive())[0] != CLOSE:
            opcode, payload = received
            if opcode == TEXT:
                assert json.loads(payload)["seq"] == last + 1
                last += 1
        _, goodbye = received
        assert int.from_bytes(goodbye[:2]) == 1013
        assert goodbye[2:].decode() == f"too slow: resume with after={last}"


async def test_a_stop_closes_websockets_and_ends_lines_in_good_order(tmp_path: Path) -> None:
    async with upstream() as target, spawned(tmp_path, target.url) as foreman:
        async with (
            connected(foreman.url) as client,
            client.stream("GET", "/events") as answer,
            subscribed(foreman.url, "/events") as websocket,
        ):
            foreman.process.terminate()
            with pytest.raises(ConnectionClosed) as closed:
                await websocket.get_message()
            assert closed.value.reason is not None
            assert closed.value.reason.code == 1001
            assert await answer.aread() == b""  # complete: httpx would raise
        assert await foreman.process.wait() == 0


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (["Host: evil.example"], 403),
        (["Origin: http://evil.example"], 403),
        ([], 401),
        (["Authorization: Bearer wrong"], 401),
        (["Authorization: Bearer a-good-secret"], 101),
        (["X-Api-Key: a-good-secret"], 101),
        (["Authorization: Bearer a-good-secret", "Origin: http://localhost:3000"], 101),
    ],
)
async def test_the_gate_stands_before_the_websocket(
    daemon: StartDaemon, headers: list[str], status: int
) -> None:
    async with daemon(token="app:a-good-secret") as foreman, raw(foreman) as client:
        await client.open(*headers)
        assert client.status == status


async def test_a_websocket_elsewhere_is_refused(daemon: StartDaemon) -> None:
    async with daemon() as foreman:
        for target, status in (("/api/chat", 405), ("/queue", 400), ("/nowhere", 404)):
            async with raw(foreman) as client:
                await client.open(target=target)
                assert client.status == status


async def test_one_too_many_is_refused_before_it_is_accepted(daemon: StartDaemon) -> None:
    async with daemon(max_subscribers=1) as foreman:
        async with raw(foreman) as first, raw(foreman) as second:
            await first.open()
            await second.open()
            assert (first.status, second.status) == (101, 503)
            assert (await foreman.client.get("/events")).json()["code"] == "too_many_subscribers"
        await room_for_one(foreman)


async def test_what_a_client_says_is_ignored(daemon: StartDaemon) -> None:
    """C61: messages of up to 1 KiB, whole or in fragments of one byte."""
    async with daemon() as foreman, raw(foreman) as client:
        await client.open()
        for _ in range(50):
            await client.send(TEXT, b"x" * 1024)
        await client.send(TEXT, b"x", last=False)
        for _ in range(1000):
            await client.send(0, b"x", last=False)
        await client.send(0, b"x")
        await submit(foreman)
        while (received := await client.receive())[0] != TEXT:
            assert received[0] == PING
        assert json.loads(received[1])["seq"] == 1


@pytest.mark.parametrize(
    "data",
    [
        frame(TEXT, b"x" * 65536),
        frame(TEXT, b"x" * 1025),
        frame(TEXT, b"x", last=False) + 1024 * frame(0, b"x", last=False),
    ],
    ids=["64 KiB", "1 KiB and a byte", "fragments of a byte"],
)
async def test_a_message_too_large_closes_the_websocket(daemon: StartDaemon, data: bytes) -> None:
    """C61: closed by rule."""
    async with daemon() as foreman, raw(foreman) as client:
        await client.open()
        await client.send_raw(data)
        assert await client.closed_with() == 1009


async def test_a_flood_of_pings_is_answered_and_disturbs_nobody(daemon: StartDaemon) -> None:
    """C61."""
    async with (
        daemon() as foreman,
        raw(foreman) as flooding,
        raw(foreman) as other,
        trio.open_nursery() as nursery,
    ):
        await flooding.open()
        await other.open()
        pongs = 0

        async def flood() -> None:
            while True:
                await flooding.send_raw(1000 * frame(PING, b""))

        async def read() -> None:
            nonlocal pongs
            while True:
                pongs += (await flooding.receive())[0] == PONG

        nursery.start_soon(flood)
        nursery.start_soon(read)
        await until(lambda: pongs > 1000)
        await submit(foreman)
        while (received := await other.receive())[0] != TEXT:
            assert received[0] == PING
        nursery.cancel_scope.cancel("enough")


async def test_who_answers_no_ping_is_closed_and_who_does_is_not(daemon: StartDaemon) -> None:
    """C61: no pong."""
    async with (
        daemon(events_ping=0.2) as foreman,
        raw(foreman) as silent,
        raw(foreman) as answering,
        trio.open_nursery() as nursery,
    ):
        await silent.open()
        await answering.open()
        pings = 0

        async def answer() -> None:
            nonlocal pings
            while True:
                opcode, payload = await answering.receive()
                assert opcode == PING
                pings += 1
                await answering.send(PONG, payload)

        nursery.start_soon(answer)
        await silent.ended()
        await until(lambda: pings > 5)
        nursery.cancel_scope.cancel("enough")


async def test_an_offer_of_compression_is_not_taken_up(daemon: StartDaemon) -> None:
    """C61: so there is no deflate bomb."""
    async with daemon() as foreman, raw(foreman) as client:
        await client.open("Sec-WebSocket-Extensions: permessage-deflate")
        assert client.status == 101
        assert b"sec-websocket-extensions" not in client.head.lower()
        await client.send_raw(b"\xc1" + frame(TEXT, b"bomb")[1:])  # compressed all the same
        await client.ended()


async def test_a_client_that_says_goodbye_is_answered(daemon: StartDaemon) -> None:
    async with daemon() as foreman:
        async with subscribed(foreman.url, "/events") as websocket:
            await websocket.aclose(4000, "enough")
        assert websocket.closed is not None
