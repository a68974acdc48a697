"""Where webhooks go: what each endpoint is owed, how it fares, and when it may be served next.

Synchronous, inside the store's transaction. An endpoint's `due_at` is worked out from its messages
and its breaker whenever one of them changes, so that whose turn it is, is read off an index however
much waits. A disabled one is due as long as something waits for it: for its burial.
"""

import logging
import sqlite3
from urllib.parse import urlsplit

from foreman.delivery import Attempt, Uniform, pause
from foreman.rows import Microseconds

log = logging.getLogger("foreman.webhooks")

SECOND: Microseconds = 1_000_000
MAX_PENDING = 100_000  # messages for one endpoint: beyond it, it is disabled
LOST_TOO_MANY = 10  # dead letters in a row, and
LOST_TOO_LONG = 120 * 3600 * SECOND  # nothing but failures for so long: it is disabled


def accepts(connection: sqlite3.Connection, url: str, now: Microseconds) -> bool:
    """Whether it may be owed one more message; when it is owed too many it is disabled."""
    rows = connection.execute(_STANDING, (url,)).fetchall()
    if any(disabled_at is not None for _, disabled_at in rows):
        return False
    if any(pending >= MAX_PENDING for pending, _ in rows):
        disable(connection, url, now, f"{MAX_PENDING} messages waited for it")
        return False
    return True


def owe(connection: sqlite3.Connection, url: str, due_at: Microseconds | None) -> None:
    """One message more waits for it, to be sent at `due_at`, or once another has been."""
    connection.execute(_OWE, {"url": url, "at": due_at})


def settle(connection: sqlite3.Connection, url: str) -> None:
    """One message fewer waits for it."""
    connection.execute("UPDATE endpoints SET pending = pending - 1 WHERE url = ?", (url,))


def owe_nothing(connection: sqlite3.Connection, url: str) -> None:
    """Nothing waits for it, whatever was counted."""
    connection.execute("UPDATE endpoints SET pending = 0 WHERE url = ?", (url,))


def refresh(connection: sqlite3.Connection, url: str, now: Microseconds) -> None:
    """Work out when to serve it next. Just served, it goes behind those that have waited."""
    connection.execute(_REFRESH, {"url": url, "now": now})


def held_until(connection: sqlite3.Connection, url: str) -> Microseconds | None:
    """Until when its breaker keeps messages back; None when it is disabled or unknown."""
    query = "SELECT held_until FROM endpoints WHERE url = ? AND disabled_at IS NULL"
    for (until,) in connection.execute(query, (url,)).fetchall():
        return int(until)
    return None


def let_probe(connection: sqlite3.Connection, url: str) -> None:
    """Somebody expects it to be well: try it at once, though one more failure holds it again."""
    connection.execute("UPDATE endpoints SET held_until = 0 WHERE url = ?", (url,))


def count_success(connection: sqlite3.Connection, url: str, now: Microseconds) -> None:
    """It took a message: all is forgiven."""
    connection.execute(_SUCCEEDED, (now, url))


def count_failure(
    connection: sqlite3.Connection,
    url: str,
    attempt: Attempt,
    now: Microseconds,
    uniform: Uniform,
) -> None:
    """An attempt failed; after a few in a row it is left alone for a while."""
    for (failures,) in connection.execute(_FAILED, (attempt.at, url)).fetchall():
        if length := pause(failures, uniform):
            until = now + round(length * SECOND)
            connection.execute("UPDATE endpoints SET held_until = ? WHERE url = ?", (until, url))


def count_loss(connection: sqlite3.Connection, url: str, now: Microseconds) -> None:
    """A message for it is a dead letter; after many and a long time it is disabled."""
    for lost, since, disabled_at in connection.execute(_LOST, (url,)).fetchall():
        too_long = since is not None and since <= now - LOST_TOO_LONG
        if disabled_at is None and too_long and lost >= LOST_TOO_MANY:
            disable(connection, url, now, f"no success for 120 hours, {lost} messages lost")


def disable(connection: sqlite3.Connection, url: str, now: Microseconds, reason: str) -> None:
    """Send it nothing more until `enable`."""
    connection.execute(_DISABLE, (now, reason, url))
    refresh(connection, url, now)
    log.warning("webhooks to %s are disabled: %s", urlsplit(url).hostname, reason)


def enable(connection: sqlite3.Connection, url: str, now: Microseconds) -> bool:
    """Serve it again, with a clean slate. False when there is no such endpoint."""
    found = connection.execute(_ENABLE, (url,)).rowcount
    refresh(connection, url, now)
    return bool(found)


def forget(connection: sqlite3.Connection, before: Microseconds) -> int:
    """Retention: delete those of which nothing is known but a success long ago; how many."""
    return connection.execute(_FORGET, (before,)).rowcount


_STANDING = "SELECT pending, disabled_at FROM endpoints WHERE url = ?"
_OWE = """INSERT INTO endpoints (url, pending, due_at, failures, held_until, lost)
    VALUES (:url, 1, :at, 0, 0, 0)
    ON CONFLICT DO UPDATE SET pending = pending + 1,
    due_at = ifnull(min(ifnull(due_at, max(held_until, :at)), max(held_until, :at)), due_at)"""
_SUCCEEDED = """UPDATE endpoints SET failures = 0, failing_since = NULL, held_until = 0, lost = 0,
    last_success_at = ? WHERE url = ?"""
_FAILED = """UPDATE endpoints SET failures = failures + 1,
    failing_since = ifnull(failing_since, ?) WHERE url = ? RETURNING failures"""
_LOST = """UPDATE endpoints SET lost = lost + 1 WHERE url = ?
    RETURNING lost, failing_since, disabled_at"""
_DISABLE = "UPDATE endpoints SET disabled_at = ?, reason = ? WHERE url = ?"
_ENABLE = """UPDATE endpoints SET disabled_at = NULL, reason = NULL, failures = 0,
    failing_since = NULL, held_until = 0, lost = 0 WHERE url = ?"""
_REFRESH = """UPDATE endpoints SET due_at = CASE
    WHEN disabled_at IS NULL THEN max(:now, held_until, (
        SELECT min(due_at) FROM outbox INDEXED BY outbox_due
        WHERE endpoint = :url AND due_at IS NOT NULL))
    WHEN pending > 0 THEN :now END
    WHERE url = :url"""
_FORGET = """DELETE FROM endpoints WHERE pending = 0 AND failures = 0 AND disabled_at IS NULL
    AND lost = 0 AND last_success_at < ?"""
