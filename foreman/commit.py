"""Group commit: many operations, one transaction, one fsync; and what to do when the disk objects.

Synchronous; `actors.store` runs it where it may block.
"""

import logging
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
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
WAL_ALARM = 64 << 20  # only a reader that lasts lets it grow so far: a backup, for a while
WAL_PATIENCE = 180  # looks, of a few seconds each, before that is worth a word; then once more

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
    """One answer for each operation, in order, and what is to be told: see Transaction.

    `sync_s` is how long COMMIT took, None where nothing was committed or it went wrong at first.
    """

    answers: list[Answer]
    events: list[Event] = field(default_factory=list[Event])
    posted: bool = False
    sync_s: float | None = None


@dataclass(slots=True)
class Committer:
    """The write side of `database`. Below `keep_free` bytes of room new batch jobs are refused."""

    database: Database
    keep_free: int
    low_disk: bool = False
    commits: int = 0
    _tended: int = 0  # `commits` when `tend` last looked
    _copied: int = 0  # `commits` when the log was last copied into the database
    _long: int = 0  # looks since when the log has been longer than WAL_ALARM

    @property
    def idle(self) -> bool:
        """Whether nothing was written since the last look."""
        return self.commits == self._tended

    def reset(self) -> None:
        """Forget a transaction that a crashed store left open."""
        self.database.connection.rollback()

    def commit(self, operations: Sequence[Operation], now: Microseconds) -> Committed:
        """Run them all in one transaction, each failing alone; what it answers is on disk.

        After trouble with the disk an operation may run a second time. Raises DiskFailed.
        """
        tx, answers = self._transaction(now), list[Answer]()
        try:
            sync_s = _run(tx, operations, answers)
        except sqlite3.Error as error:
            log.error("a commit of %d operations failed: %s", len(operations), error)
            return self._settle(tx, operations, answers, error)
        return self._committed(tx, answers, sync_s)

    def tend(self) -> None:
        """To be called every few seconds: watch the free space, and shorten an idle log."""
        self._watch_space()
        size = self._log_size()
        self._watch_log(size)
        if self.idle and self.commits != self._copied and self.database.checkpoints:
            self._shorten_log(size)
        self._tended = self.commits

    def log_has_grown(self) -> None:
        """Something was written beside the commits: copy it, too, when there is time."""
        self._copied = -1

    def _transaction(self, now: Microseconds) -> Transaction:
        return Transaction(
            self.database.connection, now, self.database.epoch, low_disk=self.low_disk
        )

    def _committed(
        self, tx: Transaction, answers: list[Answer], sync_s: float | None = None
    ) -> Committed:
        if not _all_failed(answers):  # what was rolled back leaves an idle log idle
            self.commits += 1
        if tx.events:
            self.database.mark.write(tx.events[-1].seq)
        return Committed(answers, tx.events, tx.posted, sync_s)

    def _settle(
        self,
        tx: Transaction,
        operations: Sequence[Operation],
        answers: list[Answer],
        error: sqlite3.Error,
    ) -> Committed:
        """Find out what became of a transaction that failed as a whole, and act on it."""
        self.give_up_if_lost(error)
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
                self.give_up_if_lost(error)
                answers.append(outcome.Error(_refusal(error)))
            else:
                done = self._committed(tx, answer)
                answers += done.answers
                events += done.events
                posted |= done.posted
        return Committed(answers, events, posted)

    def give_up_if_lost(self, error: sqlite3.Error) -> None:
        """Raises DiskFailed for an error after which nobody knows what is on the disk."""
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

    def _log_size(self) -> int:
        try:
            return self.database.directory.wal.stat().st_size
        except FileNotFoundError:
            return 0

    def _watch_log(self, size: int) -> None:
        self._long = self._long + 1 if size > WAL_ALARM else 0
        if self._long and self._long % WAL_PATIENCE == 0:
            whose = "a reader that does not end keeps" if self.database.checkpoints else _ALONE
            log.warning("%s the log at %d MiB", whose, size >> 20)

    def _shorten_log(self, size: int) -> None:
        if size < WAL_WORTH_COPYING:
            return
        mode = "TRUNCATE" if size > WAL_WORTH_CUTTING else "PASSIVE"
        connection = self.database.connection
        connection.execute("PRAGMA busy_timeout = 0")  # a reader must not hold up the writes
        try:
            rows = connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
        except sqlite3.Error as error:
            self.give_up_if_lost(error)
            log.warning("the log could not be copied into the database: %s", error)
            return
        finally:
            connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT}")
        [(pinned, frames, copied)] = rows
        if not pinned and frames == copied:
            self._copied = self.commits


_ALONE = "FOREMAN_CHECKPOINT=litestream, and it does not do its work (is it running?):"


def _run(tx: Transaction, operations: Sequence[Operation], answers: list[Answer]) -> float | None:
    """One transaction; see Committed for what it returns.

    Raises sqlite3.Error, rolled back, when it failed as a whole.
    """
    connection = tx.connection
    try:
        connection.execute("BEGIN IMMEDIATE")
        if len(operations) == 1:  # the transaction is its savepoint
            answers.append(_answer(tx, operations[0]))
        else:
            answers.extend(_in_savepoint(tx, operation) for operation in operations)
        if _all_failed(answers):
            connection.execute("ROLLBACK")
            return None
        began = perf_counter()
        connection.execute("COMMIT")
        return perf_counter() - began
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
