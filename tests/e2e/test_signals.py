"""Real daemons, real signals: a stop and a kill in every state, a pause, two at once."""

import os
import signal
import sqlite3
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from time import perf_counter
from typing import Any

import httpx
import pytest
import trio

from foreman.embedded.script import ModelScript, Script
from tests.e2e.processes import (
    Upstream,
    audit,
    chat,
    reasons,
    rows,
    seed,
    state_of,
    until,
    upstream,
)
from tests.e2e.receiver import SECRET, receiver
from tests.fakes.daemon import Process, connected, spawned

MODELS = Script(models=(ModelScript(name="small:latest"), ModelScript(name="big:latest")))
STATES = ["queued", "loading", "working"]


@asynccontextmanager
async def standing(
    foreman: Process, target: Upstream, state: str
) -> AsyncGenerator[tuple[list[httpx.Response | str], httpx.AsyncClient]]:
    """A client whose call stands in this state, and what it was answered in the end."""
    answers: list[httpx.Response | str] = []
    async with connected(foreman.url) as client, trio.open_nursery() as nursery:

        async def ask(body: dict[str, Any]) -> None:
            try:
                answers.append(await client.post("/api/chat", json=body))
            except httpx.TransportError as error:
                answers.append(type(error).__name__)

        if state == "working":
            target.engine.tokens.close()
        else:
            target.engine.loads.close()
        nursery.start_soon(ask, chat("big"))
        await (target.engine.tokens if state == "working" else target.engine.loads).holds()
        if state == "queued":
            nursery.start_soon(ask, chat())

            async def waiting() -> bool:
                return len((await client.get("/queue")).json()["calls"]) == 1

            await until(waiting)
        yield answers, client
        target.engine.loads.open()
        target.engine.tokens.open()


async def stopped(foreman: Process, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
    """Send it, and return the exit code and the seconds it took."""
    began = perf_counter()
    foreman.process.send_signal(number)
    code = await foreman.process.wait()
    return code, perf_counter() - began


@pytest.mark.parametrize("state", STATES)
async def test_sigterm_ends_it_in_time_with_the_call_answered_or_interrupted(
    tmp_path: Path, state: str
) -> None:
    """With the default grace where the call runs, else with a short one, to save time."""
    grace = {} if state == "working" else {"shutdown_grace": "2s"}
    async with upstream(MODELS) as target, spawned(tmp_path, target.url, **grace) as foreman:
        async with standing(foreman, target, state) as (answers, _):
            code, seconds = await stopped(foreman)
            assert code == 0
            assert seconds <= 10
        assert len(answers) == (2 if state == "queued" else 1)
    assert [row["state"] for row in rows(tmp_path)] == ["failed"] * len(answers)
    assert {row["error_code"] for row in rows(tmp_path)} <= {"interrupted", "cancelled"}
    assert audit(tmp_path) == []
    assert not (tmp_path / "foreman.db-wal").exists()


@pytest.mark.parametrize("state", ["loading", "working"])
async def test_sigterm_puts_a_batch_job_back_uncharged_and_the_next_start_finishes_it(
    tmp_path: Path, state: str
) -> None:
    async with upstream(MODELS) as target:
        [job] = seed(tmp_path, 1)
        gate = target.engine.loads if state == "loading" else target.engine.tokens
        gate.close()
        async with spawned(tmp_path, target.url) as foreman:
            await gate.holds()
            assert (await stopped(foreman))[0] == 0
        [row] = rows(tmp_path, "batch")
        assert (row["state"], row["reason"], row["attempt"], row["crashes"]) == (
            "queued", "shutdown", 1, 0,
        )  # fmt: skip
        gate.open()
        async with spawned(tmp_path, target.url) as foreman:

            async def done() -> bool:
                return await state_of(foreman, job) == "done"

            await until(done)
            assert (await stopped(foreman))[0] == 0
    assert audit(tmp_path) == []


async def test_sigint_stops_it_as_sigterm_does_and_sighup_is_ignored(tmp_path: Path) -> None:
    async with upstream(MODELS) as target, spawned(tmp_path, target.url) as foreman:
        foreman.process.send_signal(signal.SIGHUP)
        async with connected(foreman.url) as client:
            assert (await client.post("/api/chat", json=chat(stream=False))).status_code == 200
        assert (await stopped(foreman, signal.SIGINT))[0] == 0


async def test_a_second_sigterm_does_not_wait_for_anybody(tmp_path: Path) -> None:
    async with upstream(MODELS) as target, spawned(tmp_path, target.url) as foreman:
        async with standing(foreman, target, "working"):
            foreman.process.send_signal(signal.SIGTERM)

            async def refuses() -> bool:
                try:
                    await (
                        await trio.open_tcp_stream("127.0.0.1", httpx.URL(foreman.url).port or 0)
                    ).aclose()
                except OSError:
                    return True
                return False

            await until(refuses)
            code, seconds = await stopped(foreman)
            assert code == 0
            assert seconds < 2.5
    assert audit(tmp_path) == []


@pytest.mark.parametrize("state", STATES)
async def test_kill_nine_in_any_state_loses_nothing_that_was_accepted(
    tmp_path: Path, state: str
) -> None:
    async with upstream(MODELS) as target:
        seeded = seed(tmp_path, 3)
        async with spawned(tmp_path, target.url) as foreman:

            async def drained() -> bool:
                return await state_of(foreman, seeded[-1]) == "done"

            await until(drained)
            async with standing(foreman, target, state):
                await stopped(foreman, signal.SIGKILL)
        calls = rows(tmp_path)
        async with spawned(tmp_path, target.url) as foreman:
            assert [row["state"] for row in rows(tmp_path)] == ["failed"] * len(calls)
            assert {row["error_code"] for row in rows(tmp_path)} <= {"interrupted"}
            assert (await stopped(foreman))[0] == 0
    assert [row["id"] for row in rows(tmp_path, "batch")] == seeded
    assert {row["state"] for row in rows(tmp_path, "batch")} == {"done"}
    assert audit(tmp_path) == []


@pytest.mark.parametrize("state", ["loading", "working"])
async def test_kill_nine_under_a_batch_job_is_no_attempt_but_a_crash_and_three_are_a_loop(
    tmp_path: Path, state: str
) -> None:
    """Row 84: the poison is given up, the others are done."""
    async with upstream(MODELS) as target:
        poison, other = seed(tmp_path, 2)
        gate = target.engine.loads if state == "loading" else target.engine.tokens
        for _ in range(3):
            gate.close()
            async with spawned(tmp_path, target.url) as foreman:
                await gate.holds()
                await until(lambda: rows(tmp_path, "batch")[0]["state"] == state)  # on disk
                await stopped(foreman, signal.SIGKILL)
            gate.open()
        async with spawned(tmp_path, target.url) as foreman:

            async def done() -> bool:
                return await state_of(foreman, other) == "done"

            await until(done)
            assert (await stopped(foreman))[0] == 0
    first, second = rows(tmp_path, "batch")
    assert (first["error_code"], first["attempt"], first["crashes"]) == ("crash_loop", 1, 3)
    assert reasons(tmp_path, poison).count("restart") == 2
    assert (second["state"], second["crashes"]) == ("done", 0)
    assert audit(tmp_path) == []


async def test_a_daemon_that_was_stopped_for_a_while_goes_on_where_it_was(tmp_path: Path) -> None:
    """Row 81, in small: the target works on while the daemon is paused."""
    async with upstream(MODELS) as target, spawned(tmp_path, target.url) as foreman:
        async with standing(foreman, target, "working") as (answers, client):
            foreman.process.send_signal(signal.SIGSTOP)
            target.engine.tokens.open()
            foreman.process.send_signal(signal.SIGCONT)
            await until(lambda: len(answers) == 1)
            assert isinstance(answers[0], httpx.Response)
            assert answers[0].text.splitlines()[-1].find('"done":true') > 0
            assert (await client.get("/healthz")).status_code == 200
    assert audit(tmp_path) == []


async def test_a_second_daemon_on_the_same_folder_leaves_at_once_and_the_first_goes_on(
    tmp_path: Path,
) -> None:
    """Row 22."""
    async with upstream(MODELS) as target, spawned(tmp_path, target.url) as foreman:
        began = perf_counter()
        command = [sys.executable, "-m", "actors", "serve"]
        environment = os.environ | {
            "FOREMAN_DATA_DIR": str(tmp_path),
            "FOREMAN_LISTEN": "127.0.0.1:0",
        }
        second = await trio.run_process(
            command, env=environment, capture_stderr=True, capture_stdout=True, check=False
        )
        assert second.returncode == 1
        assert b"foreman.lock" in second.stderr
        assert perf_counter() - began < 5
        async with connected(foreman.url) as client:
            assert (await client.post("/api/chat", json=chat())).status_code == 200


async def test_sigterm_ends_an_idle_daemon_at_once(tmp_path: Path) -> None:
    """Row E79."""
    async with upstream(MODELS) as target, spawned(tmp_path, target.url) as foreman:
        code, seconds = await stopped(foreman)
        assert code == 0
        assert seconds <= 10
    assert audit(tmp_path) == []


async def test_sigterm_under_a_webhook_ends_it_in_time_and_the_webhook_stays_due(
    tmp_path: Path,
) -> None:
    """Row E79: a receiver that does not answer holds up nobody, and is charged nothing."""
    settings = {"webhook_secret": SECRET, "webhook_allow": "127.0.0.0/8"}
    async with upstream(MODELS) as target, receiver() as hook:
        hook.gate.close()
        async with spawned(tmp_path, target.url, **settings) as foreman:
            async with connected(foreman.url) as client:
                order = {"request": chat(), "webhook": {"url": hook.url}}
                assert (await client.post("/jobs", json=order)).status_code == 202
                await hook.gate.holds()
            code, seconds = await stopped(foreman)
            assert code == 0
            assert seconds <= 10
    with closing(sqlite3.connect(tmp_path / "foreman.db")) as connection:
        outbox = connection.execute("SELECT id, state, attempts FROM outbox").fetchall()
    assert outbox == [(hook.messages[0].id, "pending", 0)]
    assert [row["state"] for row in rows(tmp_path, "batch")] == ["done"]
    assert audit(tmp_path) == []
