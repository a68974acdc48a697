"""Row A21: a database of every schema there has been, opened by this version."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from foreman import tables
from foreman.audit import examine
from foreman.care import restore as back
from foreman.database import open_writer
from foreman.disk import DataDir
from foreman.migrations import migrate
from foreman.schema import MIGRATIONS, Migration
from tests.e2e.processes import audit
from tests.fakes.daemon import daemon
from tests.golden.database import HERE, NOW, golden, restore

NAMES = [migration.name for migration in MIGRATIONS]
COMMITTED = HERE.parent / "foreman" / "schema.sql"
KEPT = ("labels", "requests", "results", "artifacts", "outbox", "deliveries", "endpoints")

Rows = list[dict[str, Any]]


def rows(path: Path, table: str) -> Rows:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2")]


def kept(before: Rows, after: Rows) -> bool:
    """Whether every row is there still, with what it said; a newer schema may say more."""
    there = {
        tuple(row.items()) for row in ({name: row[name] for name in before[0]} for row in after)
    }
    return there >= {tuple(row.items()) for row in before}


def test_every_schema_has_its_golden_database() -> None:
    """When this fails for one that was never released: `python -m tests.golden.database`."""
    assert sorted(path.stem for path in HERE.glob("*.sql")) == NAMES
    dumped = golden(NAMES[-1]).read_text()
    statements = COMMITTED.read_text().split(";\n")[1:-1]
    assert [text for text in statements if text not in dumped] == []


@pytest.mark.parametrize("name", NAMES)
def test_an_upgrade_keeps_every_row_and_settles_what_had_no_owner(
    tmp_path: Path, name: str
) -> None:
    path = restore(name, tmp_path)
    before = {table: rows(path, table) for table in (*KEPT, "events", "jobs")}
    with open_writer(tmp_path, now=NOW + 10**6, ballast=4096) as database:
        assert tables.check(database.connection, None) == []
        found = database.recovered
    assert (found.requeued, found.interrupted, found.crash_loops) == (2, 2, 0)
    assert all(kept(before[table], rows(path, table)) for table in (*KEPT, "events"))
    after = {job["id"]: job for job in rows(path, "jobs")}
    assert list(after) == [job["id"] for job in before["jobs"]]
    for job in before["jobs"]:
        now = after[job["id"]]
        if job["class"] == "interactive":
            assert (now["state"], now["error_code"]) == ("failed", "interrupted")
        elif job["state"] in ("loading", "working"):
            assert (now["state"], now["reason"], now["attempt"]) == ("queued", "restart", 1)
        else:
            assert kept([job], [now])


@pytest.mark.parametrize("name", NAMES)
def test_the_copy_from_before_an_upgrade_can_be_gone_back_to(tmp_path: Path, name: str) -> None:
    """Also by the next version: `one_more` stands for what it will change."""
    path, directory = restore(name, tmp_path), DataDir(tmp_path)
    before = {table: rows(path, table) for table in (*KEPT, "events", "jobs")}
    one_more = Migration("9999_one_more", "ALTER TABLE labels ADD COLUMN colour TEXT;\n")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, directory.backups, (*MIGRATIONS, one_more))
        connection.execute("DELETE FROM labels")
    [copy] = directory.backups.iterdir()
    plan = back.plan(directory, copy)
    assert plan.kept.jobs == len(before["jobs"])
    back.carry_out(directory, plan)
    assert {table: rows(path, table) for table in before} == before
    with open_writer(tmp_path, now=NOW + 10**6, ballast=4096) as database:
        assert list(examine(database.connection)) == []


@pytest.mark.parametrize("name", NAMES)
async def test_the_jobs_of_an_older_daemon_are_done_by_this_one(tmp_path: Path, name: str) -> None:
    restore(name, tmp_path)
    async with daemon(tmp_path, webhook_allow="127.0.0.0/8") as foreman:
        waiting = [job for job in await foreman.jobs() if job["state"] not in ("done", "failed")]
        assert len(waiting) <= 4
        for job in waiting:
            assert (await foreman.job_ended(job["id"]))["state"] == "done"
    assert audit(tmp_path) == []
