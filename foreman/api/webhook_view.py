"""Webhooks as the API shows them, and what it is sent about them."""

import time
from datetime import datetime
from enum import StrEnum
from typing import Annotated, get_args

import msgspec

from foreman.jobs import JobId
from foreman.ledger import Delivery, Endpoint, Try
from foreman.outbox import MessageState
from foreman.rows import Microseconds, moment

MESSAGE_STATES: tuple[MessageState, ...] = get_args(MessageState)

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=2048)]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class Replay(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /webhooks/deliveries/replay: one, a job's, or those of a time."""

    id: Text | None = None
    job: Text | None = None
    after: Moment | None = None
    before: Moment | None = None
    state: MessageState | None = None


class Url(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of the routes that are about one endpoint."""

    url: Text


class TryView(msgspec.Struct, frozen=True):
    """One attempt: `status` is HTTP's, None when no answer came; `reply` how it began."""

    n: int
    at: datetime
    seconds: float
    status: int | None
    error: str | None
    reply: str


class DeliveryView(msgspec.Struct, frozen=True):
    """One webhook and every attempt at it."""

    id: str
    endpoint: str
    job: JobId
    seq: int
    type: str
    state: MessageState
    attempts: list[TryView]
    due_at: datetime | None
    created_at: datetime
    settled_at: datetime | None


class DeliveryPage(msgspec.Struct, frozen=True):
    """Webhooks, the newest first; `next` is what `before` has to be for the page after this one."""

    deliveries: list[DeliveryView]
    next: str | None


class Standing(StrEnum):
    """How an endpoint is treated."""

    OK = "ok"
    OPEN = "open"  # after failures in a row it is left alone for a while
    DISABLED = "disabled"


class EndpointView(msgspec.Struct, frozen=True):
    """Where webhooks go. `retry_in`: seconds for which it is left alone."""

    url: str
    state: Standing
    reason: str | None
    pending: int
    dead: int
    last_success_at: datetime | None
    retry_in: float | None


class EndpointList(msgspec.Struct, frozen=True):
    """All of them."""

    endpoints: list[EndpointView]


class Replayed(msgspec.Struct, frozen=True):
    """How many are due now."""

    replayed: int


class Tested(msgspec.Struct, frozen=True):
    """What became of a test."""

    status: int | None
    seconds: float
    error: str | None
    signed: bool


def delivery_view(each: Delivery) -> DeliveryView:
    """The delivery as it is shown."""
    return DeliveryView(
        each.id,
        each.endpoint,
        each.job,
        each.seq,
        each.type,
        each.state,
        [_try(attempt) for attempt in each.attempts],
        _time(each.due_at),
        moment(each.created_at),
        _time(each.settled_at),
    )


def endpoint_view(each: Endpoint) -> EndpointView:
    """The endpoint as it is shown now."""
    pause = max(0.0, (each.held_until - time.time_ns() // 1000) / 1e6)
    standing = Standing.OPEN if pause else Standing.OK
    return EndpointView(
        each.url,
        standing if each.disabled_at is None else Standing.DISABLED,
        each.reason,
        each.pending,
        each.dead,
        _time(each.last_success_at),
        round(pause, 3) if pause and each.disabled_at is None else None,
    )


def _try(attempt: Try) -> TryView:
    return TryView(
        attempt.n,
        moment(attempt.at),
        round(attempt.seconds, 3),
        attempt.status,
        attempt.error,
        attempt.reply.decode(errors="replace"),
    )


def _time(at: Microseconds | None) -> datetime | None:
    return None if at is None else moment(at)
