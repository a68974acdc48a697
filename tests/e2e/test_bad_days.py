"""The daemon and the target's bad days: down, asleep, garbled, gone; and its own."""

import signal
import sqlite3
import sys
from pathlib import Path

import httpx
import pytest
import trio

from foreman.embedded.script import (
    Cut,
    Garble,
    Hang,
    ModelScript,
    Script,
    Status,
)
from tests.conftest import StartDaemon
from tests.e2e.processes import audit, chat, seed, until, upstream
from tests.fakes.daemon import Daemon, connected, spawned

MODELS = (ModelScript(name="small:latest"), ModelScript(name="big:latest"))
FIRST = "/api/chat"


def broken(*faults: Cut | Garble | Hang | Status) -> Script:
    return Script(models=MODELS, faults=faults)


async def ask(foreman: Daemon, model: str = "small") -> httpx.Response:
    return await foreman.client.post(FIRST, json=chat(model))


async def only_job(foreman: Daemon) -> dict[str, object]:
    [job] = await foreman.jobs()
    ended: dict[str, object] = await foreman.job_ended(job["id"])
    return ended


async def test_a_target_that_is_down_at_the_start_is_waited_for(tmp_path: Path) -> None:
    """It serves, says that it is degraded, queues what comes, and answers it later."""
    with trio.socket.socket() as free:
        await free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with spawned(tmp_path, f"http://127.0.0.1:{port}") as foreman:
        async with connected(foreman.url) as client, trio.open_nursery() as nursery:
            assert (await client.get("/healthz")).json()["status"] == "degraded"
            assert (await client.get("/healthz")).status_code == 200
            assert (await client.get("/api/tags")).json() == {"models": []}
            answers: list[httpx.Response] = []

            async def wait() -> None:
                answers.append(await client.post(FIRST, json=chat(stream=False)))

            nursery.start_soon(wait)

            async def waits() -> bool:
                return len((await client.get("/queue")).json()["calls"]) == 1

            await until(waits)
            process = await nursery.start(embedded, port)
            await until(lambda: bool(answers))
            assert answers[0].status_code == 200

            async def seen() -> bool:
                return bool((await client.get("/healthz")).json()["status"] == "ok")

            await until(seen)
            process.kill()
            await process.wait()

            async def degraded() -> bool:
                await client.post(FIRST, json=chat("unknown"))  # has the target looked at again
                return bool((await client.get("/healthz")).json()["status"] == "degraded")

            await until(degraded)
            tags = (await client.get("/api/tags")).json()["models"]
            assert "small:latest" in {each["name"] for each in tags}
            nursery.cancel_scope.cancel()


async def embedded(port: int, *, task_status: trio.TaskStatus[trio.Process]) -> None:
    """The target as a process on this port."""
    command = [sys.executable, "-m", "foreman.embedded", "--listen", f"127.0.0.1:{port}"]
    await trio.run_process(command, check=False, task_status=task_status, capture_stdout=True)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (
            Hang(paths=(FIRST,), model="registry.ollama.ai/library/small:latest", skip=1),
            "first_byte",
        ),
        (Hang(paths=(FIRST,), skip=1, after_tokens=2), "gap"),
        (Cut(paths=(FIRST,), skip=1, after_tokens=2), "truncated"),
        (Garble(paths=(FIRST,), skip=1), "garbled"),
    ],
    ids=["silent before the first byte", "silent in the stream", "cut", "garbled"],
)
async def test_a_target_that_misbehaves_fails_that_job_and_the_next_is_served(
    daemon: StartDaemon, fault: Cut | Garble | Hang, code: str
) -> None:
    """The first call on the route is the load."""
    async with daemon(script=broken(fault), first_byte_timeout=0.3, gap_timeout=0.3) as foreman:
        await ask(foreman)
        job = await only_job(foreman)
        error = job["error"]
        assert isinstance(error, dict)
        assert str(error["code"]).startswith(code)
        foreman.engine.script = Script(models=MODELS)
        answer = await ask(foreman, "big")
        assert answer.text.splitlines()[-1].find('"done":true') > 0


async def test_a_model_that_is_unknown_is_refused_and_others_wait_for_nothing(
    daemon: StartDaemon,
) -> None:
    async with daemon(script=Script(models=MODELS)) as foreman:
        await foreman.polled()
        assert (await ask(foreman, "nobody")).status_code == 404
        assert (await ask(foreman)).status_code == 200


@pytest.mark.parametrize("phase", ["queued", "loading", "working"])
async def test_a_client_that_vanishes_takes_its_own_job_with_it_and_nobody_elses(
    daemon: StartDaemon, phase: str
) -> None:
    async with daemon(script=Script(models=MODELS)) as foreman:
        await foreman.polled()
        gate = foreman.engine.loads if phase == "loading" else foreman.engine.tokens
        gate.close()
        answers: dict[str, httpx.Response] = {}
        scopes = {name: trio.CancelScope() for name in ("first", "second")}

        async def call(name: str) -> None:
            with scopes[name]:
                answers[name] = await ask(foreman)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call, "first")
            await gate.holds()
            nursery.start_soon(call, "second")
            await foreman.waits(1)
            gone, stays = ("second", "first") if phase == "queued" else ("first", "second")
            scopes[gone].cancel()
            if phase == "queued":
                await foreman.waits(0)
            gate.open()
        assert answers[stays].text.splitlines()[-1].find('"done":true') > 0
        ended = [await foreman.job_ended(job["id"]) for job in await foreman.jobs()]
        states = sorted(job["state"] for job in ended)
        assert states == ["done", "failed"]
        assert foreman.oracle.max_running == 1


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"POST /api/ch",
        b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\n",
        b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{",
    ],
    ids=["at once", "in the request line", "in the headers", "in the body"],
)
async def test_a_client_that_vanishes_before_it_has_asked_leaves_no_job(
    daemon: StartDaemon, said: bytes
) -> None:
    async with daemon(script=Script(models=MODELS)) as foreman:
        async with await trio.open_tcp_stream("127.0.0.1", foreman.port) as stream:
            if said:
                await stream.send_all(said)
        assert (await ask(foreman)).status_code == 200
        assert len(await foreman.jobs()) == 1


async def test_a_full_queue_is_refused_in_ollamas_words(daemon: StartDaemon) -> None:
    async with daemon(script=Script(models=MODELS), max_waiting=1) as foreman:
        await foreman.polled()
        foreman.engine.tokens.close()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, foreman)
            await foreman.engine.tokens.holds()
            refused = await ask(foreman)
            foreman.engine.tokens.open()
        assert refused.status_code == 503
        assert refused.json() == {
            "error": "server busy, please try again.  maximum pending requests exceeded"
        }
        assert int(refused.headers["retry-after"]) >= 1


async def test_an_embedding_is_answered_while_a_generation_runs(daemon: StartDaemon) -> None:
    """Row 41."""
    models = (*MODELS, ModelScript(name="embedder:latest", capabilities=("embedding",)))
    async with daemon(script=Script(models=models), embed_model="embedder") as foreman:
        await foreman.polled()
        foreman.engine.tokens.close()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, foreman)
            await foreman.engine.tokens.holds()
            body = {"model": "embedder", "input": "x"}
            assert (await foreman.client.post("/api/embed", json=body)).status_code == 200
            foreman.engine.tokens.open()


async def test_a_worker_that_crashes_too_often_ends_the_process(tmp_path: Path) -> None:
    """Row 77: a fault that no restart clears (here: a table is gone) is the service manager's."""
    async with upstream(Script(models=MODELS)) as target:
        seed(tmp_path, 1)
        target.engine.tokens.close()
        async with spawned(tmp_path, target.url) as foreman:
            await target.engine.tokens.holds()
            connection = sqlite3.connect(tmp_path / "foreman.db")
            connection.execute("ALTER TABLE lanes RENAME TO mislaid")
            connection.close()
            target.engine.tokens.open()
            assert await foreman.process.wait() == 1
        connection = sqlite3.connect(tmp_path / "foreman.db")
        connection.execute("ALTER TABLE mislaid RENAME TO lanes")
        connection.close()
        async with spawned(tmp_path, target.url) as foreman:
            foreman.process.send_signal(signal.SIGTERM)
            assert await foreman.process.wait() == 0
    assert audit(tmp_path) == []
