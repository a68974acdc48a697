"""The maintenance: a backup every night, and once a week a look at all there is.

Inbox:  none; it goes by the wall clock.
Owns:   the folder of the backups, and the file that says when the last check was.
Crash:  a draft is left, which the next backup removes; what is due is still due.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Protocol, TypeVar

import outcome
import trio

from foreman.care import backup, checkup
from foreman.disk import DataDir
from foreman.errors import BackupFailed
from foreman.executor import Executor
from foreman.rows import Microseconds, moment
from foreman.snapshot import Pace

log = logging.getLogger("foreman.maintenance")

T = TypeVar("T")

SETTLE = 300.0  # seconds after a start; a machine that wakes up has enough to do
LOOK_EVERY = 60.0  # seconds; the machine may have slept through any longer wait
RETRY = 3600.0  # seconds after something went wrong
COPYING = 0.25  # of the time; the longer it takes, the longer the log grows, the less it disturbs
CHECKING = 1 / 3  # of the time, in Python, which keeps the event loop waiting


class Measured(Protocol):
    """Who hears how it goes: foreman.metrics."""

    def backed_up(self, when_unix_s: float, seconds: float, ok: bool) -> None:
        """A backup was made or failed, in so many seconds."""
        ...

    def checked(self, findings: int) -> None:
        """How many things a check of the whole database found wrong."""
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """When and where; `keep_free` is in bytes.

    `due` says whether a backup is, from when the newest was made and the time; None makes none.
    """

    directory: DataDir
    folder: Path
    due: Callable[[datetime | None, Microseconds], bool] | None
    daily: int
    weekly: int
    keep_free: int


async def run(
    plan: Plan,
    measured: Measured,
    stopping: trio.Event,
    *,
    execute: Executor,
    now: Callable[[], Microseconds],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Do what is due until `stopping` is set. What is under way then is given up at once."""
    task_status.started()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_Maintenance(plan, measured, execute, now).go_on)
        await stopping.wait()
        nursery.cancel_scope.cancel("the daemon stops")


class _Maintenance:
    def __init__(
        self, plan: Plan, measured: Measured, execute: Executor, now: Callable[[], Microseconds]
    ) -> None:
        self._plan = plan
        self._measured = measured
        self._execute = execute
        self._now = now
        self._seq = -1  # of the last event, at the last look

    async def go_on(self) -> None:
        if found := await self._execute(partial(self._backups, moment(self._now()))):
            self._measured.backed_up(found[0].made_at.timestamp(), 0.0, True)
        await trio.sleep(SETTLE)
        while True:
            well = await self._back_up_if_due()
            well = await self._check_if_due() and well
            await trio.sleep(LOOK_EVERY if well else RETRY)

    def _backups(self, now: datetime) -> list[backup.Backup]:
        """Those up to now: one made while the clock was ahead must not stop the next ones."""
        with suppress(OSError):
            return [each for each in backup.backups(self._plan.folder) if each.made_at <= now]
        return []

    async def _back_up_if_due(self) -> bool:
        """False when it went wrong."""
        found = await self._execute(partial(self._backups, moment(self._now())))
        newest = found[0].made_at if found else None
        if self._plan.due is None or not self._plan.due(newest, self._now()):
            return True
        began = perf_counter()
        try:
            made = await self._unhurried(partial(self._back_up, backup.name(self._now())))
        except BackupFailed as error:
            log.error("no backup: %s; tried again in an hour", error)
            self._measured.backed_up(self._now() / 1e6, perf_counter() - began, False)
            return False
        seconds = perf_counter() - began
        log.info("backup %s: %d MiB in %.0f s", made.path, made.size >> 20, seconds)
        self._measured.backed_up(self._now() / 1e6, seconds, True)
        return True

    def _back_up(self, name: str, stopped: Callable[[], bool]) -> backup.Backup:
        plan = self._plan
        made = backup.make(
            plan.directory.database,
            plan.folder / name,
            keep_free=plan.keep_free,
            rest=Pace(COPYING, stopped),
            check_rest=Pace(CHECKING, stopped),
        )
        try:
            backup.rotate(plan.folder, plan.daily, plan.weekly)
        except OSError as error:
            log.error("old backups in %s cannot be deleted: %s", plan.folder, error)
        return made

    async def _check_if_due(self) -> bool:
        """False when it could not be done. Waits for a quiet minute, but not for ever."""
        directory, now = self._plan.directory, self._now()
        last = await self._execute(partial(checkup.last_done, directory))
        if not checkup.is_due(last, now, idle=True):
            return True
        seq = await self._execute(partial(checkup.last_event, directory))
        idle, self._seq = seq == self._seq, seq
        if not checkup.is_due(last, now, idle=idle):
            return True
        try:
            findings = await self._unhurried(partial(checkup.run, directory, now))
        except OSError as error:
            log.error("the check of the database came to nothing: %s", error)
            return False
        for finding in findings[:100]:
            log.error("the check of the database found: %s", finding)
        if findings:
            log.error("%d findings; `foreman recover` puts right what can be", len(findings))
        else:
            log.info("the check of the database found nothing wrong")
        self._measured.checked(len(findings))
        return True

    async def _unhurried(self, work: Callable[[Callable[[], bool]], T]) -> T:
        """In its thread, which hears at its next rest that nobody wants it any more."""
        given_up = threading.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_set_when_cancelled, given_up)
            answer = await self._execute(lambda: outcome.capture(work, given_up.is_set))
            await trio.lowlevel.checkpoint_if_cancelled()  # or it would look as if it had failed
            nursery.cancel_scope.cancel("done")
        return answer.unwrap()


async def _set_when_cancelled(event: threading.Event) -> None:
    try:
        await trio.sleep_forever()
    finally:
        event.set()
