"""A backup is whole, checked, in nobody's way; what is no backup is never taken for one."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import pytest

from foreman import snapshot
from foreman.audit import check
from foreman.care import backup
from foreman.care.backup import Backup
from foreman.database import Database, open_reader, open_writer
from foreman.errors import BackupFailed, StoreRefused
from foreman.jobs import JobIds
from foreman.schema import APPLICATION_ID, MIGRATIONS
from foreman.snapshot import DRAFT, LONGEST_REST, Pace, Stopped
from foreman.tables import Transaction, submit
from tests.fakes.jobs import new_job
from tests.golden.database import NOW, restore

IDS = JobIds()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    restore(MIGRATIONS[-1].name, tmp_path)
    with open_writer(tmp_path, now=NOW, ballast=4096) as opened:
        yield opened


def target(database: Database) -> Path:
    return database.directory.backups / backup.name(NOW)


def make(database: Database, rest: snapshot.Rest = lambda: None, keep_free: int = 0) -> Backup:
    path = database.directory.database
    return backup.make(path, target(database), keep_free=keep_free, rest=rest)


def write(database: Database, size: int = 10) -> None:
    tx = Transaction(database.connection, NOW, database.epoch)
    database.connection.execute("BEGIN IMMEDIATE")
    submit(tx, new_job(IDS.new(), request=b"x" * size))
    database.connection.execute("COMMIT")


def files(database: Database) -> list[str]:
    return sorted(path.name for path in database.directory.backups.iterdir())


def test_a_backup_is_one_private_file_that_says_whose_it_is(database: Database) -> None:
    made = make(database)
    assert files(database) == ["foreman-20250615T150640Z.db"]
    assert made.path.stat().st_mode & 0o777 == 0o600
    header = made.path.read_bytes()[:100]
    assert int.from_bytes(header[68:72]) == APPLICATION_ID
    assert int.from_bytes(header[60:64]) == len(MIGRATIONS)
    with closing(open_reader(made.path)) as copy:
        assert check(copy, None) == []
        assert backup.standing(copy) == backup.standing(database.connection)
        assert copy.execute("PRAGMA auto_vacuum").fetchall() == [(2,)]


def test_what_is_written_meanwhile_is_not_in_it_and_not_in_its_way(database: Database) -> None:
    written = 0

    def rest() -> None:
        nonlocal written
        write(database)
        written += 1

    before = backup.standing(database.connection)
    made = make(database, rest)
    found = backup.verify(made.path)
    assert written > 3
    assert before.seq <= found.seq < backup.standing(database.connection).seq


def test_retention_may_work_meanwhile(database: Database) -> None:
    def rest() -> None:
        database.connection.execute("DELETE FROM jobs WHERE id = (SELECT min(id) FROM jobs)")

    assert check(database.connection, None) == []
    make(database, rest)


def test_rows_that_are_not_copied_are_missed(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_into = snapshot.copy_into

    def lossy(connection: sqlite3.Connection, draft: Path, rest: snapshot.Rest) -> None:
        copy_into(connection, draft, rest)
        with closing(sqlite3.connect(draft, isolation_level=None)) as copy:
            copy.execute("DELETE FROM events WHERE seq = 3")

    monkeypatch.setattr(snapshot, "copy_into", lossy)
    with pytest.raises(BackupFailed, match="events were copied"):
        make(database)
    assert files(database) == []


def test_a_backup_of_damaged_rows_is_kept_as_such_and_counts_as_none(database: Database) -> None:
    make(database)
    good = target(database).read_bytes()
    database.connection.execute("UPDATE jobs SET priority = 7 WHERE state = 'done'")
    with pytest.raises(BackupFailed, match="2 findings, the first: the row of job"):
        make(database)
    assert target(database).read_bytes() == good
    name = target(database).name
    assert files(database) == [name, f"{name}.damaged"]
    assert [each.path for each in backup.backups(database.directory.backups)] == [target(database)]


def test_a_disk_without_room_is_not_filled(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BackupFailed, match="make room, or put FOREMAN_BACKUP_DIR"):
        make(database, keep_free=1 << 60)
    left = iter([1 << 40, 1 << 40])
    monkeypatch.setattr(backup, "free_bytes", lambda _: next(left, 0))
    monkeypatch.setattr(backup, "_SPACE_EVERY", 1)
    with pytest.raises(BackupFailed, match="less than FOREMAN_MIN_FREE_DISK is free"):
        make(database, keep_free=1)
    assert files(database) == []


def test_stopped_at_any_rest_it_leaves_nothing(database: Database) -> None:
    rests = 0

    def count() -> None:
        nonlocal rests
        rests += 1

    make(database, count)
    target(database).unlink()
    for at in range(rests):
        asked = iter([False] * at + [True])
        with pytest.raises(Stopped):
            make(database, Pace(1.0, asked.__next__))
        assert files(database) == []
    assert rests > 10


def test_a_pace_rests_in_proportion_to_its_work() -> None:
    now, slept = 0.0, list[float]()
    pace = Pace(0.25, clock=lambda: now, pause=slept.append)
    pace()
    now = 0.010
    pace()
    assert slept == [pytest.approx(0.030)]


def test_a_pace_that_was_held_up_is_not_deaf_for_long() -> None:
    now, slept = 0.0, list[float]()
    pace = Pace(0.25, clock=lambda: now, pause=slept.append)
    now = 60.0
    pace()
    assert slept == [LONGEST_REST]


_VICTIM = """
import os, sys
from pathlib import Path
from foreman.care import backup

rests = 0
def rest():
    global rests
    rests += 1
    if rests == int(sys.argv[3]):
        os.kill(os.getpid(), 9)

backup.make(Path(sys.argv[1]), Path(sys.argv[2]), keep_free=0, rest=rest)
"""


@pytest.mark.parametrize("at", [1, 4, 9])
def test_a_kill_leaves_no_backup_and_the_next_one_tidies_up(database: Database, at: int) -> None:
    command = [sys.executable, "-c", _VICTIM, database.directory.database, target(database)]
    killed = subprocess.run([*map(str, command), str(at)], check=False)
    assert killed.returncode == -9
    assert backup.backups(database.directory.backups) == []
    other = database.directory.backups / backup.name(NOW + 10**6)
    backup.make(database.directory.database, other, keep_free=0)
    assert files(database) == [other.name]


def test_a_draft_that_somebody_writes_is_left_alone(tmp_path: Path) -> None:
    with snapshot.drafted(tmp_path / "a") as draft:
        (tmp_path / f"b{DRAFT}").touch()
        snapshot.remove_drafts(tmp_path, "*")
        assert [path.name for path in tmp_path.iterdir()] == [draft.name]
        with pytest.raises(BlockingIOError), snapshot.drafted(tmp_path / "a"):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def _foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (a)")


def _newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")


def _flipped(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE results SET status = 7")


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_foreign, "belongs to another program"),
        (_newer, "was written by a newer foreman"),
        (_flipped, "in results is damaged"),
        (_cut, "malformed"),
        (lambda path: path.write_bytes(b""), "is empty"),
    ],
)
def test_only_a_sound_database_of_ours_is_verified(
    database: Database, tmp_path: Path, spoil: object, words: str
) -> None:
    path = make(database).path
    assert backup.verify(path).jobs == 10
    if spoil is _foreign:
        path = tmp_path / "foreign.db"
    spoil(path)  # type: ignore[operator]
    with pytest.raises(StoreRefused, match=words):
        backup.verify(path)


def test_the_newest_that_is_good_is_found(database: Database) -> None:
    older, folder = make(database), database.directory.backups
    newer = backup.make(database.directory.database, folder / backup.name(NOW + 10**6), keep_free=0)
    assert [each for each, _ in backup.newest_good(folder)] == [newer, older]
    _flipped(newer.path)
    assert [each for each, _ in backup.newest_good(folder)] == [older]


def at(day: int, hour: int = 3) -> datetime:
    return datetime(2026, 5, 1, hour, 30, tzinfo=UTC) + timedelta(days=day)


def kept(found: list[Backup], daily: int, weekly: int) -> list[datetime]:
    gone = backup.superseded(found, daily, weekly)
    return sorted((each.made_at for each in found if each not in gone), reverse=True)


def test_the_last_of_each_day_and_of_each_week_is_kept() -> None:
    nightly = [Backup(Path(f"{day}"), at(day), 1) for day in range(60)]
    sundays = [at(day) for day in (51, 44)]  # day 59 is a Monday, the first of the fourth week
    assert kept(nightly, 7, 4) == [at(day) for day in range(59, 52, -1)] + sundays
    assert kept(nightly, 1, 1) == [at(59)]


def test_many_of_one_day_do_not_push_out_the_days_before() -> None:
    found = [Backup(Path(f"{hour}"), at(3, hour), 1) for hour in range(10)]
    found += [Backup(Path("-"), at(1), 1)]
    assert kept(found, 2, 1) == [at(3, 9), at(1)]


def test_what_is_no_backup_is_never_rotated_away(tmp_path: Path) -> None:
    names = ["before-schema-2.db", "foreman-x.db", "foreman-20260501T033000Z.db.damaged", "notes"]
    for name in names:
        (tmp_path / name).touch()
    for day in range(1, 4):
        (tmp_path / f"foreman-2026050{day}T033000Z.db").touch()
    assert len(backup.rotate(tmp_path, 1, 1)) == 2
    assert {path.name for path in tmp_path.iterdir()} == {*names, "foreman-20260503T033000Z.db"}


def test_what_is_named_like_a_backup_and_is_none_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "foreman-99999999T999999Z.db").touch()
    (tmp_path / "foreman-20260501T033000Z.db").symlink_to(tmp_path / "gone")
    assert backup.backups(tmp_path) == []


def test_what_others_keep_beside_a_copy_stays(database: Database, tmp_path: Path) -> None:
    folder = tmp_path / "desk"
    folder.mkdir()
    for name in ("thesis.draft", "photo.damaged"):
        (folder / name).touch()
    path = database.directory.database
    backup.make(path, folder / "copy.db", keep_free=0)
    database.connection.execute("UPDATE jobs SET priority = 7 WHERE state = 'done'")
    for _ in range(2):
        with pytest.raises(BackupFailed, match=r"kept as \.damaged"):
            backup.make(path, folder / "bad.db", keep_free=0)
    found = sorted(each.name for each in folder.iterdir())
    assert found == ["bad.db.damaged", "copy.db", "photo.damaged", "thesis.draft"]


def test_two_that_make_the_same_copy_are_told_so(database: Database) -> None:
    def again() -> None:
        with pytest.raises(BackupFailed, match="somebody else is making it right now"):
            make(database)

    make(database, again)


def test_a_draft_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("kept")
    (tmp_path / f"a{DRAFT}").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic links"), snapshot.drafted(tmp_path / "a"):
        pass
    assert (tmp_path / "secret").read_text() == "kept"


def test_a_backup_is_due_once_a_day_and_after_a_night_that_was_slept_through() -> None:
    def due(newest: datetime | None, now: datetime) -> bool:
        return backup.is_due(time(3, 30), newest, round(now.timestamp() * 1e6))

    local = datetime(2026, 5, 4, 3, 31).astimezone()
    hour, day = timedelta(hours=1), timedelta(days=1)
    assert due(None, local)
    assert due(local - day, local)
    assert not due(local, local + hour)
    assert not due(local, local + 23 * hour)
    assert due(local, local + day)
    assert due(local - 5 * day, local - 2 * hour)
