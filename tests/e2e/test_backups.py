"""The drill: a backup of a daemon at work, the loss of everything, and back again."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import trio

from actors import maintenance
from foreman.care.backup import backups, verify
from foreman.embedded.script import ModelScript, Script
from tests.e2e.processes import audit, chat, rows, seed, upstream
from tests.fakes.daemon import connected, daemon, spawned

SMALL = Script(models=(ModelScript(name="small:latest", text="what was answered"),))


def run(folder: Path, *arguments: str, status: int | None = 0) -> Any:
    """The JSON of one of the commands, in a process of its own."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("FOREMAN_")}
    ended = subprocess.run(
        [sys.executable, "-m", "actors", *arguments, "--json"],
        env=plain | {"FOREMAN_DATA_DIR": str(folder), "FOREMAN_MIN_FREE_DISK": "1"},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert status in (None, ended.returncode), ended.stderr.decode()
    return msgspec.json.decode(ended.stdout) if ended.stdout else ended.stderr.decode()


async def submit(client: httpx.AsyncClient, accepted: list[str]) -> None:
    """Jobs, one after the other, for as long as the block lasts."""
    while True:
        answer = await client.post("/jobs", json={"request": chat(stream=False)})
        assert answer.status_code == 202
        accepted.append(answer.json()["id"])


async def test_a_backup_under_load_is_restored_and_everything_goes_on(tmp_path: Path) -> None:
    before, after = list[str](), list[str]()
    async with upstream(SMALL) as target:
        async with (
            spawned(tmp_path, target.url) as foreman,
            connected(foreman.url) as client,
            trio.open_nursery() as load,
        ):
            for _ in range(4):
                load.start_soon(submit, client, after)
            while len(after) < 40:
                await trio.lowlevel.checkpoint()
            before += after
            made = await trio.to_thread.run_sync(partial(run, tmp_path, "backup"))
            assert "another foreman runs here" in run(tmp_path, "restore", "latest", "-y", status=1)
            load.cancel_scope.cancel("enough")
            with trio.CancelScope(shield=True):
                foreman.process.kill()
                await foreman.process.wait()
        copied = verify(Path(made["path"]))
        assert len(before) <= copied.jobs
        told = run(tmp_path, "restore", "latest", "--yes")
        assert told["lost_events"] > 0
        async with spawned(tmp_path, target.url) as foreman, connected(foreman.url) as client:
            for job in before:
                assert (await client.get(f"/jobs/{job}/wait")).json()["state"] == "done"
            log = await client.get("/events", params={"after": copied.seq + 1, "follow": "0"})
            resync = msgspec.json.decode(log.text.splitlines()[-1])
            assert (resync["type"], resync["reason"]) == ("resync", "expired")
            foreman.process.terminate()
            assert await foreman.process.wait() == 0
    assert len(rows(tmp_path, "batch")) == copied.jobs
    assert audit(tmp_path) == []


async def test_a_destroyed_database_is_recovered_with_what_came_after_the_backup(
    tmp_path: Path,
) -> None:
    async with daemon(tmp_path, script=SMALL) as foreman:
        order = {"request": chat(stream=False)}
        first = (await foreman.client.post("/jobs", json=order)).json()["id"]
        await foreman.job_ended(first)
        await trio.to_thread.run_sync(partial(run, tmp_path, "backup"))
        second = (await foreman.client.post("/jobs", json=order)).json()["id"]
        await foreman.job_ended(second)
    with (tmp_path / "foreman.db").open("r+b") as file:
        file.write(b"\0" * 4096)
    outcome = run(tmp_path, "recover", "--yes")
    assert (outcome["saved"], outcome["lost"]) == (2, [])
    assert "nothing is wrong" in run(tmp_path, "recover", "--yes")
    async with daemon(tmp_path, script=SMALL) as foreman:
        for job in (first, second):
            result = (await foreman.job(job))["result"]
            assert result["message"]["content"] == "what was answered"


async def test_a_daemon_makes_its_backup_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "SETTLE", 0.0)
    async with daemon(tmp_path, script=SMALL) as foreman:
        answer = await foreman.client.post("/jobs", json={"request": chat(stream=False)})
        await foreman.job_ended(answer.json()["id"])
        while not (found := backups(tmp_path / "backups")):
            await trio.lowlevel.checkpoint()
        metrics = (await foreman.client.get("/metrics")).text
        assert "foreman_backup_failures_total 0.0" in metrics
    [made] = found
    assert verify(made.path).seq >= 0


def test_a_copy_replaces_nothing_that_is_there(tmp_path: Path) -> None:
    seed(tmp_path, 1)
    database, thesis = tmp_path / "foreman.db", tmp_path.parent / "thesis.txt"
    thesis.write_text("kept")
    before = database.stat().st_ino
    for taken in (database, thesis, tmp_path.parent):
        assert "is there already" in run(tmp_path, "backup", "--to", str(taken), status=1)
    beside = str(tmp_path / "foreman.db.restored")
    assert "foreman's own files" in run(tmp_path, "backup", "--to", beside, status=1)
    assert (database.stat().st_ino, thesis.read_text()) == (before, "kept")


SERVICE = 12345  # a user there need not be


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for another user")
def test_what_root_makes_in_a_services_folder_is_the_services(tmp_path: Path) -> None:
    seed(tmp_path, 3)
    for path in (tmp_path, *tmp_path.rglob("*")):
        os.chown(path, SERVICE, SERVICE)
    run(tmp_path, "backup")
    run(tmp_path, "restore", "latest", "--yes")
    made = list(tmp_path.rglob("*"))
    assert {path.name for path in made} >= {"backups", "quarantine", "foreman.db"}
    assert {path.lstat().st_uid for path in made} == {SERVICE}
    assert "data-folder-refused" not in found_wrong(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for another user")
def test_what_others_made_stays_theirs(tmp_path: Path) -> None:
    seed(tmp_path, 1)
    other = tmp_path / "backups" / "of-somebody"
    other.parent.mkdir()
    other.touch()
    os.chown(other, SERVICE, SERVICE)
    run(tmp_path, "backup")
    assert other.stat().st_uid == SERVICE


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for another user")
def test_a_stranger_in_a_services_folder_is_named(tmp_path: Path) -> None:
    seed(tmp_path, 1)
    os.chown(tmp_path, SERVICE, SERVICE)
    assert "data-folder-refused" in found_wrong(tmp_path)


def found_wrong(folder: Path) -> set[str]:
    """What `foreman doctor` finds about the data folder."""
    report = run(folder, "doctor", "--only", "data-folder", status=None)
    return {finding["code"] for check in report["checks"] for finding in check["findings"]}
