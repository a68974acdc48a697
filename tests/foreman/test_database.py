"""Opening: what is refused, in which words, and that a refusal changes nothing."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from foreman.database import WRITER_PRAGMAS, Database, open_reader, open_writer
from foreman.disk import DataDir
from foreman.errors import StoreRefused
from foreman.jobs import Fingerprint, JobClass, JobId
from foreman.recovery import Recovered
from foreman.schema import MIGRATIONS
from foreman.tables import NewJob, Transaction, claim, get_job, submit
from tests.golden.database import restore

NOW = 1_800_000_000_000_000
SMALL = 4096  # bytes of ballast


def opened(path: Path) -> Database:
    return open_writer(path, now=NOW, ballast=SMALL)


def new(number: int) -> NewJob:
    return NewJob(JobId(f"{number:026d}"), JobClass.BATCH, "/api/chat", "m", Fingerprint("m"))


def accept(database: Database, number: int) -> None:
    """One durable job, promised to its client as the store does it."""
    tx = Transaction(database.connection, NOW, database.epoch)
    database.connection.execute("BEGIN IMMEDIATE")
    submit(tx, new(number))
    database.connection.execute("COMMIT")
    database.mark.write(tx.events[-1].seq)


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    """A directory whose database was used and closed in good order."""
    directory = DataDir(tmp_path / "data")
    with opened(directory.path) as database:
        accept(database, 1)
        database.close()
    return directory


def contents(directory: Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes()
        for path in directory.iterdir()
        if path.is_file() and path.name != "foreman.lock"
    }


def refusal(directory: DataDir) -> str:
    """The words of the refusal, once it is certain that nothing was written."""
    before = contents(directory.path)
    with pytest.raises(StoreRefused) as refused:
        opened(directory.path)
    assert contents(directory.path) == before
    return str(refused.value)


def test_a_new_directory_is_private_and_holds_a_database(tmp_path: Path) -> None:
    with opened(tmp_path / "a" / "b") as database:
        assert database.epoch == 1
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    assert DataDir(tmp_path / "a" / "b").database.stat().st_mode & 0o777 == 0o600


def test_every_setting_is_in_force(data: DataDir) -> None:
    with opened(data.path) as database:
        [(mode,)] = database.connection.execute("PRAGMA journal_mode")
        assert mode == "wal"
        for name, value in WRITER_PRAGMAS.items():
            assert database.connection.execute(f"PRAGMA {name}").fetchone() == (value,)


def test_a_commit_is_on_the_platter_before_it_is_answered(data: DataDir) -> None:
    """Less than FULL loses acknowledged jobs at a power cut."""
    with opened(data.path) as database:
        assert database.connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_each_start_is_a_new_epoch(data: DataDir) -> None:
    for epoch in (2, 3, 4):
        with opened(data.path) as database:
            assert database.epoch == epoch


def test_a_clean_stop_leaves_no_log_behind(data: DataDir) -> None:
    assert not data.wal.exists()


def test_a_reader_cannot_write(data: DataDir) -> None:
    connection = open_reader(data.database)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("UPDATE store SET epoch = 0")
    connection.close()


def test_a_start_settles_what_the_last_one_left(data: DataDir) -> None:
    with opened(data.path) as database:
        job = get_job(database.connection, JobId(f"{1:026d}"))
        assert job is not None
        claim(Transaction(database.connection, NOW, 2), job.ref, resident=True)
    with opened(data.path) as database:
        assert database.recovered == Recovered(requeued=1)


def _missing(data: DataDir) -> None:
    data.database.unlink()


def _empty(data: DataDir) -> None:
    os.truncate(data.database, 0)


def _garbage(data: DataDir) -> None:
    data.database.write_bytes(b"\x7fELF" + bytes(8192))
    data.database.chmod(0o600)


def _short(data: DataDir) -> None:
    os.truncate(data.database, 60)


def _directory(data: DataDir) -> None:
    data.database.unlink()
    data.database.mkdir()


def _foreign(data: DataDir) -> None:
    data.database.unlink()
    _sql(data, "PRAGMA application_id = 7", "CREATE TABLE t (a)")
    data.database.chmod(0o600)


def _newer(data: DataDir) -> None:
    _sql(data, "PRAGMA user_version = 99")


def _stranger(data: DataDir) -> None:
    _sql(data, "INSERT INTO _sqlite_migrations VALUES (9, 'foreman', '0009_wings', '')")


def _world_readable(data: DataDir) -> None:
    data.database.chmod(0o644)


def _group_writable_directory(data: DataDir) -> None:
    data.path.chmod(0o770)


def _older_copy(data: DataDir) -> None:
    copy = data.database.read_bytes()
    with opened(data.path) as database:
        accept(database, 2)
        database.close()
    data.database.write_bytes(copy)


def _corrupt_after_crash(data: DataDir) -> None:
    _sql(data, "UPDATE store SET dirty = 1")
    with data.database.open("r+b") as file:
        file.seek(4096 * 3)
        file.write(b"\xff" * 4096 * 4)


def _contradiction_after_crash(data: DataDir) -> None:
    _sql(data, "UPDATE store SET dirty = 1", "UPDATE jobs SET priority = 9")


def _sql(data: DataDir, *statements: str) -> None:
    connection = sqlite3.connect(data.database, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_missing, "foreman.db: is missing, but there was a database here"),
        (_empty, "foreman.db: is empty: it was truncated"),
        (_garbage, "foreman.db: is not an SQLite database"),
        (_short, "foreman.db: is not an SQLite database, or its start is damaged"),
        (_directory, "foreman.db: is not a regular file"),
        (_foreign, "foreman.db: belongs to another program (application id 0x7)"),
        (_newer, "foreman.db: was written by a newer foreman (schema 99, this one knows 1)"),
        (_stranger, "foreman.db: has migrations unknown to this version: 0009_wings"),
        (_world_readable, "run chmod 600 (owner uid {uid}, mode 0644)"),
        (_group_writable_directory, "run chmod go-w (owner uid {uid}, mode 0770)"),
        (_older_copy, "ends at event 1, but event 2 was announced"),
        (_corrupt_after_crash, "foreman.db: is damaged: "),
        (_contradiction_after_crash, f"the row of job {1:026d} is damaged"),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else "",
)
def test_what_is_not_certainly_ours_and_sound_is_refused_untouched(
    data: DataDir, damage: Callable[[DataDir], None], words: str
) -> None:
    damage(data)
    assert words.format(uid=os.geteuid()) in refusal(data)


def test_a_lost_log_is_noticed(data: DataDir) -> None:
    """As after kill -9: the last commits are in the log alone, and somebody tidies up."""
    with opened(data.path) as database:
        accept(database, 2)
        copy = {path: path.read_bytes() for path in (data.database, data.mark)}
    for path, content in copy.items():
        path.write_bytes(content)
    assert "its -wal was removed or damaged" in refusal(data)


def test_a_log_without_its_database_is_refused(data: DataDir) -> None:
    for path in (data.database, data.mark):
        path.unlink()
    data.wal.write_bytes(b"x")
    assert "has lost the database it belongs to" in refusal(data)


def test_removing_the_mark_accepts_the_loss(data: DataDir) -> None:
    _older_copy(data)
    data.mark.unlink()
    with opened(data.path) as database:
        assert database.epoch == 2


def test_a_half_made_database_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "foreman.db.draft").write_bytes(b"half")
    (tmp_path / "foreman.db.draft-wal").write_bytes(b"half")
    with opened(tmp_path) as database:
        assert database.epoch == 1
    assert not list(tmp_path.glob("*.draft*"))


def test_a_second_daemon_is_refused_and_told_who_has_it(data: DataDir) -> None:
    with opened(data.path), pytest.raises(StoreRefused, match=f"process {os.getpid()}"):
        opened(data.path)


_RACER = """
import sys
from pathlib import Path
from foreman.database import open_writer
from foreman.errors import StoreRefused
try:
    database = open_writer(Path(sys.argv[1]), now=1, ballast=4096)
except StoreRefused as refused:
    sys.exit(f"refused {refused}")
print(database.epoch, flush=True)
sys.stdin.read()
"""


def test_of_twenty_daemons_at_once_exactly_one_gets_the_directory(tmp_path: Path) -> None:
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", _RACER, str(tmp_path)]
    racers = [
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        for _ in range(20)
    ]
    losers = []
    try:
        ended: list[subprocess.Popen[str]] = []
        winners = [racer for racer in racers if racer.stdout and racer.stdout.readline()]
        for racer in racers:
            if racer not in winners:
                losers.append(racer.communicate()[1])
                ended.append(racer)
    finally:
        for racer in racers:
            racer.communicate()
    assert len(winners) == 1
    assert len(losers) == 19
    assert all("another foreman runs here: process" in words for words in losers)
    assert {racer.returncode for racer in ended} == {1}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_a_directory_of_somebody_else_is_refused_with_both_users(data: DataDir) -> None:
    os.chown(data.path, 12345, -1)
    words = refusal(data)
    assert "owner uid 12345, mode 0700" in words
    assert f"this process runs as uid {os.geteuid()}" in words


_AS_NOBODY = """
import os, sys
from pathlib import Path
from foreman.database import open_writer
from foreman.errors import StoreRefused
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    open_writer(Path(sys.argv[1]), now=1, ballast=4096)
except StoreRefused as refused:
    sys.exit(str(refused))
"""


@pytest.mark.parametrize(
    ("name", "mode", "words"),
    [
        ("", 0o500, "cannot be written (owner uid {uid}, mode 0500)"),
        ("foreman.db", 0o400, "cannot be written (owner uid {uid}, mode 0400)"),
        ("foreman.lock", 0o400, "foreman.lock: cannot be used: Permission denied"),
        ("foreman.mark", 0o400, "foreman.mark: cannot be used: Permission denied"),
    ],
)
def test_what_cannot_be_written_is_refused_with_its_mode(name: str, mode: int, words: str) -> None:
    """In a process without root's rights, to which no mode means anything."""
    uid = 65534 if os.geteuid() == 0 else os.geteuid()
    with TemporaryDirectory() as parent:
        Path(parent).chmod(0o755)
        directory = Path(parent) / "data"
        with opened(directory) as database:
            database.close()
        for path in (directory, *directory.iterdir()):
            os.chown(path, uid, -1)
        (directory / name).chmod(mode)
        command = [sys.executable, "-c", _AS_NOBODY, str(directory)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert words.format(uid=uid) in ended.stderr


def test_a_start_without_a_migration_does_not_import_sqlite_utils(data: DataDir) -> None:
    script = f"{_RACER}\nassert 'sqlite_utils' not in sys.modules"
    command = [sys.executable, "-c", script, str(data.path)]
    subprocess.run(command, input="", text=True, check=True, capture_output=True)


def test_a_schema_that_is_no_text_any_more_is_refused(tmp_path: Path) -> None:
    path = restore(MIGRATIONS[-1].name, tmp_path)
    path.write_bytes(path.read_bytes().replace(b"CREATE TABLE jobs", b"CREATE T\xffBLE jobs"))
    with pytest.raises(StoreRefused, match="cannot be used"):
        open_reader(path)
