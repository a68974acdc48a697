"""Rows A13 to A18: whatever was done to the file, every row that is left and sound is had back."""

import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from foreman import outbox
from foreman.audit import examine
from foreman.care import backup, rescue
from foreman.care.rebuild import Account
from foreman.database import Database, open_writer
from foreman.disk import DataDir
from foreman.errors import StoreRefused
from foreman.jobs import ENDED, JobId, JobIds
from foreman.queries import get_request, get_result
from foreman.rows import JobRow, Result
from foreman.schema import MIGRATIONS
from foreman.tables import Transaction, claim, events_of, finish, list_jobs, start, submit
from tests.fakes.jobs import new_job
from tests.golden.database import HOOK, NOW, restore

PAGE = 4096
LATER = NOW + 10**9
BODY = b'{"model":"small","messages":[{"role":"user","content":"%s"}]}' % (b"why? " * 300)

Damage = Callable[[DataDir, random.Random], None]


class Scene:
    """A database with a backup, and as many jobs again since then."""

    def __init__(self, path: Path) -> None:
        restore(MIGRATIONS[-1].name, path)
        self.directory, self.ids = DataDir(path), JobIds()
        with self.opened() as database:
            backup.make(
                self.directory.database, self.directory.backups / backup.name(NOW), keep_free=0
            )
            self.kept = {job.id for job in _jobs(database)}
            for _ in range(40):
                self.done(database)
            for _ in range(10):
                submit(self.tx(database), new_job(self.ids.new(), request=BODY, webhook=HOOK))
            self.truth = {job.id: job for job in _jobs(database)}
            database.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            database.close()

    def opened(self) -> Database:
        return open_writer(self.directory.path, now=LATER, ballast=4096)

    def tx(self, database: Database) -> Transaction:
        return Transaction(database.connection, LATER, database.epoch)

    def done(self, database: Database) -> None:
        tx = self.tx(database)
        ref = submit(tx, new_job(self.ids.new(), request=BODY, webhook=HOOK, labels={"a": "b"}))
        ref = start(tx, claim(tx, ref, resident=False), load_s=2.0)
        finish(tx, ref, result=Result(200, "application/json", BODY), tokens_out=7)
        database.mark.write(tx.events[-1].seq)

    def recover(self, *, with_backup: bool = True) -> Account:
        directory, folder = self.directory, self.directory.backups
        findings = rescue.find_damage(directory)
        assert findings
        if not with_backup:
            folder = directory.path / "none"
        outcome = rescue.recover_database(directory, folder, now=LATER, findings=findings)
        assert not list(directory.path.glob("recover-*"))
        return outcome.account

    def after(self) -> dict[JobId, JobRow]:
        """What a daemon finds, which has to be sound whatever came before."""
        with self.opened() as database:
            assert list(examine(database.connection)) == []
            found = {job.id: job for job in _jobs(database)}
            for job in found.values():
                events_of(database.connection, job.id)
            database.close()
        return found


def _jobs(database: Database) -> list[JobRow]:
    return [job for job in list_jobs(database.connection, limit=10_000) if isinstance(job, JobRow)]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene(tmp_path_factory.mktemp("rescue") / "data")


@pytest.fixture
def scene(original: Scene, tmp_path: Path) -> Scene:
    copy = object.__new__(Scene)
    copy.__dict__ = dict(original.__dict__)
    copy.directory = DataDir(tmp_path / "data")
    shutil.copytree(original.directory.path, copy.directory.path)
    return copy


def _overwrite(path: Path, *spans: tuple[int, bytes]) -> None:
    with path.open("r+b") as file:
        for start, content in spans:
            file.seek(start)
            file.write(content)


def _header(directory: DataDir, _: random.Random) -> None:
    _overwrite(directory.database, (0, bytes(100)))


def _schema(directory: DataDir, _: random.Random) -> None:
    _overwrite(directory.database, (100, bytes(PAGE - 100)))


def _bits(directory: DataDir, random_: random.Random) -> None:
    content = bytearray(directory.database.read_bytes())
    for _ in range(40):
        content[random_.randrange(2 * PAGE, len(content))] ^= 1 << random_.randrange(8)
    directory.database.write_bytes(content)


def _pages(directory: DataDir, random_: random.Random) -> None:
    count = directory.database.stat().st_size // PAGE
    spans = [(PAGE * random_.randrange(2, count), b"\xff" * PAGE) for _ in range(6)]
    _overwrite(directory.database, *spans)


def _roots(directory: DataDir, _: random.Random) -> None:
    """The pages that everything else is found by."""
    with closing(sqlite3.connect(directory.database)) as connection:
        roots = connection.execute("SELECT rootpage FROM sqlite_master WHERE rootpage > 0")
        spans = [(PAGE * (root - 1), b"\xff" * 12) for (root,) in roots.fetchall()]
    _overwrite(directory.database, *spans)


def _cut_off(directory: DataDir, _: random.Random) -> None:
    size = directory.database.stat().st_size
    with directory.database.open("r+b") as file:
        file.truncate(size * 3 // 4)


def _empty(directory: DataDir, _: random.Random) -> None:
    directory.database.write_bytes(b"")


def _missing(directory: DataDir, _: random.Random) -> None:
    directory.database.unlink()


def _other(directory: DataDir, random_: random.Random) -> None:
    directory.database.write_bytes(random_.randbytes(50_000))


CLASSES: list[tuple[Damage, bool, bool]] = [
    # damage; saves every job with the backup; saves any without
    (_header, True, True),
    (_schema, True, True),
    (_roots, False, True),  # those of jobs hold jobs
    (_bits, False, True),
    (_pages, False, True),
    (_cut_off, False, True),
    (_empty, False, False),
    (_missing, False, False),
    (_other, False, False),
]


@pytest.mark.parametrize("with_backup", [True, False])
@pytest.mark.parametrize(("damage", "whole", "some"), CLASSES)
def test_whatever_is_sound_is_had_back(
    scene: Scene, damage: Damage, whole: bool, some: bool, with_backup: bool
) -> None:
    damage(scene.directory, random.Random(5))
    with pytest.raises(StoreRefused, match=r"`foreman re(cover|store)"):
        _start(scene)
    account = scene.recover(with_backup=with_backup)
    found = scene.after()
    assert bool(found) == (some or with_backup)
    if with_backup:
        assert set(found) >= scene.kept
    if whole:
        assert account.whole and set(found) == set(scene.truth)
    for job, row in found.items():
        was = scene.truth[job]
        assert (row.model, row.endpoint, row.labels) == (was.model, was.endpoint, was.labels)
        if row.state in ENDED and was.job_class == "batch":
            assert row.state == was.state
    lost = set(scene.truth) - set(found)
    assert set(account.lost) <= lost
    if some:
        assert len(lost) < len(scene.truth) * 5 // 6


def _start(scene: Scene) -> None:
    """A daemon that was killed before looks at all of it, as far as its patience goes."""
    if scene.directory.database.exists() and scene.directory.database.stat().st_size:
        with (
            suppress(sqlite3.DatabaseError),
            closing(sqlite3.connect(scene.directory.database, isolation_level=None)) as connection,
        ):
            connection.execute("UPDATE store SET dirty = 1")
    scene.opened()


def test_the_damaged_database_is_kept_as_it_is(scene: Scene) -> None:
    _pages(scene.directory, random.Random(1))
    before = scene.directory.database.read_bytes()
    scene.recover()
    [old] = scene.directory.quarantine.glob("*/foreman.db")
    assert old.read_bytes() == before


def test_what_belongs_to_a_job_comes_back_with_it(scene: Scene) -> None:
    _schema(scene.directory, random.Random(1))
    scene.recover(with_backup=False)
    with scene.opened() as database:
        for job in _jobs(database):
            if job.webhook is not None and job.id not in scene.kept:
                assert get_request(database.connection, job.id) == BODY
                if job.state == "done":
                    assert get_result(database.connection, job.id).body == BODY
                    [message] = outbox.messages_of(database.connection, job.id)
                    assert message.state == "pending" and message.due_at is not None


def _delete(scene: Scene, statement: str) -> None:
    """Rows that nothing leads to any more: not even their pages say that they were there."""
    with closing(sqlite3.connect(scene.directory.database, isolation_level=None)) as connection:
        connection.execute("PRAGMA secure_delete = 1")
        connection.execute(statement)


def test_a_job_whose_log_is_lost_is_told_anew_from_its_row(scene: Scene) -> None:
    job = max(job for job, row in scene.truth.items() if row.state == "done")
    _delete(scene, f"DELETE FROM events WHERE job = '{job}' AND n = 2")
    account = scene.recover(with_backup=False)
    assert (account.retold, account.lost) == (1, [])
    with scene.opened() as database:
        events = events_of(database.connection, JobId(job))
        assert [event.state for event in events] == ["queued", "loading", "working", "done"]
        [message] = outbox.messages_of(database.connection, JobId(job))
        assert message.seq == events[-1].seq
    assert scene.after()[job].tokens_out == 7


def test_a_job_whose_row_is_lost_is_the_backups_brought_up_to_date(scene: Scene) -> None:
    with scene.opened() as database:
        [job] = [job for job in _jobs(database) if job.labels.get("team") == "blue"]
        tx = scene.tx(database)
        finish(tx, start(tx, claim(tx, job.ref, resident=True), load_s=None), tokens_out=9)
        database.close()
    _delete(scene, f"DELETE FROM jobs WHERE id = '{job.id}'")
    account = scene.recover()
    assert (account.advanced, account.lost) == (1, [])
    found = scene.after()[job.id]
    assert (found.state, found.tokens_out) == ("done", 9)


def test_a_job_of_which_nothing_but_events_is_left_is_named(scene: Scene) -> None:
    job = max(scene.truth)
    _delete(scene, f"DELETE FROM jobs WHERE id = '{job}'")
    account = scene.recover()
    assert account.lost == [job] and not account.whole
    assert set(scene.after()) == set(scene.truth) - {job}


def test_an_answer_that_is_lost_is_not_promised(scene: Scene) -> None:
    job = max(job for job, row in scene.truth.items() if row.state == "done")
    _delete(scene, f"UPDATE results SET body = x'00' WHERE job = '{job}'")
    account = scene.recover()
    assert account.without_result == 1
    assert scene.after()[job].state == "done"


def test_a_log_whose_middle_is_damaged_gives_up_its_end_too(scene: Scene) -> None:
    """SQLite forgets everything after the first bad frame: 300 of 300 times, without a word."""
    with scene.opened() as database:
        database.connection.execute("PRAGMA wal_autocheckpoint = 0")
        for _ in range(30):
            scene.done(database)
        truth = {job.id for job in _jobs(database)}
        main = scene.directory.database.read_bytes()
        wal = bytearray(scene.directory.wal.read_bytes())
    wal[len(wal) // 3] ^= 1
    scene.directory.database.write_bytes(main)
    scene.directory.wal.write_bytes(wal)
    scene.directory.shm.unlink(missing_ok=True)
    with pytest.raises(StoreRefused, match="its -wal was removed or damaged"):
        scene.opened()
    account = scene.recover()
    assert set(scene.after()) == truth
    assert account.lost == []


def test_numbers_are_never_given_out_again(scene: Scene) -> None:
    with scene.opened() as database:
        last = backup.standing(database.connection).seq
        epoch = database.epoch
        database.close()
    _cut_off(scene.directory, random.Random(1))
    scene.recover()
    with scene.opened() as database:
        tx = scene.tx(database)
        submit(tx, new_job(scene.ids.new()))
        assert tx.events[0].seq > last + 100_000
        assert database.epoch > epoch + 100


def test_a_sound_database_has_nothing_to_be_found(scene: Scene) -> None:
    assert rescue.find_damage(scene.directory) == []


def test_a_start_that_only_the_log_still_has_is_damage(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    with scene.opened() as database:  # and no `close`: the log stays
        database.connection.execute("PRAGMA wal_autocheckpoint = 0")
        database.connection.execute("PRAGMA user_version = 0")  # page 1 is in the log
        database.connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        for name in (scene.directory.database, scene.directory.wal):
            shutil.copy(name, tmp_path / f"{name.name}.then")
    for name in (scene.directory.database, scene.directory.wal):
        shutil.move(tmp_path / f"{name.name}.then", name)
    scene.directory.shm.unlink(missing_ok=True)
    with scene.directory.database.open("r+b") as file:
        file.write(bytes(100))
    assert any("its start is damaged" in found for found in rescue.find_damage(scene.directory))
    scene.recover()
    assert rescue.find_damage(scene.directory) == []
