"""What can be asked about webhooks: whose turn it is, what was tried, how the endpoints fare."""

import sqlite3
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from foreman.delivery import first_id
from foreman.jobs import JobId
from foreman.outbox import FAR, MessageState
from foreman.rows import Microseconds

REPLAY_LIMIT = 10_000  # messages of one replay
OWED_AT_MOST = 1_000  # endpoints that a look at the backlog takes in
COUNTED = 10_000  # rows that it counts one by one


class Turn(NamedTuple):
    """The endpoints to serve now, and when the next one is due, None while none is."""

    urls: list[str]
    next_at: Microseconds | None


@dataclass(frozen=True, slots=True)
class Try:
    """One line of the ledger: the n-th attempt at a message."""

    n: int
    at: Microseconds
    seconds: float
    status: int | None
    error: str | None
    reply: bytes


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message without its body, and what was tried so far."""

    attempts: list[Try]
    id: str
    endpoint: str
    job: JobId
    seq: int
    type: str
    state: MessageState
    due_at: Microseconds | None
    created_at: Microseconds
    settled_at: Microseconds | None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """How an endpoint fares; `dead` counts the dead letters that are kept."""

    url: str
    pending: int
    dead: int
    failures: int
    held_until: Microseconds
    last_success_at: Microseconds | None
    disabled_at: Microseconds | None
    reason: str | None


class Backlog(NamedTuple):
    """What is not delivered: messages first, then endpoints that something waits for."""

    pending: int
    lag_s: float  # for how long the oldest of them has been due
    dead: int  # that are kept, up to COUNTED
    waiting: int
    held: int  # of those endpoints, the ones whose breaker is open
    disabled: int  # endpoints, of the first COUNTED there are


@dataclass(frozen=True, slots=True)
class Selection:
    """Which messages: those for which all that is not None is so. Times are of their events."""

    id: str | None = None
    job: JobId | None = None
    endpoint: str | None = None
    state: MessageState | None = None
    after: datetime | None = None
    before: datetime | None = None


def turn(
    connection: sqlite3.Connection, now: Microseconds, limit: int, busy: Collection[str]
) -> Turn:
    """At most `limit` endpoints that may be served, the longest waiting first, none of `busy`."""
    room = limit + len(busy)
    rows = connection.execute(_DUE, (now, room)).fetchall()
    rows += connection.execute(_TOO_FAR, (now + FAR, room)).fetchall()
    urls = [url for (url,) in rows if url not in busy]
    later = connection.execute(_LATER, (now, len(busy) + 1)).fetchall()
    return Turn(urls[:limit], next((due_at for url, due_at in later if url not in busy), None))


def deliveries(
    connection: sqlite3.Connection,
    wanted: Selection,
    owner: str | None = None,
    *,
    before: str | None = None,
    limit: int = 100,
) -> list[Delivery]:
    """Newest first; the next page is `before` the last id of this. `owner`: of the jobs."""
    where, values = _conditions(wanted, owner, {"outbox.id < ?": before})
    query = f"{_DELIVERY} {where} ORDER BY outbox.id DESC LIMIT ?"
    rows = connection.execute(query, (*values, limit)).fetchall()
    return [Delivery(_attempts(connection, row[0]), *row) for row in rows]


def replayable(
    connection: sqlite3.Connection, wanted: Selection, owner: str | None = None
) -> list[str]:
    """The ids of these messages, the oldest first, at most REPLAY_LIMIT."""
    where, values = _conditions(wanted, owner, {})
    query = f"SELECT outbox.id FROM outbox {where} ORDER BY outbox.id LIMIT ?"
    return [id_ for (id_,) in connection.execute(query, (*values, REPLAY_LIMIT)).fetchall()]


def list_endpoints(
    connection: sqlite3.Connection, owner: str | None = None, url: str | None = None
) -> list[Endpoint]:
    """By URL, or just this one; with an `owner`, those that a job of that client has named."""
    rows = connection.execute(_ENDPOINT, {"owner": owner, "url": url}).fetchall()
    return [Endpoint(*row) for row in rows]


def backlog(connection: sqlite3.Connection, now: Microseconds) -> Backlog:
    """What the outbox owes. It looks at no more than the limits below, however much waits."""
    [(owed, held, pending, oldest)] = connection.execute(_OWED, (now, OWED_AT_MOST)).fetchall()
    [(dead,)] = connection.execute(_DEAD, (COUNTED,)).fetchall()
    [(disabled,)] = connection.execute(_DISABLED, (COUNTED,)).fetchall()
    lag = max(0, now - oldest) / 1e6 if oldest is not None else 0.0
    return Backlog(int(pending), lag, dead, owed - int(held), int(held), disabled)


def _attempts(connection: sqlite3.Connection, message: str) -> list[Try]:
    query = """SELECT attempt, at, seconds, status, error, reply FROM deliveries
        WHERE message = ? ORDER BY attempt"""
    return [Try(*row) for row in connection.execute(query, (message,)).fetchall()]


def _conditions(
    wanted: Selection, owner: str | None, more: dict[str, object]
) -> tuple[str, list[object]]:
    terms = more | {
        "outbox.id = ?": wanted.id,
        "outbox.job = ?": wanted.job,
        "outbox.endpoint = ?": wanted.endpoint,
        "outbox.state = ?": wanted.state,
        "outbox.id >= ?": wanted.after and first_id(wanted.after),
        "outbox.id < ? ": wanted.before and first_id(wanted.before),
        "(SELECT owner FROM jobs WHERE jobs.id = outbox.job) = ?": owner,
    }
    used = {term: value for term, value in terms.items() if value is not None}
    return (f"WHERE {' AND '.join(used)}" if used else ""), list(used.values())


_DUE = "SELECT url FROM endpoints WHERE due_at <= ? ORDER BY due_at LIMIT ?"
_TOO_FAR = "SELECT url FROM endpoints WHERE due_at > ? LIMIT ?"
_LATER = "SELECT url, due_at FROM endpoints WHERE due_at > ? ORDER BY due_at LIMIT ?"
_DELIVERY = """SELECT outbox.id, endpoint, job, seq,
    (SELECT 'job.' || state FROM events WHERE events.seq = outbox.seq),
    outbox.state, due_at, created_at, settled_at FROM outbox"""
_OWED = """SELECT count(*), total(held_until > ?1), total(pending), min(oldest) FROM (
    SELECT held_until, pending, (SELECT min(outbox.due_at) FROM outbox INDEXED BY outbox_due
        WHERE endpoint = url AND outbox.due_at IS NOT NULL) AS oldest
    FROM endpoints INDEXED BY endpoints_due
    WHERE endpoints.due_at IS NOT NULL ORDER BY endpoints.due_at LIMIT ?2)"""
_DEAD = "SELECT count(*) FROM (SELECT 1 FROM outbox WHERE state = 'dead' LIMIT ?)"
_DISABLED = """SELECT count(*) FROM (SELECT disabled_at FROM endpoints LIMIT ?)
    WHERE disabled_at IS NOT NULL"""
_ENDPOINT = """SELECT url, pending,
    (SELECT count(*) FROM outbox WHERE endpoint = url AND outbox.state = 'dead'),
    failures, held_until, last_success_at, disabled_at, reason FROM endpoints
    WHERE (:url IS NULL OR url = :url)
    AND (:owner IS NULL OR EXISTS (SELECT 1 FROM outbox JOIN jobs ON jobs.id = outbox.job
        WHERE outbox.endpoint = endpoints.url AND jobs.owner = :owner))
    ORDER BY url"""
