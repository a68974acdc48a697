"""What clients see of a stop, and of a pause of the whole process."""

import json
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import trio

from foreman.embedded.script import ModelScript, Script
from tests.e2e.processes import Upstream, audit, chat, rows, until, upstream
from tests.e2e.targets import target
from tests.fakes.daemon import Process, connected, spawned

CHAT = "/api/chat"
SMALL = Script(models=(ModelScript(name="small:latest"),))
TOKENS = 100
SLOW = Script(models=(ModelScript(name="small:latest", tokens=TOKENS, token_seconds=0.005),))


@asynccontextmanager
async def one_answered_one_waiting(
    foreman: Process, target: Upstream
) -> AsyncGenerator[list[httpx.Response]]:
    """Two calls, of which the first runs and can go no further; what they are answered."""
    answers = list[httpx.Response]()
    async with connected(foreman.url) as client, trio.open_nursery() as nursery:

        async def ask() -> None:
            with suppress(httpx.RemoteProtocolError):  # cut, when the time was up
                answers.append(await client.post(CHAT, json=chat()))

        async def one_waits() -> bool:
            return len((await client.get("/queue")).json()["calls"]) == 1

        target.engine.tokens.close()
        nursery.start_soon(ask)
        await target.engine.tokens.holds()
        nursery.start_soon(ask)
        await until(one_waits)
        yield answers


async def stops(foreman: Process) -> None:
    """Return when it lets nobody in any more."""
    url = httpx.URL(foreman.url)
    while True:
        try:
            stream = await trio.open_tcp_stream(url.host, url.port or 0)
        except OSError:
            return
        await stream.aclose()


async def test_on_sigterm_who_waits_is_answered_in_turn_and_no_batch_job_is_begun(
    tmp_path: Path,
) -> None:
    async with upstream(SMALL) as target, spawned(tmp_path, target.url) as foreman:
        async with one_answered_one_waiting(foreman, target) as answers:
            async with connected(foreman.url) as client:
                assert (await client.post("/jobs", json={"request": chat()})).status_code == 202
            foreman.process.send_signal(signal.SIGTERM)
            await stops(foreman)
            target.engine.tokens.open()
        assert await foreman.process.wait() == 0
    assert [answer.status_code for answer in answers] == [200, 200]
    assert all(json.loads(each.text.splitlines()[-1])["done"] for each in answers)
    assert answers[1].headers["connection"] == "close"
    assert [row["state"] for row in rows(tmp_path)] == ["done", "done"]
    assert [row["state"] for row in rows(tmp_path, "batch")] == ["queued"]
    assert audit(tmp_path) == []


async def test_who_waits_when_the_grace_ends_is_told_to_come_back(tmp_path: Path) -> None:
    settings = {"shutdown_grace": "3s"}
    async with upstream(SMALL) as target, spawned(tmp_path, target.url, **settings) as foreman:
        async with one_answered_one_waiting(foreman, target) as answers:
            foreman.process.send_signal(signal.SIGTERM)
        assert await foreman.process.wait() == 0
    refused = [answer for answer in answers if answer.status_code == 503]
    assert [int(answer.headers["retry-after"]) >= 1 for answer in refused[:1]] == [True]
    assert list(refused[0].json()) == ["error"]
    assert {row["error_code"] for row in rows(tmp_path)} <= {"interrupted", "cancelled"}
    assert audit(tmp_path) == []


async def test_a_pause_in_the_middle_of_a_stream_loses_no_token(tmp_path: Path) -> None:
    """Row 81: the target works on and finishes while nobody reads."""
    async with (
        target(tmp_path, SLOW) as behind,
        spawned(tmp_path / "data", behind.url) as foreman,
        connected(foreman.url) as client,
        client.stream("POST", CHAT, json=chat()) as answer,
    ):
        lines = answer.aiter_lines()
        read = [await anext(lines), await anext(lines)]
        foreman.process.send_signal(signal.SIGSTOP)

        async def finished() -> bool:
            return bool((await behind.stats())["finished"])

        await until(finished)
        foreman.process.send_signal(signal.SIGCONT)
        read += [line async for line in lines]
    words = "".join(json.loads(line)["message"]["content"] for line in read).split()
    assert words == ["one", *map(str, range(2, TOKENS + 1))]
