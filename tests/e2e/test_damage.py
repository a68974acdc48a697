"""Bits that flip on the disk, and a copy that takes the place of what was lost."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from foreman.database import open_writer
from foreman.embedded.script import ModelScript, Script
from tests.e2e.processes import NOW, audit, chat, reasons, rows, seed, upstream
from tests.fakes.daemon import Daemon, connected, daemon, spawned

SMALL = Script(
    models=(
        ModelScript(name="small:latest", text="what was answered"),
        ModelScript(name="big:latest", text="other"),
    )
)
MARK = "a word like no other"


TEXT, NO_TEXT = 0x01, 0x80
"""Which bit flips: what is left is text still, or no UTF-8."""


def flip(file: Path, place: bytes, bit: int = TEXT) -> None:
    """One bit of the first byte, everywhere where the file has these bytes."""
    content = file.read_bytes()
    assert place in content
    file.write_bytes(content.replace(place, bytes([place[0] ^ bit]) + place[1:]))


def compact(folder: Path) -> None:
    """Leave nothing in the file but what its rows hold."""
    with closing(sqlite3.connect(folder / "foreman.db")) as connection:
        connection.execute("VACUUM")


async def submitted(foreman: Daemon, model: str = "small", **fields: Any) -> str:
    order = {"request": chat(model, stream=False), **fields}
    answer = await foreman.client.post("/jobs", json=order)
    return str(answer.json()["id"])


@pytest.mark.parametrize(("place", "bit"), [("row", TEXT), ("row", NO_TEXT), ("result", TEXT)])
async def test_what_a_flipped_bit_has_damaged_is_named_and_never_served(
    tmp_path: Path, place: str, bit: int
) -> None:
    """Row A17: the start does not read every row of a database that was closed in good order."""
    async with daemon(tmp_path, script=SMALL) as foreman:
        hit = await submitted(foreman, labels={"mark": MARK})
        await foreman.job_ended(hit)
        spared = await submitted(foreman, "big")
        await foreman.job_ended(spared)
    compact(tmp_path)
    words = {"row": f'{{"mark":"{MARK}"}}'.encode(), "result": b"what was answered"}
    flip(tmp_path / "foreman.db", words[place], bit)
    async with daemon(tmp_path) as foreman:
        await foreman.polled()
        answer = await foreman.client.get(f"/jobs/{hit}")
        assert_named(answer, hit)
        assert_named(await foreman.client.get(f"/jobs/{hit}/artifacts/result.json"), hit)
        other = await foreman.client.get(f"/jobs/{spared}")
        assert other.json()["result"]["message"]["content"] == "other"
        new = await submitted(foreman)
        assert (await foreman.job_ended(new))["state"] == "done"


async def test_listing_and_log_go_on_past_what_is_damaged(tmp_path: Path) -> None:
    """Row A17: one bad row does not hide the others."""
    async with daemon(tmp_path, script=SMALL) as foreman:
        older = await submitted(foreman)
        await foreman.job_ended(older)
        hit = await submitted(foreman, "big", labels={"mark": MARK})
        await foreman.job_ended(hit)
        newer = await submitted(foreman)
        await foreman.job_ended(newer)
    compact(tmp_path)
    flip(tmp_path / "foreman.db", f'{{"mark":"{MARK}"}}'.encode(), NO_TEXT)
    async with daemon(tmp_path) as foreman:
        page = (await foreman.client.get("/jobs")).json()
        assert [job["id"] for job in page["jobs"]] == [newer, older]
        [damaged] = page["damaged"]
        assert damaged["id"] == hit and "its checksum does not match" in damaged["detail"]
        first = (await foreman.client.get("/jobs?limit=2")).json()
        assert ([job["id"] for job in first["jobs"]], first["next"]) == ([newer], hit)
        rest = (await foreman.client.get("/jobs", params={"before": hit})).json()
        assert [job["id"] for job in rest["jobs"]] == [older] and "damaged" not in rest
        log = await foreman.client.get("/events?after=0&follow=0")
        told = [json.loads(line)["job"] for line in log.text.splitlines()]
        assert told == [older] * 4 + [newer] * 4


def assert_named(answer: httpx.Response, job: str) -> None:
    """A problem that says which job it is about."""
    assert answer.status_code in (500, 503), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert job in answer.json()["detail"]


async def test_a_job_whose_request_is_damaged_fails_as_such_and_the_next_one_runs(
    tmp_path: Path,
) -> None:
    """Row A17."""
    hit, spared = seed(tmp_path, 1, "small")[0], seed(tmp_path, 1, "big")[0]
    compact(tmp_path)
    flip(tmp_path / "foreman.db", b'{"model":"small"')
    async with daemon(tmp_path) as foreman:
        assert (await foreman.job_ended(hit))["error"]["code"] == "damaged"
        assert (await foreman.job_ended(spared))["state"] == "done"


@pytest.mark.parametrize("bit", [TEXT, NO_TEXT])
async def test_a_waiting_job_whose_row_is_damaged_is_left_out_and_the_next_one_runs(
    tmp_path: Path, bit: int
) -> None:
    """Row A17."""
    hit, spared = seed(tmp_path, 1, "small")[0], seed(tmp_path, 1, "big")[0]
    compact(tmp_path)
    flip(tmp_path / "foreman.db", b"/api/chatsmall", bit)
    async with daemon(tmp_path) as foreman:
        assert (await foreman.job_ended(spared))["state"] == "done"
        assert_named(await foreman.client.get(f"/jobs/{hit}"), hit)
        assert (await foreman.client.post("/api/chat", json=chat())).status_code == 200


async def test_a_copy_taken_from_a_running_daemon_is_a_daemons_new_start(tmp_path: Path) -> None:
    """Row A26: what had ended stays, what had not is done again, uncharged."""
    old, new = tmp_path / "old", tmp_path / "new"
    ended, running, waiting = seed(old, 3)
    new.mkdir(mode=0o700)
    async with upstream(SMALL) as target:
        target.engine.tokens.close()
        target.engine.tokens.release(3)  # the words of one answer
        async with spawned(old, target.url) as foreman, connected(foreman.url) as client:
            assert (await client.get(f"/jobs/{ended}/wait")).json()["state"] == "done"
            await target.engine.tokens.holds()
            with (
                closing(sqlite3.connect(old / "foreman.db")) as source,
                closing(sqlite3.connect(new / "foreman.db")) as copy,
            ):
                source.backup(copy)
            foreman.process.kill()
            await foreman.process.wait()
        (new / "foreman.db").chmod(0o600)
        target.engine.tokens.open()
        with open_writer(new, now=NOW, ballast=4096) as database:
            assert (database.recovered.requeued, database.recovered.interrupted) == (1, 0)
        assert audit(new) == []
        async with spawned(new, target.url) as foreman, connected(foreman.url) as client:
            for job in (ended, running, waiting):
                assert (await client.get(f"/jobs/{job}/wait")).json()["state"] == "done"
            foreman.process.terminate()
            assert await foreman.process.wait() == 0
    assert reasons(new, ended) == ["queued", "loading", "working", "done"]
    assert reasons(new, running)[-4:] == ["restart", "loading", "working", "done"]
    assert [row["attempt"] for row in rows(new, "batch")] == [1, 1, 1]
    assert audit(new) == []
