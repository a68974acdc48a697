"""What the machine does to a daemon: its clock, its log, its queue at a start; and no children."""

import os
import sqlite3
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from functools import partial
from itertools import pairwise
from pathlib import Path
from subprocess import PIPE
from time import perf_counter

import msgspec
import pytest
import trio

from foreman import tables
from foreman.admission import admit
from foreman.database import open_writer
from foreman.jobs import JobClass, JobIds
from foreman.tables import NewJob, Transaction
from foreman.wire import route_for
from tests.e2e.processes import NOW, audit, chat, upstream
from tests.e2e.receiver import SECRET, Receiver, receiver
from tests.fakes.daemon import PATIENCE, SMALL, connected, daemon, until

ROOT = Path(__file__).parents[2]
HOUR, YEAR = 3600, 365 * 86400


# ---------------------------------------------------------------- the wall clock


async def test_a_wall_clock_that_jumps_orders_nothing_anew_and_delays_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row E82: ids and events go on in order; what is measured is measured by another clock."""
    real, jumped = time.time_ns, [0]
    monkeypatch.setattr(time, "time_ns", lambda: real() + jumped[0])
    jumps = [0, YEAR, -HOUR, -real() // 10**9 + 60, 0]
    ids: list[str] = []
    async with daemon(tmp_path) as foreman:
        for seconds in jumps:
            jumped[0] = seconds * 10**9
            answer = await foreman.client.post("/jobs", json={"request": chat()})
            ids.append(answer.json()["id"])
            began = perf_counter()
            job = (await foreman.client.get(f"/jobs/{ids[-1]}/wait")).json()
            assert (job["state"], job["attempt"]) == ("done", 1)
            assert perf_counter() - began < 10
            assert 0 <= (job["load_s"] or 0) < 10
    assert ids == sorted(set(ids))
    with closing(sqlite3.connect(tmp_path / "foreman.db")) as connection:
        events = connection.execute("SELECT seq, at FROM events ORDER BY seq").fetchall()
    assert [seq for seq, _ in events] == list(range(1, 4 * len(jumps) + 1))
    assert any(later < earlier for (_, earlier), (_, later) in pairwise(events))
    assert audit(tmp_path) == []


# ---------------------------------------------------------------- many jobs at a start


def crowd(folder: Path, count: int) -> None:
    """Jobs that were all at work when their daemon died."""
    route, ids = route_for("POST", "/api/chat"), JobIds()
    assert route is not None
    body = msgspec.json.encode(chat(stream=False))
    fingerprint = admit(route, (), body).fingerprint
    with open_writer(folder, now=NOW, ballast=4096) as database:
        tx = Transaction(database.connection, NOW, database.epoch)
        database.connection.execute("BEGIN")
        for _ in range(count):
            new = NewJob(ids.new(), JobClass.BATCH, "/api/chat", "small", fingerprint, body)
            ref = tables.claim(tx, tables.submit(tx, new), resident=True)
            tables.start(tx, ref, load_s=None)
        database.connection.execute("COMMIT")


def steps_of_a_start(folder: Path, count: int) -> int:
    """Instructions of SQLite, in thousands, that it takes to recover so many jobs."""
    crowd(folder, count)
    taken = 0
    with closing(sqlite3.connect(folder / "foreman.db", isolation_level=None)) as connection:

        def step() -> int:
            nonlocal taken
            taken += 1
            return 0

        connection.execute("BEGIN")
        connection.set_progress_handler(step, 1000)
        found = tables.recover(Transaction(connection, NOW, 99))
        connection.set_progress_handler(None, 0)
        connection.execute("ROLLBACK")
    assert found.requeued == count
    return taken


def test_the_work_of_a_start_grows_with_the_jobs_and_no_faster(tmp_path: Path) -> None:
    """Row E86: the seconds are the benchmark's, the growth is counted here."""
    few, many = (steps_of_a_start(tmp_path / str(count), count) for count in (250, 1000))
    assert many <= 4.4 * few


async def test_a_thousand_jobs_that_come_back_at_a_start_load_their_model_once(
    tmp_path: Path,
) -> None:
    """Row E86."""
    crowd(tmp_path, 1000)
    began = perf_counter()
    async with daemon(tmp_path) as foreman:
        await foreman.polled()
        assert perf_counter() - began < 5

        async def some() -> bool:
            return len(await foreman.jobs(state="done", limit="20")) == 20

        await until(some)
        assert foreman.oracle.max_running == 1
        assert len(foreman.oracle.loads) == 1
    assert audit(tmp_path) == []


# ---------------------------------------------------------------- its own process


@asynccontextmanager
async def shell(
    folder: Path, target: str, arguments: str, **more: str
) -> AsyncGenerator[tuple[str, trio.Process]]:
    """A daemon that a line of sh starts: its URL and its process."""
    settings = {**SMALL, **more, "ollama_url": target, "data_dir": folder, "listen": "127.0.0.1:0"}
    environment = {f"FOREMAN_{name.upper()}": str(value) for name, value in settings.items()}
    line = f'exec "{sys.executable}" -m tests.e2e.announced {arguments}'
    process = await trio.lowlevel.open_process(
        ["sh", "-c", line], env=os.environ | environment, stdout=PIPE, cwd=ROOT
    )
    assert process.stdout is not None
    try:
        with trio.fail_after(PATIENCE):
            url = b""
            while not url.endswith(b"\n"):
                more_of_it = await process.stdout.receive_some()
                assert more_of_it, "it did not start"
                url += more_of_it
            yield url.decode().strip(), process
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            await process.stdout.aclose()


@pytest.mark.parametrize("where", ["2>/dev/full", "2>&- <&-"])
async def test_a_log_that_cannot_be_written_costs_the_log_and_nothing_else(
    tmp_path: Path, where: str
) -> None:
    """Row E87."""
    async with upstream() as target, shell(tmp_path, target.url, where) as (url, process):
        async with connected(url) as client:
            job = (await client.post("/jobs", json={"request": chat()})).json()["id"]
            assert (await client.get(f"/jobs/{job}/wait")).json()["state"] == "done"
            assert (await client.post("/api/chat", json=chat("absent"))).status_code == 404
        process.terminate()
        assert await process.wait() == 0
    assert audit(tmp_path) == []


async def test_the_daemon_starts_no_other_process(tmp_path: Path) -> None:
    """Row E88: a child would inherit locks and connections."""
    hooks = {"webhook_secret": SECRET, "webhook_allow": "127.0.0.0/8"}
    async with upstream() as target, receiver() as hook:
        async with shell(tmp_path, target.url, "--childless", **hooks) as (url, process):
            async with connected(url) as client:
                order = {"request": chat(), "webhook": {"url": hook.url}, "artifacts": "fetch"}
                job = (await client.post("/jobs", json=order)).json()["id"]
                assert (await client.get(f"/jobs/{job}/wait")).json()["state"] == "done"
                for path in (f"/jobs/{job}/output", "/metrics", "/healthz", "/openapi.json"):
                    assert (await client.get(path)).status_code == 200
                assert (await client.post("/api/chat", json=chat())).status_code == 200
                await until(partial(_told, hook))
            process.terminate()
            assert await process.wait() == 0


async def _told(hook: Receiver) -> bool:
    return bool(hook.messages)
