"""The outbox: webhook messages, from the commit that caused them to their end.

Synchronous, inside the store's transaction, like `foreman.transitions`. The messages of one job to
one endpoint are a line: only the first pending one has a `due_at`, and whatever ends it lets the
next one step up. For a disabled endpoint they are dead letters from the start; those can be
replayed once somebody has enabled it again.
"""

import logging
import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import msgspec

from foreman import endpoints
from foreman.delivery import Attempt, Uniform, Verdict, delay, message_id, payload, with_gap
from foreman.encoding import checksum, verified
from foreman.endpoints import SECOND
from foreman.errors import StoreError
from foreman.jobs import JobId
from foreman.rows import Artifact, Event, JobRow, Microseconds

log = logging.getLogger("foreman.webhooks")

BURIED_AT_ONCE = 256  # dead letters in one transaction: jobs must not wait for thousands
REPLAY_EVERY = SECOND // 10  # between replayed messages
FAR = 30 * 3600 * SECOND  # no plan reaches further; if one does, the clock was set back

MessageState = Literal["pending", "delivered", "dead"]


class Message(msgspec.Struct, frozen=True):
    """A row of the outbox."""

    id: str
    endpoint: str
    job: JobId
    seq: int
    body: bytes
    state: MessageState
    attempts: int
    spent: int
    due_at: Microseconds | None
    created_at: Microseconds
    settled_at: Microseconds | None


class Webhook(msgspec.Struct, frozen=True):
    """What a job asked for."""

    url: str
    events: frozenset[str]


def enqueue(
    connection: sqlite3.Connection,
    event: Event,
    job: JobRow,
    *,
    artifacts: Sequence[Artifact] = (),
    result: bytes | None = None,
) -> bool:
    """Store the event's message if the job asked for it; whether it did."""
    if job.webhook is None:
        return False
    wanted = _webhook(job.webhook)
    if event.type not in wanted.events:
        return False
    line = [state for (state,) in connection.execute(_LINE, (job.id, wanted.url)).fetchall()]
    body = payload(event, artifacts, result)
    alive = endpoints.accepts(connection, wanted.url, event.at)
    message = Message(
        id=message_id(event),
        endpoint=wanted.url,
        job=event.job,
        seq=event.seq,
        body=with_gap(body) if line[-1:] == ["dead"] else body,
        state="pending" if alive else "dead",
        attempts=0,
        spent=0,
        due_at=event.at if alive and "pending" not in line else None,
        created_at=event.at,
        settled_at=None if alive else event.at,
    )
    values = msgspec.structs.astuple(message)
    connection.execute(_INSERT, (*values, checksum(values)))
    if alive:
        endpoints.owe(connection, wanted.url, message.due_at)
    return True


@lru_cache(256)
def _webhook(text: str) -> Webhook:
    return msgspec.json.decode(text, type=Webhook)


def take(
    connection: sqlite3.Connection, url: str, now: Microseconds, uniform: Uniform
) -> Message | None:
    """The endpoint's next message if it may be sent now.

    The try after this one is arranged before this one is made: should the daemon die meanwhile,
    there is one attempt more and never one less. For a disabled endpoint there is no message; some
    of what waited for it becomes dead letters.
    """
    held_until = endpoints.held_until(connection, url)
    message = None
    if held_until is None:
        _bury(connection, url, now)
    elif _is_due(held_until, now):
        message = _first_due(connection, url, now)
    if message is None:
        endpoints.refresh(connection, url, now)
        return None
    pause = delay(message.attempts - message.spent + 1, uniform) or 0.0
    return _update(connection, message, due_at=now + round(pause * SECOND))


def record(
    connection: sqlite3.Connection,
    message_id: str,
    attempt: Attempt,
    now: Microseconds,
    uniform: Uniform,
) -> MessageState | None:
    """Enter an attempt into the ledger, with all that follows; what became of the message.

    None when its job was deleted meanwhile. Raises StoreError when it is damaged.
    """
    found = get(connection, message_id)
    if found is None:
        return None
    message = msgspec.structs.replace(found, attempts=found.attempts + 1)
    url, verdict = message.endpoint, attempt.verdict
    entry = (attempt.at, attempt.seconds, attempt.status, attempt.error, attempt.reply)
    connection.execute(_ENTER, (message.id, message.attempts, *entry))
    if verdict is Verdict.DELIVERED:
        endpoints.count_success(connection, url, now)
        state = _settle(connection, message, "delivered", now)
    elif verdict is Verdict.RETRY:
        endpoints.count_failure(connection, url, attempt, now, uniform)
        state = _try_again(connection, message, attempt.wait, now, uniform)
    else:
        state = _settle(connection, message, "dead", now)
        if verdict is Verdict.GONE:
            endpoints.disable(connection, url, now, "it answered 410 Gone")
    endpoints.refresh(connection, url, now)
    return state


def replay(
    connection: sqlite3.Connection,
    ids: Sequence[str],
    now: Microseconds,
    ahead: int = 0,
) -> int:
    """Send these again, the same bytes under the same ids, ten a second after `ahead` others.

    Returns how many: those of a disabled endpoint, damaged ones and those gone by now are left out.
    """
    replayed = 0
    for each in ids:
        try:
            message = get(connection, each)
        except StoreError as damage:
            log.error("not replayed: %s", damage)
            continue
        if message is None or endpoints.held_until(connection, message.endpoint) is None:
            continue
        _replay(connection, message, now + (ahead + replayed) * REPLAY_EVERY, now)
        endpoints.let_probe(connection, message.endpoint)
        endpoints.refresh(connection, message.endpoint, now)
        replayed += 1
    return replayed


def get(connection: sqlite3.Connection, message_id: str) -> Message | None:
    """The message with this id. Raises StoreError when it is damaged."""
    query = "SELECT * FROM outbox WHERE id = ?"
    for row in connection.execute(query, (message_id,)).fetchall():
        return _loaded(row)
    return None


def messages_of(connection: sqlite3.Connection, job: JobId) -> list[Message]:
    """All of a job's messages. Raises StoreError when one is damaged."""
    query = "SELECT * FROM outbox WHERE job = ?"
    return [_loaded(row) for row in connection.execute(query, (job,)).fetchall()]


def _is_due(at: Microseconds, now: Microseconds) -> bool:
    return at <= now or at > now + FAR


def _first_due(connection: sqlite3.Connection, url: str, now: Microseconds) -> Message | None:
    while rows := connection.execute(_NEXT, (url,)).fetchall():
        message = _sound(connection, rows[0], now)
        if message is not None:
            due = message.due_at is not None and _is_due(message.due_at, now)
            return message if due else None
    return None


def _settle(
    connection: sqlite3.Connection, message: Message, state: MessageState, now: Microseconds
) -> MessageState:
    """The end of a message. One that had ended while this attempt ran may still be delivered."""
    if message.state == "delivered":
        state = message.state
    changed = _update(connection, message, state=state, due_at=None, settled_at=now)
    if message.state == "pending":
        endpoints.settle(connection, message.endpoint)
        if state == "dead":
            endpoints.count_loss(connection, message.endpoint, now)
        _step_up(connection, changed, now)
    return state


def _try_again(
    connection: sqlite3.Connection,
    message: Message,
    wait: float,
    now: Microseconds,
    uniform: Uniform,
) -> MessageState:
    pause = delay(message.attempts - message.spent, uniform)
    if message.state == "pending" and pause is None:
        return _settle(connection, message, "dead", now)
    due_at = message.due_at
    if due_at is not None and pause is not None:  # else a replay put an earlier one before it
        due_at = now + round(max(pause, wait) * SECOND)
    return _update(connection, message, due_at=due_at).state


def _step_up(connection: sqlite3.Connection, ended: Message, now: Microseconds) -> None:
    """Let the next of the line be sent. One that was never sent can still say what it missed."""
    following = _first_of_line(connection, ended, now)
    if following is None or following.due_at is not None:
        return
    missed = ended.state == "dead" and ended.seq < following.seq and not following.attempts
    body = with_gap(following.body) if missed else following.body
    _update(connection, following, body=body, due_at=now)


def _replay(
    connection: sqlite3.Connection, message: Message, due_at: Microseconds, now: Microseconds
) -> None:
    first = _first_of_line(connection, message, now)
    behind = first is not None and first.seq < message.seq
    if first is not None and first.seq > message.seq:
        _update(connection, first, due_at=None)
    due = None if behind else due_at
    if message.state == "pending":
        _update(connection, message, due_at=due)
        return
    endpoints.owe(connection, message.endpoint, due)
    spent = message.attempts
    _update(connection, message, state="pending", due_at=due, settled_at=None, spent=spent)


def _first_of_line(
    connection: sqlite3.Connection, message: Message, now: Microseconds
) -> Message | None:
    line = (message.job, message.endpoint)
    while rows := connection.execute(_FIRST_OF_LINE, line).fetchall():
        first = _sound(connection, rows[0], now)
        if first is not None:
            return first
    return None


def _bury(connection: sqlite3.Connection, url: str, now: Microseconds) -> None:
    rows = connection.execute(_PENDING, (url, BURIED_AT_ONCE)).fetchall()
    if not rows:
        endpoints.owe_nothing(connection, url)
    for row in rows:
        message = _sound(connection, row, now)
        if message is not None:
            _update(connection, message, state="dead", due_at=None, settled_at=now)
            endpoints.settle(connection, url)


def _sound(connection: sqlite3.Connection, row: Sequence[Any], now: Microseconds) -> Message | None:
    """The pending message of this row, or None for a damaged one, which is given up.

    What may not be what it was is never sent; its checksum stays wrong for doctor to see.
    """
    try:
        return _loaded(row)
    except StoreError as damage:
        log.error("not sent: %s", damage)
    connection.execute(_GIVE_UP, (now, row[0]))
    endpoints.settle(connection, row[1])
    lost = Message(*row[:-1])
    _step_up(connection, msgspec.structs.replace(lost, state="dead"), now)
    return None


def _loaded(row: Sequence[Any]) -> Message:
    return Message(*verified(row, f"webhook {row[0]}"))


def _update(connection: sqlite3.Connection, message: Message, **changes: object) -> Message:
    changed: Message = msgspec.structs.replace(message, **changes)
    values = msgspec.structs.astuple(changed)
    connection.execute(_CHANGE, (*values[4:], checksum(values), message.id))
    return changed


_INSERT = f"INSERT INTO outbox VALUES ({', '.join('?' * 12)})"
_CHANGE = """UPDATE outbox SET body = ?, state = ?, attempts = ?, spent = ?, due_at = ?,
    created_at = ?, settled_at = ?, sum = ? WHERE id = ?"""
_ENTER = "INSERT INTO deliveries VALUES (?, ?, ?, ?, ?, ?, ?)"
_GIVE_UP = "UPDATE outbox SET state = 'dead', due_at = NULL, settled_at = ? WHERE id = ?"
_LINE = "SELECT state FROM outbox WHERE job = ? AND endpoint = ? ORDER BY seq"
_FIRST_OF_LINE = """SELECT * FROM outbox WHERE job = ? AND endpoint = ? AND state = 'pending'
    ORDER BY seq LIMIT 1"""
_NEXT = """SELECT * FROM outbox INDEXED BY outbox_due
    WHERE endpoint = ? AND due_at IS NOT NULL ORDER BY due_at, id LIMIT 1"""
_PENDING = """SELECT * FROM outbox INDEXED BY outbox_of_endpoint
    WHERE endpoint = ? AND state = 'pending' LIMIT ?"""
