"""Subscriptions over HTTP: one way along the event log, told as NDJSON or on a websocket.

On ASGI itself: thousands of websockets that mostly say nothing must cost next to nothing.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from typing import assert_never

import msgspec
import trio

from foreman.api.event_query import parse
from foreman.api.exchange import BodyTooLarge, BodyTooSlow, Exchange
from foreman.api.ports import Desk
from foreman.api.problems import Problem
from foreman.api.replies import NDJSON, PROBLEM
from foreman.api.visibility import visible
from foreman.api.websocket import Handshake
from foreman.event_log import EventFilter, Page, page_after, page_of_job
from foreman.jobs import LIVE, JobId
from foreman.queries import get_job
from foreman.subscription import BATCH, Finished, GoingAway, Read, Resync, Subscription, TooSlow

RETRY_AFTER = "5"  # s; subscribers come and go
MOST_BODY = 65536  # bytes of a body that nobody needs
BODY_TIMEOUT = 5.0  # s for it

LINES = 64  # that leave together

NORMAL = 1000  # close codes of RFC 6455; from 4000 on they are the application's
GOING_AWAY = 1001
TRY_AGAIN_LATER = 1013
RESYNC = 4409


class EventStreams:
    """Answers GET /events and GET /jobs/{id}/events, for at most `most` subscribers at a time."""

    def __init__(self, desk: Desk, most: int) -> None:
        self._desk = desk
        self._most = most
        self._open = 0
        # One of the two readers: subscribers that catch up must not keep a look at a job waiting.
        self._replaying = trio.Lock()

    async def handle(self, exchange: Exchange, owner: str | None) -> None:
        """Answer it, also when it is a Handshake; `owner` None sees everybody's jobs."""
        try:
            with self._counted():
                subscription = await self._subscription(exchange, owner)
                if isinstance(exchange, Handshake):
                    await self._converse(exchange, subscription)
                else:
                    await self._recite(exchange, subscription)
        except Problem as problem:
            headers = [(name.encode(), value.encode()) for name, value in problem.headers]
            await exchange.reply(problem.status, [PROBLEM, *headers], problem.body())

    @contextmanager
    def _counted(self) -> Generator[None]:
        if self._open >= self._most:
            detail = f"all {self._most} subscriptions of FOREMAN_MAX_SUBSCRIBERS are taken"
            headers = [("retry-after", RETRY_AFTER)]
            raise Problem(503, "too_many_subscribers", detail, headers=headers)
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1

    async def _subscription(self, exchange: Exchange, owner: str | None) -> Subscription:
        match exchange.path.split("/"):
            case ["", "jobs", job, "events"]:
                return await self._to_job(JobId(job), exchange.query, owner)
            case _:
                return self._to_log(exchange.query, owner)

    def _to_log(self, query: bytes, owner: str | None) -> Subscription:
        asked = parse(query, EventFilter(owner=owner))
        tail = self._desk.tail
        after = tail.head if asked.after is None else asked.after
        read = self._reader(partial(page_after, limit=BATCH, wanted=asked.wanted))
        until = None if asked.follow else tail.head
        return Subscription(tail, read, asked.wanted, after, until=until)

    async def _to_job(self, job: JobId, query: bytes, owner: str | None) -> Subscription:
        asked = parse(query, EventFilter(job=job))
        tail = self._desk.tail
        until = None if asked.follow else tail.head
        row = visible(await self._desk.read(partial(get_job, job=job)), job, owner)
        if row.state not in LIVE:
            until = row.last_seq
        read = self._reader(partial(page_of_job, job=job, limit=BATCH))
        return Subscription(tail, read, asked.wanted, asked.after or 0, until=until, to_end=True)

    def _reader(self, page: Callable[..., Page]) -> Read:
        async def read(after: int) -> Page:
            async with self._replaying:
                return await self._desk.read(partial(page, after=after))

        return read

    async def _converse(self, websocket: Handshake, subscription: Subscription) -> None:
        await websocket.accept()
        async for events in subscription:
            for event in events:
                text = self._desk.tail.json(event).decode()
                await websocket.text(text, more=event is not events[-1])
        end = subscription.end
        match end:
            case None | Finished():
                await websocket.close(NORMAL)
            case GoingAway():
                await websocket.close(GOING_AWAY, "the daemon stops")
            case TooSlow(last_seq):
                await websocket.close(TRY_AGAIN_LATER, f"too slow: resume with after={last_seq}")
            case Resync(reason):
                await websocket.text(msgspec.json.encode(_told(end)).decode())
                await websocket.close(RESYNC, f"resync: {reason}")
            case _:
                assert_never(end)

    async def _recite(self, exchange: Exchange, subscription: Subscription) -> None:
        await _skip_body(exchange)
        await exchange.start(200, [NDJSON])
        await exchange.write(b"")  # the head goes out before there is an event
        async for events in subscription:
            for start in range(0, len(events), LINES):
                lines = map(self._desk.tail.json, events[start : start + LINES])
                await exchange.write(b"\n".join([*lines, b""]))
        match subscription.end:
            case TooSlow() | Resync() as told:
                await exchange.finish(msgspec.json.encode(_told(told)) + b"\n")
            case _:
                await exchange.finish()


def _told(end: TooSlow | Resync) -> dict[str, object]:
    """The last message of a subscription that did not simply end."""
    kind = "slow" if isinstance(end, TooSlow) else "resync"
    return {"type": kind, **msgspec.to_builtins(end)}


async def _skip_body(exchange: Exchange) -> None:
    try:
        await exchange.body(MOST_BODY, BODY_TIMEOUT)
    except BodyTooLarge as error:
        raise Problem(413, "body_too_large", str(error)) from None
    except BodyTooSlow:
        raise Problem(408, "body_too_slow", "the request did not end in time") from None
