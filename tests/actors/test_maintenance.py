"""The nightly backup and the weekly check, in virtual time, beside a store that works."""

import logging
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from actors import maintenance
from foreman.care import backup
from foreman.database import Database, open_writer
from foreman.executor import Executor, inline, threaded
from foreman.schema import MIGRATIONS
from tests.golden.database import restore

BEGAN = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
DAY = 86_400.0


@dataclass
class Heard:
    """What the metrics are told."""

    backups: list[tuple[float, bool]] = field(default_factory=list[tuple[float, bool]])
    checks: list[int] = field(default_factory=list[int])

    def backed_up(self, when_unix_s: float, seconds: float, ok: bool) -> None:
        assert seconds >= 0
        self.backups.append((when_unix_s, ok))

    def checked(self, findings: int) -> None:
        self.checks.append(findings)


@dataclass
class House:
    database: Database
    heard: Heard = field(default_factory=Heard)
    slept: float = 0.0  # seconds of the machine's sleep, which only the wall clock has seen
    keep_free: int = 0

    def now(self) -> int:
        return round((BEGAN.timestamp() + trio.current_time() + self.slept) * 1e6)

    @property
    def folder(self) -> Path:
        return self.database.directory.backups

    def backups(self) -> list[str]:
        found = backup.backups(self.folder) if self.folder.exists() else []
        return [f"{each.made_at:%m-%d %H:%M}" for each in found]

    def plan(self, at: time | None) -> maintenance.Plan:
        due = None if at is None else partial(backup.is_due, at)
        return maintenance.Plan(self.database.directory, self.folder, due, 7, 4, self.keep_free)


@pytest.fixture
def house(tmp_path: Path) -> Any:
    restore(MIGRATIONS[-1].name, tmp_path)
    with open_writer(tmp_path, now=round(BEGAN.timestamp() * 1e6), ballast=4096) as database:
        database.connection.execute("PRAGMA synchronous = 0")
        yield House(database)


@pytest.fixture(autouse=True)
def seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of looks in days of virtual time are some seconds of ours."""
    monkeypatch.setattr(maintenance, "LOOK_EVERY", 1500.0)


@asynccontextmanager
async def maintained(
    house: House, execute: Executor = inline, at: time | None = time(3, 30)
) -> AsyncGenerator[None]:
    stopping = trio.Event()
    run = partial(maintenance.run, house.plan(at), house.heard, stopping)
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(run, execute=execute, now=house.now))
        yield
        stopping.set()


async def test_a_backup_is_made_every_night_and_the_old_ones_go(
    autojump_clock: MockClock, house: House
) -> None:
    async with maintained(house):
        await trio.sleep(16 * DAY)
    found = house.backups()
    assert [each[:5] for each in found[6:]] == ["05-11", "05-10", "05-03"]  # Sundays
    assert all(" 03:3" in each or " 03:4" in each or " 03:5" in each for each in found)
    assert len(house.heard.backups) >= 16
    assert all(ok for _, ok in house.heard.backups)


async def test_a_night_that_the_machine_slept_through_is_made_up_for(
    autojump_clock: MockClock, house: House
) -> None:
    async with maintained(house):
        await trio.sleep(DAY)
        assert house.backups()[0].startswith("05-02 03:")
        house.slept = 3 * DAY
        await trio.sleep(1500)
        assert house.backups()[0].startswith("05-05 12:")


async def test_a_backup_from_the_future_stops_none(autojump_clock: MockClock, house: House) -> None:
    house.folder.mkdir()
    (house.folder / "foreman-20990101T000000Z.db").touch()  # the clock was ahead once
    async with maintained(house):
        await trio.sleep(2 * DAY)
    assert [each[:5] for each in house.backups()] == ["01-01", "05-03", "05-02", "05-01"]


async def test_the_first_minutes_of_a_daemon_belong_to_its_users(
    autojump_clock: MockClock, house: House
) -> None:
    async with maintained(house):
        await trio.sleep(maintenance.SETTLE - 1)
        assert house.backups() == []
        await trio.sleep(2)
        assert house.backups() == ["05-01 12:05"]


async def test_none_is_made_where_none_is_wanted(autojump_clock: MockClock, house: House) -> None:
    async with maintained(house, at=None):
        await trio.sleep(3 * DAY)
    assert house.backups() == []


async def test_what_fails_is_said_and_tried_again(
    autojump_clock: MockClock, house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house.keep_free = 1 << 60
    async with maintained(house):
        await trio.sleep(maintenance.SETTLE + 1)
        assert "no backup:" in caplog.text and "make room" in caplog.text
        await trio.sleep(2.5 * maintenance.RETRY)
        assert [ok for _, ok in house.heard.backups] == [False] * 3
    house.keep_free = 0
    async with maintained(house):
        await trio.sleep(maintenance.SETTLE + 1)
    assert house.heard.backups[-1][1]


async def test_an_earlier_backup_is_told_at_the_start(
    autojump_clock: MockClock, house: House
) -> None:
    path = house.folder / backup.name(house.now())
    backup.make(house.database.directory.database, path, keep_free=0)
    async with maintained(house):
        await trio.sleep(1)
    assert house.heard.backups == [(BEGAN.timestamp(), True)]


async def test_once_a_week_everything_is_looked_at(
    autojump_clock: MockClock, house: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with maintained(house, at=None):
        await trio.sleep(8 * DAY)
    assert house.heard.checks == [0, 0]
    assert "found nothing wrong" in caplog.text
    house.database.connection.execute("UPDATE requests SET body = x'00'")
    async with maintained(house, at=None):  # a restart is no reason to look again at once
        await trio.sleep(DAY)
        assert house.heard.checks == [0, 0]
        await trio.sleep(7 * DAY)
    assert len(house.heard.checks) == 3 and house.heard.checks[-1] > 1
    assert "in requests is damaged" in caplog.text


async def test_the_check_waits_for_a_quiet_minute_but_not_for_ever(
    autojump_clock: MockClock, house: House
) -> None:
    async with maintained(house, at=None), trio.open_nursery() as nursery:

        async def work() -> None:
            while True:
                house.database.connection.execute("UPDATE store SET seq = seq + 1")
                await trio.sleep(1000)

        await trio.sleep(3600)
        assert house.heard.checks == [0]
        nursery.start_soon(work)
        await trio.sleep(7.9 * DAY)
        assert house.heard.checks == [0]
        await trio.sleep(0.3 * DAY)
        assert house.heard.checks == [0, 0]
        nursery.cancel_scope.cancel()


async def test_a_stop_does_not_wait_for_a_backup(
    autojump_clock: MockClock, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a thread, which works until it is told that nobody wants it any more."""
    began = trio.Event()
    token = trio.lowlevel.current_trio_token()

    def endless(*_: object, rest: Any, **__: object) -> None:
        token.run_sync_soon(began.set)
        while True:
            rest()

    monkeypatch.setattr(backup, "make", endless)
    monkeypatch.setattr(maintenance, "SETTLE", 0.0)
    async with maintained(house, threaded(1)):
        await began.wait()
    assert house.backups() == []


async def test_a_backup_in_virtual_time_can_be_restored(
    autojump_clock: MockClock, house: House
) -> None:
    async with maintained(house):
        await trio.sleep(DAY)
    [newest, *_] = backup.backups(house.folder)
    assert backup.verify(newest.path) == backup.standing(house.database.connection)
    with closing(sqlite3.connect(newest.path)) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
