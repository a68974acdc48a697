"""The rules of webhooks: what is sent, when it is tried again, what an answer means.

Pure. The rows are in `foreman.outbox`, one attempt is `foreman.sending`; `actors.webhooks` runs
them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from hashlib import sha256

import msgspec
from ulid import ULID

from foreman.rows import Artifact, Event, Microseconds, moment

_MINUTE = 60.0
_HOUR = 3600.0

SCHEDULE = (
    0.0,
    5.0,
    5 * _MINUTE,
    30 * _MINUTE,
    2 * _HOUR,
    5 * _HOUR,
    10 * _HOUR,
    14 * _HOUR,
    20 * _HOUR,
    24 * _HOUR,
)
"""Seconds before each attempt, counted from the end of the one before."""

JITTER = (0.8, 1.2)
LONGEST_WAIT = 24 * _HOUR  # that a receiver may ask for

TRIPS_AT = 5  # failures in a row that open an endpoint's breaker
FIRST_PAUSE = 30.0  # seconds; each failed probe doubles it
LONGEST_PAUSE = _HOUR

INLINE = 256 * 1024  # bytes of a result that still travels with its event

Uniform = Callable[[float, float], float]
"""A random number between two, like `random.uniform`."""


class Verdict(StrEnum):
    """What an attempt means for its message."""

    DELIVERED = "delivered"
    RETRY = "retry"
    GONE = "gone"  # the receiver wants no more of them
    BLOCKED = "blocked"  # the address may not be reached: trying again changes nothing


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try. `status` is None when no head of an answer came; `error` says why it failed."""

    at: Microseconds
    seconds: float
    status: int | None = None
    error: str | None = None
    reply: bytes = b""
    wait: float = 0.0  # seconds the receiver asked for
    blocked: bool = False

    @property
    def verdict(self) -> Verdict:
        """By the status alone: what became of the answer's body is the receiver's own affair."""
        if self.blocked:
            return Verdict.BLOCKED
        if self.status is None:
            return Verdict.RETRY
        if self.status == 410:
            return Verdict.GONE
        return Verdict.DELIVERED if 200 <= self.status < 300 else Verdict.RETRY


@dataclass(frozen=True, slots=True)
class Tested:
    """How a message went that was sent for a test, and whether it was signed."""

    attempt: Attempt
    signed: bool


def delay(failed: int, uniform: Uniform) -> float | None:
    """Seconds to the next attempt after `failed` of them, None when that was the last."""
    return SCHEDULE[failed] * uniform(*JITTER) if failed < len(SCHEDULE) else None


def pause(failures: int, uniform: Uniform) -> float:
    """How long (s) an endpoint is left alone after so many failures in a row; 0 for a few.

    The breaker of `foreman.breaker` keeps its state in memory. Here it is two columns of the
    endpoint, so that it survives a restart and one index finds whoever may be served.
    """
    if failures < TRIPS_AT:
        return 0.0
    doubled = FIRST_PAUSE * 2.0 ** min(failures - TRIPS_AT, 20)
    return min(doubled, LONGEST_PAUSE) * uniform(*JITTER)


def wait_asked(retry_after: str, now: Microseconds) -> float:
    """Seconds that a Retry-After header asks for, at most LONGEST_WAIT; 0 for nonsense."""
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), LONGEST_WAIT)
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    aware = date if date.tzinfo else date.replace(tzinfo=UTC)
    return min(max(0.0, (aware - moment(now)).total_seconds()), LONGEST_WAIT)


def message_id(event: Event) -> str:
    """`msg_` and a ULID made of the event alone: its time, its number, a digest of its job.

    They sort by time, and the same event never has two.
    """
    milliseconds = max(0, event.at) // 1000 & 0xFFFFFFFFFFFF
    digest = sha256(event.job.encode()).digest()[:5]
    number = event.seq & 0xFFFFFFFFFF
    return f"msg_{ULID.from_bytes(milliseconds.to_bytes(6) + number.to_bytes(5) + digest)}"


def first_id(at: datetime) -> str:
    """Ids of messages from this moment on are not smaller."""
    milliseconds = max(0, int(at.timestamp() * 1000))
    return f"msg_{ULID.from_bytes(milliseconds.to_bytes(6) + bytes(10))}"


def payload(event: Event, artifacts: Sequence[Artifact] = (), result: bytes | None = None) -> bytes:
    """The body: the event's object, with where its artifacts are, and a `result` that is JSON.

    A result that is too large is left out; it is one of the artifacts all the same.
    """
    data: dict[str, object] = msgspec.json.decode(event.to_json())
    if artifacts:
        data["artifacts"] = [_link(event, artifact) for artifact in artifacts]
    if result is not None and len(result) < INLINE:
        data["result"] = msgspec.Raw(result)
    return _body(event.type, event.at, data)


def trial(at: Microseconds) -> bytes:
    """The body of a self-test."""
    return _body("foreman.test", at, {"text": "A test: your receiver can hear foreman."})


def with_gap(body: bytes) -> bytes:
    """The payload, saying that the message before it was not delivered."""
    return body[:-2] + b',"gap":true}}'


def _body(kind: str, at: Microseconds, data: dict[str, object]) -> bytes:
    """`data` comes last and is never empty: `with_gap` adds to its end."""
    return msgspec.json.encode({"type": kind, "timestamp": moment(at), "data": data})


def _link(event: Event, artifact: Artifact) -> dict[str, object]:
    return {
        "name": artifact.name,
        "content_type": artifact.content_type,
        "size": artifact.size,
        "sha256": artifact.sha256.hex(),
        "url": f"/jobs/{event.job}/artifacts/{artifact.name}",
    }
