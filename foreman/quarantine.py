"""One database in the place of another, and the other one kept, whatever kills us in between.

The new one is made whole under the name `foreman.db.new` and renamed to `foreman.db.restored`. From
that moment on it is the database: what is left to do, moving the old one with its -wal and -shm
into `quarantine/TIME/` and giving the new one its name, is done by whoever comes next with the
lock in hand, a daemon's start included. Nothing is ever deleted.
"""

import os
import shutil
from pathlib import Path

from foreman.disk import DataDir, sync_directory
from foreman.rows import moment

SCRATCH = "recover-"  # how the folders begin in which a damaged database is taken apart
_STRAYS = "results-pending"  # in a quarantine: the files of results are still to be gone through


def draft(directory: DataDir) -> Path:
    """Where to make the new database: an empty place."""
    path = directory.path / "foreman.db.new"
    for name in (path, *(Path(f"{path}{end}") for end in ("-wal", "-shm", "-journal"))):
        name.unlink(missing_ok=True)
    return path


def tidy_up(directory: DataDir) -> None:
    """Remove what was being made when somebody was killed, which nobody will go on with."""
    draft(directory)
    for scratch in directory.path.glob(f"{SCRATCH}*"):
        shutil.rmtree(scratch, ignore_errors=True)


def replace(directory: DataDir) -> Path | None:
    """Put the draft, which must be whole and closed, in the database's place.

    Returns where the old one is now, None when there was none. The caller holds the lock.
    """
    made = directory.path / "foreman.db.new"
    descriptor = os.open(made, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    made.rename(directory.restored)
    sync_directory(directory.path)
    return finish(directory)


def finish(directory: DataDir) -> Path | None:
    """Do what a replacement that was interrupted has left to do; see `replace`."""
    if not directory.restored.exists():
        return None
    place = _place(directory)
    old = [path for path in _old(directory) if path.exists()]
    if old or place.exists():
        for folder in (place.parent, place):
            folder.mkdir(mode=0o700, exist_ok=True)
        (place / _STRAYS).touch(mode=0o600)
        for path in old:
            path.rename(place / path.name)
        for folder in (place, place.parent, directory.path):
            sync_directory(folder)
    directory.restored.rename(directory.database)
    sync_directory(directory.path)
    return place if place.exists() else None


def keep_results(directory: DataDir) -> Path | None:
    """Where a start is to put result files that no job knows of; None: it may delete them.

    After a replacement they may belong to jobs that the new database has never heard of.
    """
    pending = sorted(directory.quarantine.glob(f"*/{_STRAYS}"))
    return pending[-1].parent / "artifacts" if pending else None


def results_kept(directory: DataDir) -> None:
    """They were gone through: from the next start on such files are a crash's again."""
    for pending in directory.quarantine.glob(f"*/{_STRAYS}"):
        pending.unlink()


def _place(directory: DataDir) -> Path:
    """Named after when the new database was made, so that everybody who finishes finds the same."""
    made = moment(directory.restored.stat().st_mtime_ns // 1000)
    return directory.quarantine / f"{made:%Y%m%dT%H%M%S.%fZ}"


def _old(directory: DataDir) -> tuple[Path, ...]:
    return (directory.database, directory.wal, directory.shm)
