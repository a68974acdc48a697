"""One attempt at one job: load the model, send the request, relay the bytes, judge the end.

`attempt` does the talking and returns an Outcome; `settle` decides, as a pure function, what that
outcome means for a job of a given class. Neither knows the queue or the database.
"""

import math
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

import trio

from foreman.errors import Phase, TargetError, TargetSilent
from foreman.jobs import FailureCode, JobClass, Requeue
from foreman.streams import Scanner, Verdict, error_text_of, scanner
from foreman.target import Answer, Target
from foreman.wire import (
    Dialect,
    Request,
    ResponseEnd,
    ResponseFailed,
    ResponseHead,
    ResponsePart,
    ResponseWhole,
)

HELD = 1 << 20  # bytes of an answer in one object that are kept to leave together
ERROR_BODY = 1 << 20  # bytes of an error answer that are read for its text
PROBE_TIMEOUT = 5.0  # seconds to answer /api/version; a target that cannot is away


@dataclass(frozen=True, slots=True)
class SilenceLimits:
    """How long the target may say nothing, by phase, and how long a job may take; in seconds."""

    load: float
    first_byte: float
    gap: float
    job: float


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be done: `load` first, where the model may not be there, then `request`.

    `last_try`: the connection broke under it often enough. If it does so once more, although the
    target is there, that is the request's doing.
    """

    request: Request
    dialect: Dialect
    streamed: bool
    load: Request | None
    last_try: bool = False


class Sink(Protocol):
    """Where the answer goes: a waiting client, or the store."""

    async def __call__(self, part: ResponsePart, /) -> None: ...


class Loaded(Protocol):
    """Told once, when the model is in and the request goes out."""

    async def __call__(self, load_s: float | None, /) -> None: ...


class End(Enum):
    """The ways an attempt ends."""

    DONE = auto()
    REFUSED = auto()  # a 4xx: asking again would not help
    FAILED = auto()  # a 5xx, an error line, a broken or unreadable stream, a limit
    LOST = auto()  # the target went away before it answered: not the job's fault


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended. `text` is for people; `verdict` what the stream said of itself."""

    end: End
    code: FailureCode | None = None
    text: str = ""
    verdict: Verdict | None = None
    retry_after: float | None = None  # seconds, from the target


async def attempt(
    target: Target, work: Work, sink: Sink, limits: SilenceLimits, loaded: Loaded
) -> Outcome:
    """Run `work` once. Everything the target can do wrong is an Outcome, not an exception.

    The sink gets the head, the bytes and the end; when the answer fails before a head was sent it
    gets nothing (LOST) or one ResponseFailed. What the sink raises passes through.
    """
    relay = _Relay(sink)
    try:
        with silence("job", limits.job):
            if work.load is not None:
                refusal = await _load(target, work.load, limits.load, loaded)
                if refusal is not None:
                    await sink(ResponseFailed(500, refusal))
                    return Outcome(End.FAILED, FailureCode.TARGET_ERROR, refusal)
            else:
                await loaded(None)
            return await _run(target, work, relay, limits)
    except TargetSilent as silent:
        return await _went_silent(target, relay, silent)
    except TargetError as lost:
        if not relay.begun and not (work.last_try and await answers(target)):
            return Outcome(End.LOST, text=str(lost))
        await sink(ResponseFailed(502, f"the target broke off: {lost}"))
        return Outcome(End.FAILED, FailureCode.TRUNCATED, str(lost))


@contextmanager
def silence(phase: Phase, seconds: float) -> Generator[trio.CancelScope]:
    """Raise TargetSilent(phase) when the block's deadline, `seconds` from now, is reached."""
    with trio.move_on_after(seconds) as scope:
        yield scope
    if scope.cancelled_caught:
        raise TargetSilent(phase, seconds)


class _Relay:
    """Passes parts on and remembers whether the target has begun to answer.

    An answer that is held goes out in one part at its end, or in pieces once it is too large.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._head: ResponseHead | None = None
        self._body = bytearray()
        self.begun = False

    def hold(self, head: ResponseHead) -> None:
        """Keep the head, and what follows, until the end."""
        self.begun = True
        self._head = head

    async def __call__(self, part: ResponsePart) -> None:
        self.begun = True
        if self._head is None:
            await self._sink(part)
        elif isinstance(part, bytes):
            self._body += part
            if len(self._body) > HELD:
                await self._release()
        else:
            head, self._head = self._head, None
            complete = isinstance(part, ResponseEnd)
            await self._sink(ResponseWhole(head, bytes(self._body)) if complete else part)

    async def _release(self) -> None:
        head, self._head = self._head, None
        assert head is not None
        await self._sink(head)
        await self._sink(bytes(self._body))


async def _load(target: Target, load: Request, limit: float, loaded: Loaded) -> str | None:
    """Bring the model in. Returns the target's text when it failed to.

    A 4xx is no failure here: the request itself will be refused, in the words of its own route.
    """
    began = trio.current_time()
    with silence("load", limit):
        answer, body = await target.fetch(load, ERROR_BODY)
    if answer.status >= 500:
        return error_text_of(body) or f"the target answered {answer.status} to a load"
    await loaded(trio.current_time() - began if answer.status < 400 else None)
    return None


async def _run(target: Target, work: Work, relay: _Relay, limits: SilenceLimits) -> Outcome:
    # Without streaming the first byte comes with the last: only the job's own limit applies.
    patience = limits.first_byte if work.streamed else limits.job
    with silence("first_byte", patience) as waiting:
        async with target.send(work.request) as answer:
            waiting.deadline = math.inf
            if 300 <= answer.status < 400:
                text = "the target answered with a redirect, which is never followed"
                await relay(ResponseFailed(502, text))
                return Outcome(End.FAILED, FailureCode.TARGET_ERROR, text)
            head = ResponseHead(answer.status, answer.headers)
            if answer.status >= 400:
                await relay(head)
                return await _refusal(answer, relay, limits)
            content_type = dict(answer.headers).get(b"content-type", b"")
            scan = scanner(work.dialect, content_type)
            if work.streamed:
                await relay(head)
            else:
                relay.hold(head)
            await _relay_body(answer, relay, scan, limits.gap)
            return await _judge(scan.verdict(), content_type, relay)


async def _relay_body(answer: Answer, relay: _Relay, scan: Scanner, gap: float) -> None:
    with silence("gap", gap) as between:
        async for chunk in answer.body:
            between.deadline = math.inf  # a slow reader is not the target's silence
            await relay(chunk)
            scan.feed(chunk)
            between.deadline = trio.current_time() + gap


async def _judge(verdict: Verdict, content_type: bytes, relay: _Relay) -> Outcome:
    if verdict.garbled is not None:
        await relay(ResponseEnd())
        return Outcome(End.FAILED, FailureCode.GARBLED, verdict.garbled, verdict)
    if verdict.error is not None:
        await relay(ResponseEnd())
        return Outcome(End.FAILED, FailureCode.TARGET_ERROR, verdict.error, verdict)
    if not verdict.complete and content_type.startswith(b"text/event-stream"):
        # Ollama loses its own mid-stream errors on /v1: the body just ends. Say so (ADR 0015).
        text = "the target ended the stream before it was complete"
        await relay(ResponseFailed(502, text))
        return Outcome(End.FAILED, FailureCode.TRUNCATED, text, verdict)
    await relay(ResponseEnd())
    return Outcome(End.DONE, verdict=verdict)


async def _refusal(answer: Answer, relay: _Relay, limits: SilenceLimits) -> Outcome:
    collected = bytearray()
    with silence("gap", limits.gap):
        async for chunk in answer.body:
            await relay(chunk)
            if len(collected) < ERROR_BODY:
                collected += chunk
    await relay(ResponseEnd())
    text = error_text_of(bytes(collected)) or f"the target answered {answer.status}"
    retry_after = _seconds(dict(answer.headers).get(b"retry-after", b""))
    if answer.status < 500 and answer.status != 429:
        return Outcome(End.REFUSED, FailureCode.TARGET_REFUSED, text)
    return Outcome(End.FAILED, FailureCode.TARGET_ERROR, text, retry_after=retry_after)


_PHASE_CODES: dict[Phase, FailureCode] = {
    "load": FailureCode.LOAD_TIMEOUT,
    "first_byte": FailureCode.FIRST_BYTE_TIMEOUT,
    "gap": FailureCode.GAP_TIMEOUT,
    "job": FailureCode.JOB_TIMEOUT,
}


async def _went_silent(target: Target, relay: _Relay, silent: TargetSilent) -> Outcome:
    """A limit ran out. A target that is asleep is not the job's fault; one that is awake is."""
    if not relay.begun and not await answers(target):
        return Outcome(End.LOST, text=str(silent))
    await relay(ResponseFailed(504, str(silent)))
    return Outcome(End.FAILED, _PHASE_CODES[silent.phase], str(silent))


async def answers(target: Target) -> bool:
    """Is the target there? Asks for its version, which never waits for a model."""
    try:
        with trio.fail_after(PROBE_TIMEOUT):
            await target.fetch(Request(b"GET", b"/api/version"), ERROR_BODY)
    except (TargetError, trio.TooSlowError):
        return False
    return True


def _seconds(value: bytes) -> float | None:
    """Retry-After in seconds; dates, negatives and junk count as absent."""
    return float(value) if value.isdigit() and len(value) < 10 else None


# ---------------------------------------------------------------- what it means


@dataclass(frozen=True, slots=True)
class Finish:
    """The job is done; `incomplete` when the stream never said so itself."""

    verdict: Verdict
    incomplete: bool


@dataclass(frozen=True, slots=True)
class Fail:
    """The job has failed for good."""

    code: FailureCode
    text: str


@dataclass(frozen=True, slots=True)
class Again:
    """Back to the queue, in its old place; not before `delay` seconds from now."""

    reason: Requeue
    delay: float
    text: str = ""


Settlement = Finish | Fail | Again

RETRY_FIRST = 2.0  # seconds before the first retry; doubles
RETRY_CAP = 60.0


def settle(outcome: Outcome, job_class: JobClass, attempts: int, most: int) -> Settlement:
    """What an outcome means for a job that has now been tried `attempts` times (of `most`).

    A waiting client has seen the target's answer, good or bad, so only a target that was away puts
    an interactive job back; a batch job is tried again after anything but a refusal.
    """
    if outcome.end is End.DONE:
        assert outcome.verdict is not None
        return Finish(outcome.verdict, incomplete=not outcome.verdict.complete)
    if outcome.end is End.LOST:
        return Again(Requeue.TARGET_LOST, 0.0, outcome.text)
    assert outcome.code is not None
    retry = outcome.end is End.FAILED and job_class is JobClass.BATCH and attempts < most
    if not retry:
        return Fail(outcome.code, outcome.text)
    backoff = min(RETRY_CAP, RETRY_FIRST * 2 ** (attempts - 1))
    asked = min(outcome.retry_after or 0.0, 10 * RETRY_CAP)
    return Again(Requeue.RETRY, max(backoff, asked), outcome.text)
