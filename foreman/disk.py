"""The data directory: whose it is, who holds it, what it last promised, what room it keeps."""

import fcntl
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from foreman.errors import StoreRefused

PRIVATE = 0o077  # permission bits that would show prompts to others
SHARED = 0o022  # permission bits that would let others swap files


@dataclass(frozen=True, slots=True)
class DataDir:
    """Where everything of one daemon lies."""

    path: Path

    @property
    def database(self) -> Path:
        """The SQLite database; -wal and -shm belong to it."""
        return self.path / "foreman.db"

    @property
    def wal(self) -> Path:
        """Its write-ahead log."""
        return self.path / "foreman.db-wal"

    @property
    def shm(self) -> Path:
        """Shared memory of those who have the database open."""
        return self.path / "foreman.db-shm"

    @property
    def restored(self) -> Path:
        """A database that is whole and about to take the other one's place."""
        return self.path / "foreman.db.restored"

    @property
    def backups(self) -> Path:
        """Copies, unless the settings put them elsewhere; those from before a migration always."""
        return self.path / "backups"

    @property
    def quarantine(self) -> Path:
        """Databases that were replaced, each in a folder of its own; never cleared by us."""
        return self.path / "quarantine"

    @property
    def artifacts(self) -> Path:
        """Results that are too large for a row."""
        return self.path / "artifacts"

    @property
    def lock(self) -> Path:
        """Held with flock for as long as the daemon lives."""
        return self.path / "foreman.lock"

    @property
    def mark(self) -> Path:
        """The last event number promised to anyone; its existence says there was a database."""
        return self.path / "foreman.mark"

    @property
    def ballast(self) -> Path:
        """Disk space held back for the day there is none."""
        return self.path / "ballast"


def prepare(directory: DataDir) -> None:
    """Make the directory, for its owner only. Raises StoreRefused when it cannot be used."""
    path = directory.path
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        raise StoreRefused(path, "is a file, not a directory") from None
    except OSError as error:
        raise StoreRefused(path, f"cannot be created ({error.strerror}); {_who()}") from error
    _check_owner(path, SHARED, "others could swap the database; run chmod go-w")
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise StoreRefused(path, f"cannot be written ({_facts(path)}); {_who()}")


def check_file(path: Path) -> None:
    """Raises StoreRefused unless this user, and nobody else, can read and write this file."""
    if not path.is_file():
        raise StoreRefused(path, "is not a regular file")
    _check_owner(path, PRIVATE, "others can read it; run chmod 600")
    if not os.access(path, os.R_OK | os.W_OK):
        raise StoreRefused(path, f"cannot be written ({_facts(path)}); {_who()}")


def _check_owner(path: Path, forbidden: int, advice: str) -> None:
    found = path.stat()
    if found.st_uid != os.geteuid():
        raise StoreRefused(path, f"belongs to somebody else ({_facts(path)}); {_who()}")
    if found.st_mode & forbidden:
        raise StoreRefused(path, f"{advice} ({_facts(path)})")


def hand_over(folder: Path) -> None:
    """What root made in a folder that is another user's becomes theirs: a service's, mostly.

    For who is not root there is nothing to do.
    """
    if os.geteuid() != 0 or not folder.is_dir():
        return
    owner = folder.stat()
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # a daemon at work beside us removes its own
            if path.lstat().st_uid == 0 != owner.st_uid:
                os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _facts(path: Path) -> str:
    found = path.stat()
    return f"owner uid {found.st_uid}, mode {stat.S_IMODE(found.st_mode):04o}"


def _who() -> str:
    return f"this process runs as uid {os.geteuid()}"


def hold_lock(path: Path) -> int:
    """Lock the directory for this process; the lock lasts as long as the descriptor returned.

    Raises StoreRefused with the holder's process id when another daemon has it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise StoreRefused(path, f"another foreman runs here: process {holder}") from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


@dataclass(frozen=True, slots=True)
class Mark:
    """The high-water mark of promised events, outside the database so that it can contradict it.

    Written after each commit and never synced: it may lag behind the database, so only a mark that
    is ahead means something: events are gone that somebody was told about.
    """

    descriptor: int

    @classmethod
    def open(cls, path: Path) -> "Mark":
        """Open it for writing, made where there is none yet."""
        new = not path.exists()
        mark = cls(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        if new:
            mark.write(0)
            os.fsync(mark.descriptor)
            sync_directory(path.parent)
        return mark

    def write(self, seq: int) -> None:
        """Promise everything up to `seq`. A failure costs only the later comparison."""
        with suppress(OSError):
            os.pwrite(self.descriptor, b"%020d\n" % seq, 0)


def read_mark(path: Path) -> int | None:
    """The last promise; 0 when unreadable, None when there never was a database here."""
    try:
        return int(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        return 0


def sync_directory(path: Path) -> None:
    """Make the names in it durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Ballast:
    """A file of `size` bytes, given up when the disk is full, to write what must be written."""

    path: Path
    size: int

    def hold(self) -> bool:
        """Take the space, unless it is held; False when less than that again would be left."""
        with suppress(FileNotFoundError):
            if self.path.stat().st_size == self.size:
                return True
        if free_bytes(self.path.parent) < 2 * self.size:
            return False
        try:
            self._allocate()
        except OSError:
            self.release()
            return False
        return True

    def release(self) -> bool:
        """Give the space back; False when it was given back before."""
        try:
            self.path.unlink()
        except OSError:
            return False
        return True

    def _allocate(self) -> None:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(descriptor, 0, self.size)
            else:  # macOS; APFS does not compress or share what was written
                for start in range(0, self.size, len(_BLOCK)):
                    os.pwrite(descriptor, _BLOCK[: self.size - start], start)
        finally:
            os.close(descriptor)


_BLOCK = bytes(1 << 20)


def free_bytes(path: Path) -> int:
    """Room on the file system for this user."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize
