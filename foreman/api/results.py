"""What durable jobs left behind, streamed: artifacts as they are, output record by record.

On the raw exchange and not in the Quart app: an answer that breaks off midway must be seen to.
"""

import logging

from foreman.api.byte_ranges import NotModified, Part, Unsatisfiable, Whole, choose
from foreman.api.exchange import BodyTooLarge, BodyTooSlow, Exchange
from foreman.api.kept_results import BLOCK, Body, find, opened
from foreman.api.output import send_output
from foreman.api.ports import Desk
from foreman.api.problems import Problem, store_problem
from foreman.api.submissions import refuse
from foreman.errors import StoreError
from foreman.executor import Executor, threaded
from foreman.rows import Artifact
from foreman.wire import Header

log = logging.getLogger("foreman.results")

READERS = 4  # reads from artifacts' files at a time; a slow disk holds up other downloads only
MOST_BODY = 65536  # bytes of a body that nobody needs
BODY_TIMEOUT = 5.0  # seconds for it


class Results:
    """Answers GET /jobs/{id}/artifacts/{name} and GET /jobs/{id}/output."""

    def __init__(self, desk: Desk, execute: Executor | None = None) -> None:
        self._desk = desk
        self._execute = execute or threaded(READERS)

    async def handle(self, exchange: Exchange, owner: str | None) -> None:
        """Answer it; `owner` None sees everybody's jobs. Left unfinished, the exchange is cut."""
        try:
            await self._answer(exchange, owner)
        except Problem as problem:
            if not exchange.committed:
                await refuse(exchange, problem)
        except StoreError as error:
            log.error("%s: %s", exchange.path, error)
            if not exchange.committed:
                await refuse(exchange, store_problem(error))

    async def _answer(self, exchange: Exchange, owner: str | None) -> None:
        await _without_body(exchange)
        match exchange.path.split("/"):
            case ["", "jobs", job, "output"]:
                await send_output(exchange, self._desk, self._execute, job, owner)
            case ["", "jobs", job, "artifacts", name]:
                await self._send_artifact(exchange, job, name, owner)
            case _:
                raise AssertionError("the table of routes says otherwise")

    async def _send_artifact(
        self, exchange: Exchange, job: str, name: str, owner: str | None
    ) -> None:
        found = await find(self._desk, job, owner)
        artifact = next((each for each in found.artifacts if each.name == name), None)
        if artifact is None:
            raise Problem(404, "artifact_not_found", f"job {job} has no artifact {name}")
        async with opened(self._desk, self._execute, found.row.id, artifact) as body:
            await _send(exchange, artifact, body)


async def _without_body(exchange: Exchange) -> None:
    """Read what nobody needs: only after it the client's leaving is noticed."""
    try:
        await exchange.body(MOST_BODY, BODY_TIMEOUT)
    except (BodyTooLarge, BodyTooSlow) as error:
        raise Problem(400, "bad_body", "a GET needs no body") from error


async def _send(exchange: Exchange, artifact: Artifact, body: Body) -> None:
    etag, size = f'"{artifact.sha256.hex()}"', artifact.size
    headers: list[Header] = [
        (b"etag", etag.encode()),
        (b"accept-ranges", b"bytes"),
        (b"content-type", artifact.content_type.encode("latin-1")),
        (b"x-content-type-options", b"nosniff"),
    ]
    match choose(exchange.header, etag, size):
        case NotModified():
            await exchange.start(304, headers[:2])
            await exchange.finish()
        case Part(start, end) if exchange.method == "GET":
            span = (b"content-range", b"bytes %d-%d/%d" % (start, end - 1, size))
            await _copy(exchange, 206, [*headers, span], body, start, end)
        case Unsatisfiable() if exchange.method == "GET":
            everything = [("content-range", f"bytes */{size}")]
            text = f"{artifact.name} has {size} bytes"
            raise Problem(416, "range_not_satisfiable", text, headers=everything)
        case Whole() | Part() | Unsatisfiable():
            await _copy(exchange, 200, headers, body, 0, size)


async def _copy(
    exchange: Exchange, status: int, headers: list[Header], body: Body, start: int, end: int
) -> None:
    """Send this part of the body; where the disk gives less than it promised, the rest is cut."""
    await exchange.start(status, [*headers, (b"content-length", b"%d" % (end - start))])
    while start < end and exchange.method == "GET":
        block = await body.read(start, min(BLOCK, end - start))
        if not block:
            return
        await exchange.write(block)
        start += len(block)
    await exchange.finish()
