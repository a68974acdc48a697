"""Twenty thousand connections from the fuzzer, against a server in a process of its own."""

import json
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from tests.edge.fuzzer import fuzz

CONNECTIONS = 20_000
SERVER = Path(__file__).with_name("process.py")
ROOT = Path(__file__).parents[2]
GET = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


@contextmanager
def _server(*limit: str) -> Generator[tuple[subprocess.Popen[str], int]]:
    """A process that serves the echo app, and its port."""
    command = [sys.executable, str(SERVER), *limit]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout
        try:
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


def _end(process: subprocess.Popen[str]) -> dict[str, int]:
    """Stop the server once every connection has gone; what it counted."""
    said, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    return dict(json.loads(said))


async def _ask(port: int) -> bytes:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(GET)
        return b"".join([data async for data in stream])


async def test_twenty_thousand_fuzzed_connections_leave_the_server_as_it_was() -> None:
    with trio.fail_after(120), _server() as (process, port):
        answered = await fuzz("127.0.0.1", port, CONNECTIONS, seed=20)
        assert answered > CONNECTIONS / 4, "the fuzzer talks past the server"
        assert (await _ask(port)).startswith(b"HTTP/1.1 200 ")
        assert _end(process) == {"errors": 0}


@pytest.mark.parametrize("limited", ["before", "after"])
async def test_a_flood_beyond_the_descriptor_limit_passes(limited: str) -> None:
    """`after`: the server believes in more descriptors than there are, so that accept fails."""
    with trio.fail_after(30), _server("120", limited) as (process, port):
        flood = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(300)]
        for stream in flood:
            stream.socket.close()
        assert (await _ask(port)).startswith(b"HTTP/1.1 200 ")
        assert _end(process) == {"errors": 0 if limited == "before" else 1}
