"""The webhook dispatcher: sends what the outbox holds, at least once and in order.

Inbox:  TestWebhook. Posted is a hint; the outbox is the truth.
Owns:   nothing but the attempts under way: one at a time for each endpoint.
Crash:  what was under way is sent again, under the same id, when its next try is due.
"""

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import urlsplit

import trio
from ulid import ULID

from actors.mailbox import StoreInbox, respond, write
from actors.messages import Posted, TestWebhook
from foreman import delivery, ledger, outbox
from foreman.delivery import Attempt, Uniform, Verdict
from foreman.errors import NoReply, StoreError
from foreman.lazy_sender import Sends
from foreman.metrics.counts import Metrics
from foreman.outbox import Message
from foreman.reader import Reader
from foreman.rows import Microseconds
from foreman.tables import Transaction
from foreman.tracing import NO_TRACER, Role, Span, Tracer

log = logging.getLogger("foreman.webhooks")

LOOK_EVERY = 60.0  # seconds, for hints that were lost and clocks that jumped
LOOK_JITTER = (0.9, 1.0)
STORE_AWAY = 5.0  # seconds without writing when the store could not
TESTS_AT_ONCE = 4
TURN = 32  # messages in a row to one endpoint while others wait for its place


@dataclass(frozen=True, slots=True)
class Ports:
    """What the dispatcher stands on. `now` is the wall clock, `uniform` makes the jitter."""

    store: StoreInbox
    reader: Reader
    sender: Sends
    now: Callable[[], Microseconds]
    metrics: Metrics
    uniform: Uniform = random.uniform
    tracer: Tracer = NO_TRACER


@dataclass(slots=True)
class _State:
    busy: set[str] = field(default_factory=set[str])  # the endpoints that are being served
    changed: trio.Event = field(default_factory=trio.Event)
    stopping: bool = False


async def run(
    inbox: trio.MemoryReceiveChannel[TestWebhook],
    hints: trio.MemoryReceiveChannel[Posted],
    ports: Ports,
    concurrency: int,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve at most `concurrency` endpoints at once until the inbox is closed.

    Then what is under way is finished, unless the caller's deadline cancels it.
    """
    state = _State()
    with inbox.clone() as tests, hints.clone() as posted:
        async with trio.open_nursery() as attempts, trio.open_nursery() as looking:
            looking.start_soon(_heed, state, posted)
            looking.start_soon(_dispatch, state, ports, concurrency, attempts)
            task_status.started()
            places = trio.CapacityLimiter(TESTS_AT_ONCE)
            async for test in tests:
                attempts.start_soon(_test, test, ports, places)
            state.stopping = True
            looking.cancel_scope.cancel("the inbox was closed")


async def _heed(state: _State, hints: trio.MemoryReceiveChannel[Posted]) -> None:
    async for _ in hints:
        state.changed.set()


async def _dispatch(state: _State, ports: Ports, concurrency: int, attempts: trio.Nursery) -> None:
    """Give the free places to endpoints that are due, whenever one of either may have changed."""
    while True:
        state.changed = trio.Event()
        pause = LOOK_EVERY * ports.uniform(*LOOK_JITTER)
        if free := concurrency - len(state.busy):
            look = partial(ledger.turn, now=ports.now(), limit=free, busy=frozenset(state.busy))
            turn = await ports.reader.read(look)
            for url in turn.urls:
                state.busy.add(url)
                attempts.start_soon(_serve, state, ports, url)
            if turn.next_at is not None:
                pause = min(pause, (turn.next_at - ports.now()) / 1e6)
        with trio.move_on_after(max(0.0, pause)):
            await state.changed.wait()


async def _serve(state: _State, ports: Ports, url: str) -> None:
    """Send to one endpoint while something is due; its breaker is in the database, too."""
    try:
        message = await write(ports.store, partial(_take, url=url, uniform=ports.uniform))
        for left in range(TURN, 0, -1):
            if message is None:
                return
            attempt = await _send(ports, message)
            on = left > 1 and not state.stopping
            message = await _record(ports, message, attempt, on=on)
    except (StoreError, NoReply) as error:
        log.warning("webhooks wait: %s", error)
        await trio.sleep(STORE_AWAY)
    finally:
        state.busy.discard(url)
        state.changed.set()


async def _send(ports: Ports, message: Message) -> Attempt:
    """Make an attempt, which is a span in the trace of its job."""
    span = ports.tracer.begin("POST", ports.tracer.job(message.job), Role.CLIENT)
    try:
        attempt = await ports.sender.send(message.endpoint, message.id, message.body)
    except trio.Cancelled:
        span.fail("cancelled")
        raise
    else:
        _tell(span, message, attempt)
        return attempt
    finally:
        span.end()


def _tell(span: Span, message: Message, attempt: Attempt) -> None:
    host = urlsplit(message.endpoint).hostname or ""  # the rest of a URL may be a secret
    span.set({"http.request.method": "POST", "server.address": host})
    span.set({"foreman.job.id": message.job, "foreman.webhook.id": message.id})
    if attempt.status is not None:
        span.set({"http.response.status_code": attempt.status})
    if attempt.verdict is not Verdict.DELIVERED:
        span.fail(attempt.verdict.value if attempt.status is None else str(attempt.status))


async def _record(ports: Ports, message: Message, attempt: Attempt, *, on: bool) -> Message | None:
    """Enter the attempt and, in the same commit, take the endpoint's next message."""

    def enter(tx: Transaction) -> tuple[outbox.MessageState | None, Message | None]:
        state = outbox.record(tx.connection, message.id, attempt, tx.now, ports.uniform)
        return state, _take(tx, message.endpoint, ports.uniform) if on else None

    state, following = await write(ports.store, enter)
    ports.metrics.posted(attempt, dead=state == "dead")
    if state == "dead":
        host = urlsplit(message.endpoint).hostname  # the rest of a URL may be a secret
        reason = attempt.error or f"it answered {attempt.status}"
        log.warning("gave up a webhook to %s: %s", host, reason, extra={"webhook": message.id})
    return following


def _take(tx: Transaction, url: str, uniform: Uniform) -> Message | None:
    return outbox.take(tx.connection, url, tx.now, uniform)


async def _test(test: TestWebhook, ports: Ports, places: trio.CapacityLimiter) -> None:
    """One message that no job caused; it is neither stored nor tried again."""
    with test.reply:
        body = delivery.trial(ports.now())
        async with places:
            attempt = await ports.sender.send(test.url, f"msg_{ULID()}", body)
        respond(test.reply, delivery.Tested(attempt, ports.sender.signed))
