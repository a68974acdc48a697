"""GET /jobs/{id}/output: a durable job's answer record by record, from any record on.

From the disk once the job is done, along with the worker while it runs, and before that it waits.
A stream that ends properly is all of the result; one that is cut came to nothing, and the next
run starts anew.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from foreman.api.exchange import Exchange
from foreman.api.kept_results import BLOCK, Found, find, opened
from foreman.api.parameters import given, wrong
from foreman.api.ports import Desk
from foreman.api.problems import Problem
from foreman.api.replies import NDJSON
from foreman.executor import Executor
from foreman.jobs import JobClass, State
from foreman.live_output import Abandoned, LiveOutput, RunId, run_of
from foreman.records import splitter

More = Callable[[int], Awaitable[bytes]]
"""What follows the first so many bytes; nothing at the end. Raises Abandoned."""


@dataclass(frozen=True, slots=True)
class OutputQuery:
    """From which record on, and of which run: an attempt, a RunId as text, or the current one."""

    start: int = 0
    run: str | None = None


def parse(query: bytes) -> OutputQuery:
    """The query string's meaning. Raises Problem."""
    asked = given(query, ("from", "attempt"))
    run = asked.get("attempt")
    for part in (run or "0").split(".", 1):
        _number("attempt", part)
    return OutputQuery(_number("from", asked.get("from", "0")), run)


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise wrong(name, text, "write a number, 0 or more")
    return int(text)


async def send_output(
    exchange: Exchange, desk: Desk, execute: Executor, job: str, owner: str | None
) -> None:
    """Answer it. Raises Problem while nothing has been sent."""
    asked = parse(exchange.query)
    while True:
        seen = desk.tail.head  # before the look: what is committed after it wakes us
        found = await find(desk, job, owner)
        run = _current(found, asked)
        if found.row.state is State.DONE:
            await _from_disk(exchange, desk, execute, found, asked.start)
            return
        live = desk.live.of(found.row.id, run)
        if live is not None:
            stream = _Stream(exchange, run, asked.start)
            if await _along(stream, live):
                return
        elif await desk.tail.moved(seen, found.row.id) is None:
            raise Problem(503, "stopping", "foreman is shutting down", headers=[_RETRY])


_RETRY = ("retry-after", "5")


def _current(found: Found, asked: OutputQuery) -> RunId:
    """The run whose output this is. Raises Problem when there is none, or not the one asked for."""
    row = found.row
    if row.job_class is JobClass.INTERACTIVE:
        raise Problem(404, "not_kept", "its client got the answer; only durable jobs keep one")
    if row.state is State.FAILED:
        raise Problem(409, "job_failed", f"{row.error_code}: {row.error_message}")
    run = run_of(row)
    if asked.run is not None and not run.is_meant_by(asked.run):
        raise Problem(409, "attempt_over", f"run {asked.run} is over; the current one is {run}")
    return run


async def _from_disk(
    exchange: Exchange, desk: Desk, execute: Executor, found: Found, start: int
) -> None:
    [artifact] = found.artifacts
    async with opened(desk, execute, found.row.id, artifact) as body:
        stream = _Stream(exchange, run_of(found.row), start)
        await stream.pump(artifact.content_type, partial(body.read, count=BLOCK))


async def _along(stream: "_Stream", live: LiveOutput) -> bool:
    """Follow a run to its end; False when it broke off before anything of it was sent."""
    try:
        first = await live.more(0)
        await stream.pump(live.content_type, live.more, first)
    except Abandoned:
        return stream.begun  # and then the stream is cut here
    return True


class _Stream:
    """The records of one run on their way to one client, from record `start` on."""

    def __init__(self, exchange: Exchange, run: RunId, start: int) -> None:
        self._exchange = exchange
        self._run = run
        self._skip = start
        self.begun = False

    async def pump(self, content_type: str, more: More, chunk: bytes | None = None) -> None:
        """Send everything, and the end."""
        splitting = splitter(content_type)
        seen = 0
        chunk = await more(0) if chunk is None else chunk
        while chunk:
            seen += len(chunk)
            await self._send(splitting.feed(chunk))
            chunk = await more(seen)
        await self._send(splitting.end())
        await self._begin()
        await self._exchange.finish()

    async def _send(self, records: list[bytes]) -> None:
        wanted = records[self._skip :]
        self._skip -= min(self._skip, len(records))
        if wanted:
            await self._begin()
            await self._exchange.write(b"\n".join([*wanted, b""]))

    async def _begin(self) -> None:
        if not self.begun:
            self.begun = True
            run = (b"x-foreman-attempt", str(self._run).encode())
            await self._exchange.start(200, [NDJSON, run])
