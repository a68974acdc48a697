"""`foreman backup`, `backups`, `restore`, `recover`: what they do and say."""

import os
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import typer

from foreman import quarantine
from foreman.care import backup as backups_
from foreman.care import rescue
from foreman.care import restore as restoring
from foreman.care.backup import Backup
from foreman.cli.data_view import tell, what_it_means
from foreman.cli.exits import Ended, Exit
from foreman.cli.progress import Task, task
from foreman.cli.terminal import Table, duration, render, say
from foreman.config import Settings, load
from foreman.disk import DataDir, hand_over, hold_lock
from foreman.errors import BackupFailed, StoreError, StoreRefused
from foreman.snapshot import DRAFT, Pace

BESIDE_A_DAEMON = 0.5  # of the time; without one, all of it


def back_up(to: Path | None, *, as_json: bool) -> None:
    """Raises BackupFailed and ConfigError."""
    settings = load()
    directory = _existing(settings)
    now = time.time_ns() // 1000
    copy = _folder(settings) / backups_.name(now) if to is None else _new(to, directory)
    with (
        task("copying") as shown,
        _handed_over(directory.path, copy.parent if to is None else None),
    ):
        made = backups_.make(
            directory.database,
            copy,
            keep_free=settings.min_free_disk,
            rest=_Growing(shown, copy, directory.database, _pace(directory)),
            check_rest=_Checking(shown, _pace(directory)),
        )
        if to is None:
            backups_.rotate(copy.parent, settings.backup_daily, settings.backup_weekly)
    if as_json:
        _print(_described(made))
    else:
        typer.echo(made.path)
        say(f"{_mib(made.size)}, every row checked")


def show_backups(*, as_json: bool) -> None:
    """Raises ConfigError."""
    settings = load()
    found = backups_.backups(_folder(settings))
    if as_json:
        _print({"backups": [_described(each) for each in found]})
        return
    if not found:
        say(f"no backups in {_folder(settings)}")
        return
    rows = [
        (str(each.path), _age(each.made_at.timestamp()), f"{_mib(each.size)}") for each in found
    ]
    render(Table(("BACKUP", "AGE", "SIZE"), rows))


def restore(which: str, *, yes: bool, as_json: bool) -> None:
    """Raises StoreRefused, Ended when it is not wanted, ConfigError."""
    settings = load()
    directory = DataDir(settings.data_dir)
    copy = _chosen(which, _folder(settings))
    with _stopped(directory):
        with task("checking the copy") as shown:
            plan = restoring.plan(directory, copy, shown.rest)
        if not as_json:
            say(what_it_means(plan))
        _agreed(yes, "Go back to it?")
        with task("copying") as shown:
            place = restoring.carry_out(directory, plan, shown.report)
    if as_json:
        _print(
            {
                "restored": str(copy),
                "seq": plan.kept.seq,
                "jobs": plan.kept.jobs,
                "lost_events": plan.lost_events,
                "goes_on_after": plan.goes_on_after,
                "quarantine": str(place) if place else None,
            }
        )
        return
    typer.echo(f"restored: {plan.kept.jobs} jobs, events up to {plan.kept.seq}")
    if place:
        typer.echo(f"what was there: {place}")


def recover(*, yes: bool, as_json: bool) -> None:
    """Raises StoreRefused, Ended when something was lost or it is not wanted, ConfigError."""
    settings = load()
    directory = _existing(settings)
    with _stopped(directory):
        with task("looking for damage") as shown:
            findings = rescue.find_damage(directory, shown.rest)
        if not findings:
            raise Ended(Exit.WELL, f"{directory.database}: nothing is wrong; nothing was done")
        for finding in findings[:5]:
            say(f"found: {finding}")
        say(f"{len(findings)} findings. The database goes to {directory.quarantine} as it is.")
        _agreed(yes, "Put together what can be saved?")
        with task("reading") as shown:
            outcome = rescue.recover_database(
                directory,
                _folder(settings),
                now=time.time_ns() // 1000,
                findings=findings,
                tell=shown.tell,
                rest=shown.rest,
            )
    if as_json:
        _print(_accounted(outcome))
    else:
        tell(outcome)
    if not outcome.account.whole:
        raise Ended(Exit.INCOMPLETE, "recovered, but not all of it")


@contextmanager
def _handed_over(*folders: Path | None) -> Generator[None]:
    """As root on a service's folders: what is made there is the service's, however this ends."""
    try:
        yield
    finally:
        for folder in filter(None, folders):
            hand_over(folder)


@contextmanager
def _stopped(directory: DataDir) -> Generator[None]:
    """Keep every daemon out. Raises StoreRefused while one runs."""
    if not directory.path.is_dir():
        raise StoreRefused(directory.path, "is not there (FOREMAN_DATA_DIR)")
    try:
        descriptor = hold_lock(directory.lock)
    except StoreRefused as held:
        raise StoreRefused(held.path, f"{held.reason}; stop it first") from None
    try:
        with _handed_over(directory.path):
            quarantine.finish(directory)  # of a restore that was killed
            yield
    except OSError as error:
        raise StoreRefused(Path(error.filename or directory.path), f"{error.strerror}") from error
    finally:
        os.close(descriptor)


def _pace(directory: DataDir) -> Pace:
    """Slower while a daemon works beside us."""
    try:
        os.close(hold_lock(directory.lock))
    except StoreRefused:
        return Pace(BESIDE_A_DAEMON)
    return Pace()


class _Growing:
    """A rest in which the draft's size is shown."""

    EVERY = 0.2  # seconds

    def __init__(self, shown: Task, copy: Path, database: Path, pace: Pace) -> None:
        self._shown = shown
        self._draft = copy.with_name(copy.name + DRAFT)
        self._total = database.stat().st_size
        self._pace = pace
        self._next = 0.0

    def __call__(self) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + self.EVERY
            size = self._draft.stat().st_size if self._draft.exists() else 0
            self._shown.report(size, max(self._total, size))
        self._pace()


class _Checking:
    """A rest while the copy is checked, which takes as long as it takes."""

    def __init__(self, shown: Task, pace: Pace) -> None:
        self._shown = shown
        self._pace = pace
        self._told = False

    def __call__(self) -> None:
        if not self._told:
            self._told = True
            self._shown.tell("checking every row")
        self._pace()


def _agreed(yes: bool, question: str) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise Ended(Exit.USAGE, "nothing was changed: there is nobody to ask, say --yes")
    if not typer.confirm(question, err=True):
        raise Ended(Exit.REFUSED, "nothing was changed")


def _existing(settings: Settings) -> DataDir:
    directory = DataDir(settings.data_dir)
    if not directory.database.exists() and not directory.mark.exists():
        raise StoreRefused(directory.database, "is not there (FOREMAN_DATA_DIR)")
    return directory


def _folder(settings: Settings) -> Path:
    return settings.backup_dir or DataDir(settings.data_dir).backups


def _new(to: Path, directory: DataDir) -> Path:
    """Where nothing is that the copy would replace. Raises BackupFailed."""
    copy = to.absolute()
    if os.path.lexists(copy):
        raise BackupFailed(f"{copy}: is there already; name a file that is not")
    if copy.parent.resolve() == directory.path.resolve():
        raise BackupFailed(f"{copy}: is where foreman's own files are; name another folder")
    return copy


def _chosen(which: str, folder: Path) -> Path:
    if which != backups_.LATEST:
        path = Path(which).absolute()
        with suppress(RuntimeError):  # there is no such user
            path = Path(which).expanduser().absolute()
        if not path.is_file():
            reason = "is no file" if path.exists() else "is not there"
            raise StoreRefused(path, f"{reason}; `foreman backups` lists those there are")
        return path
    found = backups_.backups(folder)
    if not found:
        raise StoreError(f"{folder}: there is no backup here (FOREMAN_BACKUP_DIR)")
    return found[0].path


def _accounted(outcome: rescue.Outcome) -> dict[str, object]:
    return {
        "findings": outcome.findings,
        "backup": str(outcome.backup.path) if outcome.backup else None,
        "quarantine": str(outcome.quarantine) if outcome.quarantine else None,
        **msgspec.to_builtins(outcome.account),
    }


def _described(backup: Backup) -> dict[str, object]:
    return {"path": str(backup.path), "made_at": backup.made_at, "bytes": backup.size}


def _print(document: object) -> None:
    typer.echo(msgspec.json.format(msgspec.json.encode(document)))


def _age(seconds: float) -> str:
    return duration(max(0.0, time.time() - seconds))


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
