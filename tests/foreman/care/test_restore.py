"""Going back: to all of the backup or not at all, and no number is ever given out twice."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from foreman import quarantine
from foreman.artifacts import ArtifactFiles
from foreman.audit import examine
from foreman.care import backup, restore
from foreman.database import Database, open_reader, open_writer
from foreman.disk import DataDir
from foreman.errors import StoreRefused
from foreman.event_log import EventFilter, page_after, page_of_job
from foreman.jobs import JobId, JobIds
from foreman.rows import Result
from foreman.schema import MIGRATIONS
from foreman.tables import Transaction, claim, finish, get_job, list_jobs, start, submit
from tests.fakes.jobs import new_job
from tests.golden.database import NOW
from tests.golden.database import restore as golden

IDS = JobIds()
LATER = NOW + 86_400_000_000


class Scene:
    """A folder with a backup, and a database that went on after it."""

    def __init__(self, path: Path) -> None:
        golden(MIGRATIONS[-1].name, path)
        self.directory = DataDir(path)
        self.copy = self.directory.backups / backup.name(NOW)
        with self.opened() as database:
            backup.make(self.directory.database, self.copy, keep_free=0)
            self.kept = jobs(database)
            self.new = [self.done(database) for _ in range(3)]
            self.epoch = database.epoch
            database.close()

    def opened(self) -> Database:
        return open_writer(self.directory.path, now=LATER, ballast=4096)

    def done(self, database: Database) -> JobId:
        """A job that has ended, with its result in a file, and was promised to somebody."""
        tx = Transaction(database.connection, LATER, database.epoch)
        ref = start(tx, claim(tx, submit(tx, new_job(IDS.new())), resident=True), load_s=0.5)
        files = ArtifactFiles(self.directory.artifacts)
        self.directory.artifacts.mkdir(exist_ok=True)
        finish(tx, ref, artifact=files.publish(ref.id, 1, Result(200, "text/plain", b"x")))
        database.mark.write(tx.events[-1].seq)
        return ref.id

    def restore(self) -> restore.Plan:
        plan = restore.plan(self.directory, self.copy)
        restore.carry_out(self.directory, plan)
        return plan

    def quarantined(self) -> set[str]:
        return {path.name for path in self.directory.quarantine.glob("*/*")}


def jobs(database: Database) -> list[str]:
    return [job.id for job in list_jobs(database.connection)]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path / "data")


def test_what_was_there_is_kept_and_the_copy_is_in_its_place(scene: Scene) -> None:
    before = scene.directory.database.read_bytes()
    plan = scene.restore()
    assert plan.lost_events == 12
    [old] = scene.directory.quarantine.glob("*/foreman.db")
    assert old.read_bytes() == before
    assert scene.copy.exists()
    with scene.opened() as database:
        assert jobs(database) == scene.kept
        assert list(examine(database.connection)) == []


def test_numbers_and_epochs_go_on_beyond_the_lost_future(scene: Scene) -> None:
    with closing(open_reader(scene.directory.database)) as connection:
        last = backup.standing(connection).seq
    scene.restore()
    with scene.opened() as database:
        assert database.epoch == scene.epoch + 1
        tx = Transaction(database.connection, LATER, database.epoch)
        submit(tx, new_job(IDS.new()))
        assert tx.events[0].seq > last + 1


def test_every_cursor_from_before_is_told_to_look_anew(scene: Scene) -> None:
    with closing(open_reader(scene.directory.database)) as connection:
        last = backup.standing(connection).seq
    scene.restore()
    with scene.opened() as database:
        for cursor in range(1, last + 1):
            page = page_after(database.connection, cursor, limit=9, wanted=EventFilter())
            assert cursor < page.pruned_seq  # "expired": foreman.subscription
            assert cursor < page.last_seq
        [job] = scene.kept[:1]
        page = page_of_job(database.connection, JobId(job), last - 1, limit=9)
        assert last - 1 < page.pruned_seq


def test_what_had_not_ended_in_the_copy_is_queued_again(scene: Scene) -> None:
    with closing(open_reader(scene.copy)) as copy:
        live = backup.standing(copy).live
    scene.restore()
    with scene.opened() as database:
        waiting = "SELECT count(*) FROM jobs WHERE state = 'queued'"
        assert database.connection.execute(waiting).fetchall() == [(live,)]


def test_files_of_results_that_the_copy_does_not_know_are_put_aside(scene: Scene) -> None:
    scene.restore()
    assert len(list(scene.directory.artifacts.glob("*/*"))) == 3
    with scene.opened() as database:
        files = ArtifactFiles(scene.directory.artifacts)
        keep = quarantine.keep_results(scene.directory)
        assert keep is not None
        assert files.sweep(database.connection, keep).removed == 3
        quarantine.results_kept(scene.directory)
    assert {path.name for path in keep.glob("*/*")} == {f"{job}.1" for job in scene.new}
    assert quarantine.keep_results(scene.directory) is None


def test_a_database_that_cannot_be_read_is_replaced_with_room_for_what_it_may_have_said(
    scene: Scene,
) -> None:
    scene.directory.database.write_bytes(b"\0" * 8192)
    plan = scene.restore()
    assert plan.present is None
    assert plan.goes_on_after > plan.promised + restore.UNKNOWN_EVENTS
    with scene.opened() as database:
        assert jobs(database) == scene.kept
        assert database.epoch > scene.epoch + restore.UNKNOWN_STARTS // 2


def test_a_missing_database_is_restored(scene: Scene) -> None:
    scene.directory.database.unlink()
    scene.restore()
    with scene.opened() as database:
        assert jobs(database) == scene.kept


def test_a_damaged_copy_is_refused_and_nothing_is_changed(scene: Scene) -> None:
    before = scene.directory.database.read_bytes()
    with closing(sqlite3.connect(scene.copy, isolation_level=None)) as copy:
        copy.execute("UPDATE jobs SET priority = 3")
    with pytest.raises(StoreRefused, match="is damaged: the row of job"):
        scene.restore()
    assert scene.directory.database.read_bytes() == before
    assert not scene.directory.quarantine.exists()


def test_a_copy_in_two_files_is_taken_with_its_log(scene: Scene, tmp_path: Path) -> None:
    """As cp makes one of a daemon that was killed."""
    other = tmp_path / "other.db"
    with scene.opened() as database:
        job = scene.done(database)
        other.write_bytes(scene.directory.database.read_bytes())
        Path(f"{other}-wal").write_bytes(scene.directory.wal.read_bytes())
    plan = restore.plan(scene.directory, other)
    restore.carry_out(scene.directory, plan)
    with scene.opened() as database:
        assert get_job(database.connection, job) is not None


def test_one_may_go_back_and_forth(scene: Scene) -> None:
    scene.restore()
    with scene.opened() as database:
        database.close()
    [first] = scene.directory.quarantine.glob("*/foreman.db")
    restore.carry_out(scene.directory, restore.plan(scene.directory, first))
    with scene.opened() as database:
        assert set(scene.new) <= set(jobs(database))
        assert list(examine(database.connection)) == []
    assert len(list(scene.directory.quarantine.glob("*/foreman.db"))) == 2


_VICTIM = """
import os, sys
from pathlib import Path
from foreman.care import restore
from foreman.disk import DataDir

left = int(sys.argv[3])

def hook(event, arguments):
    global left
    path = str(arguments[0]) if arguments else ""
    writes = event == "open" and isinstance(arguments[1], str) and "r" not in arguments[1]
    if event in ("os.rename", "os.mkdir", "os.remove", "sqlite3.connect") or writes:
        if sys.argv[1] in path:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), 9)

directory = DataDir(Path(sys.argv[1]))
plan = restore.plan(directory, Path(sys.argv[2]))
sys.addaudithook(hook)
restore.carry_out(directory, plan, lambda done, total: hook("os.rename", [sys.argv[1]]))
print("done")
"""


def killed_at(scene: Scene, step: int) -> bool:
    """Whether the restore was killed there, before it was over."""
    arguments = (sys.executable, "-c", _VICTIM, scene.directory.path, scene.copy)
    ended = subprocess.run([*map(str, arguments), str(step)], capture_output=True, check=False)
    assert ended.returncode in (0, -9), ended.stderr
    return ended.returncode == -9


def test_a_kill_at_any_step_leaves_the_old_database_or_the_new_one(tmp_path: Path) -> None:
    step, outcomes = 1, list[bool]()
    while True:
        scene = Scene(tmp_path / str(step))
        killed = killed_at(scene, step)
        with scene.opened() as database:
            found = jobs(database)
            assert list(examine(database.connection)) == []
        new = found == scene.kept
        assert new or set(found) == {*scene.kept, *scene.new}
        assert ("foreman.db" in scene.quarantined()) == new
        assert not list(scene.directory.path.glob("foreman.db.[rn]*"))
        outcomes.append(new)
        if not killed:
            break
        step += 1
    assert outcomes == sorted(outcomes)  # the old one up to some step, from then on the new one
    assert outcomes.count(False) >= 3
    assert outcomes.count(True) >= 4


def test_a_log_beside_the_old_database_goes_with_it(scene: Scene) -> None:
    with scene.opened() as database:  # and is not closed in good order: its log stays
        scene.done(database)
        wal = scene.directory.wal.read_bytes()
        main = scene.directory.database.read_bytes()
    scene.directory.database.write_bytes(main)
    scene.directory.wal.write_bytes(wal)
    scene.restore()
    assert {"foreman.db", "foreman.db-wal"} <= scene.quarantined()
    assert not scene.directory.wal.exists()


def test_a_copy_that_nobody_can_write_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    before = scene.directory.database.read_bytes()
    statement = b"CHECK (state IN ('pending'"
    copied = scene.copy.read_bytes()
    assert statement in copied
    scene.copy.write_bytes(copied.replace(statement, b"CHECK (s\x9b\x9bte IN ('pending'"))
    with pytest.raises(StoreRefused):
        scene.restore()
    assert scene.directory.database.read_bytes() == before
    assert not list(tmp_path.glob("foreman.db.*"))
