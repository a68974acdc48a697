"""Checks of the data folder: whose it is, what it lies on, its room, how fast it is safe."""

import fcntl
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from foreman.disk import check_file, free_bytes, prepare
from foreman.doctor.context import Context, size
from foreman.doctor.findings import CannotLookError, Fine, Kind, Outcome, Severity
from foreman.errors import StoreRefused
from foreman.units import format_size

SAMPLES = 100  # syncs that are timed
LONGEST = 1.0  # seconds that timing them may take
SLOW = 0.005  # seconds; above it, one client after the other gets less than 200 jobs a second in
BATCH = 256  # submissions that share a commit at most

NETWORK = {
    *("9p", "afs", "ceph", "cifs", "glusterfs", "lustre", "ncpfs", "nfs", "nfs4", "smb3", "smbfs"),
    *("fuse.cephfs", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs"),
}
MEMORY = {"tmpfs", "ramfs"}

FOLDER_REFUSED = Kind(
    "data-folder-refused",
    Severity.PROBLEM,
    "{refusal}",
    "The daemon refuses to start: what is kept there is private, and must not be exchanged.",
    "chown -R {owner} {path}; chmod 700 {path}; chmod 600 {path}/foreman.*",
)
FOLDER_SHOWN = Kind(
    "data-folder-shown",
    Severity.NOTE,
    "others can look into {path} (mode {mode})",
    "They see names and sizes of results; the files themselves are for their owner only.",
    "chmod 700 {path}",
)
ON_NETWORK = Kind(
    "data-folder-on-network",
    Severity.PROBLEM,
    "{path} lies on a network file system ({kind})",
    "SQLite's locks and its write-ahead log are not safe there: the database may be damaged.",
    "Set FOREMAN_DATA_DIR to a local disk",
)
IN_MEMORY = Kind(
    "data-folder-in-memory",
    Severity.PROBLEM,
    "{path} lies in memory ({kind})",
    "All jobs are gone at the next boot, though clients were told they are safe.",
    "Set FOREMAN_DATA_DIR to a disk",
)
IN_CONTAINER = Kind(
    "data-folder-in-container",
    Severity.WARNING,
    "{path} lies in the writable layer of a container ({kind})",
    "All jobs are gone when the container is replaced.",
    "Mount a volume at {path}",
)
DISK_FULL = Kind(
    "disk-full",
    Severity.PROBLEM,
    "{free} are free on the disk of {path}, less than FOREMAN_MIN_FREE_DISK ({least})",
    "New work is refused with 507 until there is room.",
    "Make room, or shorten FOREMAN_RETENTION; the daemon goes on by itself",
)
DISK_LOW = Kind(
    "disk-low",
    Severity.WARNING,
    "{free} are free on the disk of {path}; below {least} new work is refused",
    "Results of a night may take more than that.",
    "Make room, or shorten FOREMAN_RETENTION",
)
BALLAST_GONE = Kind(
    "ballast-gone",
    Severity.WARNING,
    "the daemon holds no ballast: {path} is missing",
    "It was given up because the disk was full; should it fill again, the end of what runs "
    "cannot be written.",
    "Make room: {needed} more than FOREMAN_BALLAST; the daemon takes it back by itself",
)
FSYNC_SLOW = Kind(
    "fsync-slow",
    Severity.WARNING,
    "a write to {path} is safe after {median} ms, in the slowest of a hundred after {slowest} ms",
    "Each POST /jobs waits for one: a client that submits one job after the other gets at most "
    "{rate} a second in, {batch} at once share it.",
    "Use an SSD for FOREMAN_DATA_DIR, or POST /jobs/bulk",
)


def folder(context: Context) -> Iterator[Outcome]:
    """Is it this user's alone?"""
    directory = context.directory
    path = directory.path
    if not path.exists():
        parent = _existing(path)
        if not os.access(parent, os.W_OK | os.X_OK):
            text = f"{path} cannot be created: {parent} is not ours to write to"
            yield FOLDER_REFUSED(refusal=text, path=path, owner="$(id -u)")
        yield Fine(f"{path} is not there yet; foreman serve makes it")
        return
    owner = path.stat().st_uid
    if os.geteuid() == 0 and owner != 0:
        yield from _of_a_service(path, owner)
        return
    try:
        prepare(directory)  # of one that exists, it only looks
        for file in (directory.database, directory.wal, directory.mark):
            if file.exists():
                check_file(file)
    except StoreRefused as error:
        yield FOLDER_REFUSED(refusal=error, path=path, owner="$(id -u)")
        return
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o055:
        yield FOLDER_SHOWN(path=path, mode=f"{mode:04o}")
    yield Fine(f"{path} is this user's alone")


def _of_a_service(path: Path, owner: int) -> Iterator[Outcome]:
    """Root looks at a folder that is another user's: what matters is that all of it is theirs."""
    for file in path.rglob("*"):
        if file.lstat().st_uid != owner:
            text = f"{file} does not belong to uid {owner}, whose folder it is in"
            yield FOLDER_REFUSED(refusal=text, path=path, owner=owner)
            return
    yield Fine(f"{path} belongs to uid {owner}, with everything in it")


def file_system(context: Context) -> Iterator[Outcome]:
    """Does it lie on a disk that keeps it?"""
    path = context.settings.data_dir
    kind = context.machine.file_system(_existing(path))
    if kind is None:
        raise CannotLookError("this system does not say what kind of file system it is")
    if kind in NETWORK:
        yield ON_NETWORK(path=path, kind=kind)
    elif kind in MEMORY:
        yield IN_MEMORY(path=path, kind=kind)
    elif kind == "overlay":
        yield IN_CONTAINER(path=path, kind=kind)
    else:
        yield Fine(f"it lies on {kind}")


def room(context: Context) -> Iterator[Outcome]:
    """Is there room for more work, and for the end of what runs?"""
    settings, directory = context.settings, context.directory
    free = free_bytes(_existing(settings.data_dir))
    held = size(directory.ballast) >= settings.ballast
    least = settings.min_free_disk + (0 if held else settings.ballast)
    facts = {"path": settings.data_dir, "free": _rounded(free)}
    if free < settings.min_free_disk:
        yield DISK_FULL(**facts, least=format_size(settings.min_free_disk))
    elif free < 2 * least:
        yield DISK_LOW(**facts, least=format_size(settings.min_free_disk))
    if context.holder is not None and not held:
        yield BALLAST_GONE(path=directory.ballast, needed=format_size(settings.ballast))
    yield Fine(f"{_rounded(free)} are free")


def syncing(context: Context) -> Iterator[Outcome]:
    """How long does a write take until it is safe?"""
    path = context.settings.data_dir
    if not path.is_dir():
        raise CannotLookError(f"{path} is not there yet")
    try:
        times = sorted(_times(path, context.machine.clock))
    except OSError as error:
        raise CannotLookError(f"{path} cannot be written: {error.strerror}") from None
    median, slowest = times[len(times) // 2], times[len(times) * 99 // 100]
    facts = {"median": f"{median * 1000:.2f}", "slowest": f"{slowest * 1000:.2f}"}
    if median >= SLOW:
        yield FSYNC_SLOW(path=path, rate=round(1 / median), batch=BATCH, **facts)
    yield Fine(
        "a write is safe after {median} ms, in the slowest case {slowest} ms".format(**facts)
    )


def _times(path: Path, clock: Callable[[], float]) -> Iterator[float]:
    """Seconds of each sync, of a file that is removed at the end."""
    began = clock()
    with tempfile.TemporaryFile(dir=path, prefix="doctor-") as file:
        for _ in range(SAMPLES):
            os.pwrite(file.fileno(), bytes(4096), 0)
            started = clock()
            _sync(file.fileno())
            now = clock()
            yield now - started
            if now - began > LONGEST:
                return


def _sync(descriptor: int) -> None:
    full: int | None = getattr(fcntl, "F_FULLFSYNC", None)
    if full is None:
        os.fsync(descriptor)
    else:  # macOS: fsync alone does not reach the platter
        fcntl.fcntl(descriptor, full)


def _existing(path: Path) -> Path:
    """The folder, or where it would be made."""
    return next(each for each in (path, *path.parents) if each.exists())


def _rounded(count: int) -> str:
    """Bytes as people compare them."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} bytes"
