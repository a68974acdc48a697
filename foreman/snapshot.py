"""A whole copy of a database as of one commit, made while others write, and seen only when whole.

VACUUM INTO from any connection. The copy is written under a draft's name, synced as it grows, and
renamed when it was found good. A draft is locked for as long as somebody writes it, so what a kill
left behind can be told from what is being made.
"""

import fcntl
import os
import sqlite3
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import perf_counter, sleep

from foreman.disk import sync_directory

DRAFT = ".draft"
OPERATIONS = 400  # of SQLite's virtual machine between two rests; a row is about four
SYNC_EVERY = 1 << 20  # bytes of the draft; more of them in one go would hold up the log's syncs
SLICE = 0.001  # seconds of work before a rest
LONGEST_REST = (
    0.5  # seconds; a slow disk must not make it deaf to those who do not want it any more
)

Rest = Callable[[], None]
"""Called all the time while a copy is made; may sleep, or raise to end it."""


class Stopped(Exception):
    """The copy was not wanted any longer. The draft is gone."""


class Pace:
    """Works for `share` of the time and rests for the remainder of it, LONGEST_REST at a time.

    `stopped` is asked at every rest; once it says so, the next rest raises Stopped.
    """

    def __init__(
        self,
        share: float = 1.0,
        stopped: Callable[[], bool] = lambda: False,
        *,
        clock: Callable[[], float] = perf_counter,
        pause: Callable[[float], None] = sleep,
    ) -> None:
        self._rest_for = (1 - share) / share  # seconds, for each second of work
        self._stopped = stopped
        self._clock = clock
        self._pause = pause
        self._since = clock()

    def __call__(self) -> None:
        if self._stopped():
            raise Stopped
        worked = self._clock() - self._since
        if worked >= SLICE:
            if self._rest_for:
                self._pause(min(worked * self._rest_for, LONGEST_REST))
            self._since = self._clock()


@contextmanager
def drafted(copy: Path) -> Generator[Path]:
    """The path to write the copy to; when the block ends well, the copy is there under its name.

    Raises OSError. Whatever goes wrong, no draft stays, and what was there before is untouched.
    """
    draft = copy.with_name(copy.name + DRAFT)
    descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.fchmod(descriptor, 0o600)
        os.ftruncate(descriptor, 0)  # of one that was killed
        _remove_beside(draft)
        yield draft
        os.fsync(descriptor)
        draft.rename(copy)
        sync_directory(copy.parent)
    except BlockingIOError:
        raise  # it is somebody else's
    except BaseException:
        draft.unlink(missing_ok=True)
        _remove_beside(draft)
        raise
    finally:
        os.close(descriptor)


def remove_drafts(folder: Path, names: str) -> None:
    """Delete what was left by those who were killed while they made a copy named like this."""
    for draft in folder.glob(names + DRAFT):
        with suppress(OSError), draft.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            draft.unlink()
            _remove_beside(draft)


def _remove_beside(draft: Path) -> None:
    """What SQLite put there; it would believe it."""
    for end in ("-journal", "-wal", "-shm"):
        Path(f"{draft}{end}").unlink(missing_ok=True)


def copy_into(connection: sqlite3.Connection, draft: Path, rest: Rest = lambda: None) -> None:
    """Write what `connection` sees of its database into an empty file.

    Every SYNC_EVERY bytes they are brought to the disk before more are written. Raises
    sqlite3.Error, OSError, and whatever `rest` raises.
    """
    with draft.open("rb") as file, resting(connection, _Synced(file.fileno(), rest)):
        connection.execute("PRAGMA query_only = 0")  # it means the copy as well; a reader still
        connection.execute("VACUUM INTO ?", (str(draft),))  # cannot write its database


@contextmanager
def resting(connection: sqlite3.Connection, rest: Rest) -> Generator[None]:
    """What `connection` does inside is interrupted by rests, and ended by what one of them raises.

    SQLite only hears that it shall stop; why, is raised here.
    """
    raised: list[BaseException] = []

    def step() -> int:
        try:
            rest()
        except BaseException as reason:  # noqa: ASYNC103, BLE001  raised below
            raised.append(reason)
        return len(raised)

    connection.set_progress_handler(step, OPERATIONS)
    try:
        yield
    except sqlite3.OperationalError:
        if raised:
            raise raised[0] from None
        raise
    finally:
        connection.set_progress_handler(None, 0)


class _Synced:
    """A rest in which what was written since the last one is synced, if that is enough by now."""

    def __init__(self, descriptor: int, rest: Rest) -> None:
        self._descriptor = descriptor
        self._rest = rest
        self._synced = 0

    def __call__(self) -> None:
        size = os.fstat(self._descriptor).st_size
        if size - self._synced >= SYNC_EVERY:
            os.fsync(self._descriptor)
            self._synced = size
        self._rest()
