"""A target in a process of its own that is away, dies and returns, and what its clients see."""

import json
from contextlib import suppress
from functools import partial
from pathlib import Path

import httpx
import pytest
import trio

from foreman.embedded.script import Cut, Fault, Garble, Hang, ModelScript, Script
from tests.conftest import StartDaemon
from tests.e2e.processes import audit, chat, reasons, rows, seed, state_of, until
from tests.e2e.targets import free_port, target
from tests.fakes.daemon import connected, spawned

CHAT = "/api/chat"
FAST = Script(models=(ModelScript(name="small:latest"),))
ENDLESS = Script(models=(ModelScript(name="small:latest", token_seconds=60),))


async def test_a_call_hears_heartbeats_until_its_target_is_up_and_soon_after_that_its_answer(
    tmp_path: Path,
) -> None:
    port = await free_port()
    short = {"commit_after": "50ms", "heartbeat": "50ms"}
    async with (
        spawned(tmp_path / "data", f"http://127.0.0.1:{port}", **short) as foreman,
        connected(foreman.url) as client,
        client.stream("POST", CHAT, json=chat(stream=False)) as answer,
    ):
        pieces = answer.aiter_raw()
        heard = b""
        while len(heard) < 3:
            heard += await anext(pieces)
        assert heard.isspace()
        assert b"\n" not in heard
        async with target(tmp_path, FAST, port):
            with trio.fail_after(5):
                heard += b"".join([piece async for piece in pieces])
        assert json.loads(heard)["done"] is True
        assert answer.status_code == 200


async def test_jobs_outlive_their_target_uncharged_and_are_done_once_after_its_return(
    tmp_path: Path,
) -> None:
    port, data = await free_port(), tmp_path / "data"
    running, waiting = seed(data, 2)
    url = f"http://127.0.0.1:{port}"
    async with (
        target(tmp_path, ENDLESS, port) as old,
        spawned(data, url, poll_interval="100ms") as foreman,
        connected(foreman.url) as api,
    ):

        async def status(wanted: str) -> bool:
            return bool((await api.get("/healthz")).json()["status"] == wanted)

        async def generating() -> bool:
            return bool((await old.stats())["running"])

        await until(generating)
        await until(partial(status, "ok"))
        await old.die()

        async def lost() -> bool:
            return await state_of(foreman, running) == "queued"

        await until(lost)
        await until(partial(status, "degraded"))
        assert (await api.get("/api/tags")).json()["models"][0]["name"] == "small:latest"
        assert await state_of(foreman, waiting) == "queued"
        async with target(tmp_path, FAST, port) as new:

            async def done() -> bool:
                states = {await state_of(foreman, job) for job in (running, waiting)}
                return states == {"done"}

            with trio.fail_after(5):
                await until(done)
            assert (await new.stats())["max_running"] == 1
        foreman.process.terminate()
        assert await foreman.process.wait() == 0
    assert reasons(data, running) == [
        "queued", "loading", "working", "target_lost", "loading", "working", "done",
    ]  # fmt: skip
    assert reasons(data, waiting)[-3:] == ["loading", "working", "done"]
    assert {(row["attempt"], row["crashes"]) for row in rows(data, "batch")} == {(1, 0)}
    assert audit(data) == []


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Cut(paths=(CHAT,), skip=1, after_tokens=2), "truncated"),
        (Hang(paths=(CHAT,), skip=1, after_tokens=2), "gap_timeout"),
    ],
    ids=["cut", "silent"],
)
async def test_a_stream_that_breaks_off_ends_in_an_error_line_and_the_next_one_is_whole(
    daemon: StartDaemon, fault: Fault, code: str
) -> None:
    script = Script(models=FAST.models, faults=(fault,))
    async with daemon(script=script, gap_timeout=0.2) as foreman:
        answer = await foreman.client.post(CHAT, json=chat())
        *words, last = map(json.loads, answer.text.splitlines())
        assert [word["message"]["content"] for word in words] == ["one", " 2"]
        assert list(last) == ["error"]
        job = await foreman.job_ended(answer.headers["x-foreman-job"])
        assert job["error"]["code"] == code
        foreman.engine.script = FAST
        answer = await foreman.client.post(CHAT, json=chat())
        assert json.loads(answer.text.splitlines()[-1])["done"] is True


async def test_a_single_answer_that_is_cut_never_ends_as_if_it_were_whole(
    daemon: StartDaemon,
) -> None:
    cut = Cut(paths=(CHAT,), skip=1, after_bytes=20)
    async with daemon(script=Script(models=FAST.models, faults=(cut,))) as foreman:
        with suppress(httpx.RemoteProtocolError):
            # A reset can overtake even the head. Then the call is tried again, and told in the end.
            answer = await foreman.client.post(CHAT, json=chat(stream=False))
            assert answer.status_code == 502
        [job] = await foreman.jobs()
        assert (await foreman.job_ended(job["id"]))["error"]["code"] == "truncated"


async def test_garbage_in_a_stream_reaches_the_client_byte_for_byte_and_fails_the_job(
    daemon: StartDaemon,
) -> None:
    garble = Garble(paths=(CHAT,), skip=1)
    async with daemon(script=Script(models=FAST.models, faults=(garble,))) as foreman:
        answer = await foreman.client.post(CHAT, json=chat())
        assert answer.content.splitlines()[1] == garble.line.encode()
        job = await foreman.job_ended(answer.headers["x-foreman-job"])
        assert job["error"]["code"] == "garbled"
