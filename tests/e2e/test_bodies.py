"""Bodies that are too large or too slow: refused early, and cheaply."""

from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from tests.conftest import StartDaemon
from tests.e2e.processes import raw, upstream
from tests.fakes.daemon import spawned

MIB = 1 << 20
HEAD = b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def resident(pid: int) -> int:
    """Bytes of memory that a process holds."""
    return int(psutil.Process(pid).memory_info().rss)


async def test_a_declared_gigabyte_is_refused_before_any_of_it_is_read(
    daemon: StartDaemon,
) -> None:
    async with daemon() as foreman:
        answer = await raw(foreman.url, [HEAD + b"Content-Length: %d\r\n\r\n" % (1024 * MIB)])
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'{"error":' in answer


async def test_a_chunked_gigabyte_is_refused_at_the_limit_and_costs_little_memory(
    tmp_path: Path,
) -> None:
    sent = 0

    def gigabyte() -> Iterator[bytes]:
        nonlocal sent
        yield HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
        for _ in range(1024):
            sent += 1
            yield b"%x\r\n%s\r\n" % (MIB, b"x" * MIB)

    async with upstream() as target, spawned(tmp_path, target.url, max_body="8MiB") as foreman:
        before = resident(foreman.process.pid)
        answer = await raw(foreman.url, gigabyte())
        grown = resident(foreman.process.pid) - before
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert sent < 64
    assert grown < 8 * MIB + 16 * MIB


async def test_a_body_that_does_not_come_is_given_up(daemon: StartDaemon) -> None:
    async with daemon(body_timeout=0.2) as foreman:
        answer = await raw(foreman.url, [HEAD + b"Content-Length: 100\r\n\r\n{"])
    assert answer.startswith(b"HTTP/1.1 408 ")
