"""Group commit: many operations, one transaction, one fsync; and what to do when the disk objects.

Synchronous; `actors.store` runs it where it may block.
"""

import logging
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import outcome

from foreman.database import BUSY_TIMEOUT, Database
from foreman.disk import free_bytes
from foreman.errors import StoreBusy, StoreError, StoreFull
from foreman.rows import Event, Microseconds
from foreman.transitions import Transaction

log = logging.getLogger("foreman.store")

Operation = Callable[[Transaction], Any]
Answer = outcome.Maybe[Any]

WAL_WORTH_COPYING = 1 << 20  # bytes; a short log is a short tail to lose to a flipped bit
WAL_WORTH_CUTTING = 16 << 20
WAL_ALARM = 64 << 20  # only a reader that does not end lets it grow so far

_SPOILT = frozenset(  # primary codes after which the whole transaction is void, not one operation
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_NOMEM,
    }
)
_LOST = frozenset(  # the kernel may have dropped what it could not write: only a new start knows
    {
        sqlite3.SQLITE_IOERR_FSYNC,
        sqlite3.SQLITE_IOERR_DIR_FSYNC,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
    }
)


class DiskFailed(BaseException):
    """What is on the disk is unknown; the process must end and read it afresh.

    No Exception, so that no supervisor restarts the store on top of it.
    """


@dataclass(frozen=True, slots=True)
class Committed:
    """One answer for each operation, in order, and what is to be told: see Transaction."""

    answers: list[Answer]
    events: list[Event] = field(default_factory=list[Event])
    posted: bool = False


@dataclass(slots=True)
class Committer:
    """The write side of `database`. Below `keep_free` bytes of room new batch jobs are refused."""

    database: Database
    keep_free: int
    low_disk: bool = False
    commits: int = 0
    _tended: int = 0  # `commits` when `tend` last looked
    _copied: int = 0  # `commits` when the log was last copied into the database

    def reset(self) -> None:
        """Forget a transaction that a crashed store left open."""
        self.database.connection.rollback()

    def commit(self, operations: Sequence[Operation], now: Microseconds) -> Committed:
        """Run them all in one transaction, each failing alone; what it answers is on disk.

        After trouble with the disk an operation may run a second time. Raises DiskFailed.
        """
        tx, answers = self._transaction(now), list[Answer]()
        try:
            _run(tx, operations, answers)
        except sqlite3.Error as error:
            log.error("a commit of %d operations failed: %s", len(operations), error)
            return self._settle(tx, operations, answers, error)
        return self._committed(tx, answers)

    def tend(self) -> None:
        """To be called every few seconds: watch the free space, and shorten an idle log."""
        self._watch_space()
        if self.commits == self._tended != self._copied:
            self._shorten_log()
        self._tended = self.commits

    def _transaction(self, now: Microseconds) -> Transaction:
        return Transaction(
            self.database.connection, now, self.database.epoch, low_disk=self.low_disk
        )

    def _committed(self, tx: Transaction, answers: list[Answer]) -> Committed:
        self.commits += 1
        if tx.events:
            self.database.mark.write(tx.events[-1].seq)
        return Committed(answers, tx.events, tx.posted)

    def _settle(
        self,
        tx: Transaction,
        operations: Sequence[Operation],
        answers: list[Answer],
        error: sqlite3.Error,
    ) -> Committed:
        """Find out what became of a transaction that failed as a whole, and act on it."""
        self._give_up_if_lost(error)
        match _kind(error):
            case sqlite3.SQLITE_FULL:
                return self._again(operations, tx.now)
            case sqlite3.SQLITE_IOERR:
                self._reopen()
                if self._landed(tx):
                    return self._committed(tx, answers)
                return self._again(operations, tx.now)
            case _:
                return Committed([outcome.Error(_refusal(error)) for _ in operations])

    def _again(self, operations: Sequence[Operation], now: Microseconds) -> Committed:
        """One by one, in the room of the ballast: what ends a job is written, new jobs wait."""
        self.low_disk = True
        if self.database.ballast.release():
            log.warning("no room on the disk: gave up the ballast, no new batch jobs for now")
        answers, events, posted = list[Answer](), list[Event](), False
        for operation in operations:
            tx, answer = self._transaction(now), list[Answer]()
            try:
                _run(tx, [operation], answer)
            except sqlite3.Error as error:
                self._give_up_if_lost(error)
                answers.append(outcome.Error(_refusal(error)))
            else:
                done = self._committed(tx, answer)
                answers += done.answers
                events += done.events
                posted |= done.posted
        return Committed(answers, events, posted)

    def _give_up_if_lost(self, error: sqlite3.Error) -> None:
        if error.sqlite_errorcode in _LOST or _kind(error) in _LOST:
            raise DiskFailed(f"{self.database.directory.database}: {error}") from error

    def _reopen(self) -> None:
        try:
            self.database.reopen()
        except (StoreError, sqlite3.Error) as error:
            raise DiskFailed(str(error)) from error

    def _landed(self, tx: Transaction) -> bool:
        """Whether the transaction is there after all: its last event is unlike any other."""
        if not tx.events:
            return False
        last = tx.events[-1]
        query = "SELECT 1 FROM events WHERE seq = ? AND job = ? AND n = ? AND at = ?"
        values = (last.seq, last.job, last.n, last.at)
        return bool(self.database.connection.execute(query, values).fetchall())

    def _watch_space(self) -> None:
        """Refuse new batch jobs in good time; take them again once the ballast fits as well."""
        ballast = self.database.ballast
        free = free_bytes(self.database.directory.path)
        if free < self.keep_free:
            self.low_disk = True
        elif not self.low_disk or free >= self.keep_free + ballast.size:
            self.low_disk = not ballast.hold()

    def _shorten_log(self) -> None:
        size = self.database.directory.wal.stat().st_size
        if size < WAL_WORTH_COPYING:
            return
        mode = "TRUNCATE" if size > WAL_WORTH_CUTTING else "PASSIVE"
        connection = self.database.connection
        connection.execute("PRAGMA busy_timeout = 0")  # a reader must not hold up the writes
        try:
            rows = connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
        except sqlite3.Error as error:
            self._give_up_if_lost(error)
            log.warning("the log could not be copied into the database: %s", error)
            return
        finally:
            connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT}")
        [(pinned, frames, copied)] = rows
        if not pinned and frames == copied:
            self._copied = self.commits
        elif size > WAL_ALARM:
            log.warning("a reader that does not end keeps the log at %d MiB", size >> 20)


def _run(tx: Transaction, operations: Sequence[Operation], answers: list[Answer]) -> None:
    """One transaction. Raises sqlite3.Error, rolled back, when it failed as a whole."""
    connection = tx.connection
    try:
        connection.execute("BEGIN IMMEDIATE")
        if len(operations) == 1:  # the transaction is its savepoint
            answers.append(_answer(tx, operations[0]))
        else:
            answers.extend(_in_savepoint(tx, operation) for operation in operations)
        connection.execute("ROLLBACK" if _all_failed(answers) else "COMMIT")
    except BaseException:
        connection.rollback()
        raise


def _in_savepoint(tx: Transaction, operation: Operation) -> Answer:
    tx.connection.execute("SAVEPOINT operation")
    answer = _answer(tx, operation)
    if isinstance(answer, outcome.Error):
        tx.connection.execute("ROLLBACK TO operation")
    tx.connection.execute("RELEASE operation")
    return answer


def _answer(tx: Transaction, operation: Operation) -> Answer:
    """What the operation returned or raised, unless that spoilt the transaction for all."""
    published = len(tx.events)
    try:
        return outcome.Value(operation(tx))
    except Exception as error:
        if isinstance(error, sqlite3.Error) and _kind(error) in _SPOILT:
            raise
        del tx.events[published:]
        return outcome.Error(error)


def _all_failed(answers: Sequence[Answer]) -> bool:
    return all(isinstance(answer, outcome.Error) for answer in answers)


def _kind(error: sqlite3.Error) -> int:
    """SQLite's primary result code; errors of the Python module itself have none."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_MISUSE) & 0xFF


def _refusal(error: sqlite3.Error) -> StoreError:
    match _kind(error):
        case sqlite3.SQLITE_FULL:
            return StoreFull(str(error))
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StoreBusy(f"another process held the database for {BUSY_TIMEOUT // 1000} s")
        case _:
            return StoreError(f"nothing was written: {error}")
