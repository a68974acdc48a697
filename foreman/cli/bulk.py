"""`foreman submit --file`: many jobs, a line each, in batches that can be sent again."""

import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import typer

from foreman.cli.connection import NDJSON, Daemon, Lost, Refused, Silent, Unreachable, decode
from foreman.cli.exits import Ended, Exit
from foreman.cli.outage import Outage
from foreman.cli.progress import counted
from foreman.cli.submit import ask_of, safely
from foreman.cli.terminal import say

# A batch is answered while it is sent. It is small enough that all of the answer fits into the
# buffers on the way, so neither side ever waits for the other to read.
BATCH_LINES = 200
BATCH_BYTES = 256 * 1024
BUSY = 503


@dataclass(frozen=True, slots=True)
class Plan:
    """What every line gets where it does not say otherwise."""

    terms: dict[str, Any]
    endpoint: str
    model: str | None
    key: str  # a line's own is this and its number
    plain: bool  # the lines are prompts, not JSON


@dataclass(frozen=True, slots=True)
class Line:
    """A job to submit, from line `number` of the input."""

    number: int
    document: bytes


class _Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of the answer of POST /jobs/bulk."""

    line: int
    status: int
    job: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


def submit(daemon: Daemon, source: Path, plan: Plan, *, as_json: bool) -> None:
    """Print an id for each job accepted, or the daemon's line; refusals go to standard error.

    Raises Ended (REFUSED) if a line was refused, Unreachable, Refused.
    """
    with _opened(source) as file:
        lines = counted(_lines(file, plan), "submitting", _count(file))
        accepted = again = refused = 0
        for batch in _batches(lines):
            for reply in _sent(daemon, batch, plan.key):
                accepted += reply.status == 202
                again += reply.status == 200
                refused += reply.error is not None
                _print(reply, as_json=as_json)
    there = f", {again} of them were there already" if again else ""
    say(f"{accepted + again} accepted{there}; {refused} refused")
    if refused:
        raise Ended(Exit.REFUSED, f"{refused} lines were refused")


def _document(number: int, text: bytes, plan: Plan) -> bytes:
    """POST /jobs' object for a line. Raises Refused."""
    if plan.plain:
        prompt = text.decode("utf-8", "replace")
        given: dict[str, Any] = {"request": ask_of(plan.model or "", prompt, plan.endpoint)}
    else:
        given = decode_line(number, text)
        if plan.model:
            given["request"] = {"model": plan.model} | given.get("request", {})
    labels = plan.terms.get("labels", {}) | given.get("labels", {})
    whole = {"endpoint": plan.endpoint, "idempotency_key": f"{plan.key}-{number}"}
    whole |= plan.terms | given | ({"labels": labels} if labels else {})
    return msgspec.json.encode(whole)


def decode_line(number: int, text: bytes) -> dict[str, Any]:
    """A line's object. Raises BadParameter: nothing after it is sent."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (UnicodeDecodeError, msgspec.MsgspecError) as error:
        raise typer.BadParameter(f"line {number} is not a job: {error}") from None


def _lines(file: BinaryIO, plan: Plan) -> Iterator[Line]:
    for number, text in enumerate(file, start=1):
        if text.strip():
            yield Line(number, _document(number, text.strip(), plan))


def _batches(lines: Iterable[Line]) -> Iterator[list[Line]]:
    batch: list[Line] = []
    size = 0
    for line in lines:
        if batch and (len(batch) == BATCH_LINES or size + len(line.document) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(line)
        size += len(line.document)
    if batch:
        yield batch


def _sent(daemon: Daemon, batch: Sequence[Line], key: str) -> list[_Reply]:
    """The replies, numbered as the input is. Every line has a key: sending it again is safe."""
    body = b"".join(line.document + b"\n" for line in batch)
    outage = Outage()
    while True:
        try:
            answer = daemon.post("/jobs/bulk", body, {"Content-Type": NDJSON}, patience=60)
            return _numbered(answer, batch)
        except Silent as error:
            raise Silent(f"{error}; {safely(key)}") from None
        except (Unreachable, Refused) as error:
            outage.struck(error)


def _numbered(answer: bytes, batch: Sequence[Line]) -> list[_Reply]:
    """Raises Lost unless every line was judged; BUSY is no judgement."""
    replies = [decode(line, _Reply) for line in answer.splitlines() if line.strip()]
    judged = sum(reply.status != BUSY for reply in replies)
    if judged != len(batch):
        raise Lost(f"the daemon has taken {judged} of {len(batch)} lines")
    return [msgspec.structs.replace(reply, line=batch[reply.line - 1].number) for reply in replies]


def _print(reply: _Reply, *, as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.encode(reply))
    elif reply.job is not None:
        typer.echo(reply.job.get("id"))
    if reply.error is not None:
        detail = reply.error.get("detail") or reply.error.get("title")
        say(f"line {reply.line}: {reply.status} {detail}")


@contextmanager
def _opened(source: Path) -> Generator[BinaryIO]:
    """Raises BadParameter."""
    if str(source) == "-":
        yield sys.stdin.buffer
        return
    try:
        file = source.open("rb")
    except OSError as error:
        raise typer.BadParameter(f"{source}: {error.strerror}") from None
    with file:
        yield file


def _count(file: BinaryIO) -> int | None:
    """How many jobs it holds; None for a pipe, which can be read but once."""
    if not file.seekable():
        return None
    count = sum(1 for line in file if line.strip())
    file.seek(0)
    return count
