"""Results on real processes: followed over broken connections, fetched in parts, never mixed."""

import hashlib
import json
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from foreman.embedded.script import ModelScript, Script
from tests.e2e.processes import audit, chat, until, upstream
from tests.fakes.daemon import connected, daemon, spawned

TOKENS = 12
SCRIPT = Script(models=(ModelScript(name="small:latest", tokens=TOKENS),))


@dataclass
class Part:
    """What one connection got of an output."""

    run: str = ""
    records: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    whole: bool = False


@asynccontextmanager
async def output(client: httpx.AsyncClient, job: str, **query: Any) -> AsyncGenerator[Part]:
    """Follow a job's output during the block, which ends when the output does."""
    part = Part()

    async def follow() -> None:
        async with client.stream("GET", f"/jobs/{job}/output", params=query) as answer:
            assert answer.status_code == 200
            part.run = answer.headers["x-foreman-attempt"]
            with suppress(httpx.RemoteProtocolError, httpx.ReadError):
                async for line in answer.aiter_lines():
                    part.records.append(json.loads(line))
                part.whole = True

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow)
        yield part


async def submit(client: httpx.AsyncClient, **order: Any) -> str:
    answer = await client.post("/jobs", json={"request": chat(), **order})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def words(records: list[dict[str, Any]]) -> list[str]:
    return "".join(record["message"]["content"] for record in records).split()


ALL = ["one", *map(str, range(2, TOKENS + 1))]


async def test_a_generation_goes_on_token_for_token_after_a_dropped_connection(
    tmp_path: Path,
) -> None:
    async with daemon(tmp_path, script=SCRIPT) as foreman:
        foreman.engine.tokens.close()
        job = await submit(foreman.client)
        await foreman.engine.tokens.holds()
        first = Part()
        async with connected(foreman.url) as dropped, trio.open_nursery() as nursery:

            async def lose_it() -> None:
                async with output(dropped, job) as part:
                    foreman.engine.tokens.release(4)
                    await until(lambda: len(part.records) == 4)
                    first.run, first.records = part.run, list(part.records)
                    nursery.cancel_scope.cancel("the line is dead")

            nursery.start_soon(lose_it)
        foreman.engine.tokens.release(3)
        query = {"from": len(first.records), "attempt": first.run}
        async with output(foreman.client, job, **query) as second:
            await until(lambda: len(second.records) == 3)
            foreman.engine.tokens.open()
        assert second.whole
        assert words(first.records + second.records) == ALL
        kept = (await foreman.client.get(f"/jobs/{job}/artifacts/result.ndjson")).text
        assert first.records + second.records == list(map(json.loads, kept.splitlines()))


async def test_an_output_that_a_kill_cut_is_not_continued_with_other_words(tmp_path: Path) -> None:
    """Invariant I11: the death of the daemon repeats the attempt under the same number."""
    async with upstream(SCRIPT) as target:
        target.engine.tokens.close()
        async with spawned(tmp_path, target.url) as foreman, connected(foreman.url) as client:
            job = await submit(client)
            async with output(client, job) as cut:
                await target.engine.tokens.holds()
                target.engine.tokens.release(3)
                await until(lambda: len(cut.records) == 3)
                foreman.process.send_signal(signal.SIGKILL)
        assert not cut.whole
        target.engine.tokens.open()
        async with spawned(tmp_path, target.url) as foreman, connected(foreman.url) as client:
            refused = await client.get(f"/jobs/{job}/output?from=3&attempt={cut.run}")
            assert (refused.status_code, refused.json()["code"]) == (409, "attempt_over")
            async with output(client, job) as again:
                pass
        assert words(again.records) == ALL
    assert audit(tmp_path) == []


@pytest.mark.parametrize("how", ["fetch", "large"])
async def test_a_result_is_a_file_when_it_is_large_or_was_asked_for_so(
    tmp_path: Path, how: str
) -> None:
    settings: dict[str, Any] = {"inline_result": 100} if how == "large" else {}
    order = {"artifacts": "fetch"} if how == "fetch" else {}
    async with daemon(tmp_path, script=SCRIPT, **settings) as foreman:
        job = await submit(foreman.client, **order)
        view = await foreman.job_ended(job)
        assert (view["state"], view["result"]) == ("done", None)
        [artifact] = view["artifacts"]
        listed = (await foreman.client.get(f"/jobs/{job}/artifacts")).json()
        assert listed == {"artifacts": [artifact]}
        body = (await foreman.client.get(artifact["url"])).content
        assert (len(body), hashlib.sha256(body).hexdigest()) == (
            artifact["size"],
            artifact["sha256"],
        )
        assert (tmp_path / "artifacts" / job[-2:] / f"{job}.1").read_bytes() == body
        head = await foreman.client.head(artifact["url"])
        assert head.headers["content-length"] == str(len(body))
        assert head.headers["etag"] == f'"{artifact["sha256"]}"'
        part = await foreman.client.get(artifact["url"], headers={"range": "bytes=5-9"})
        assert (part.status_code, part.content) == (206, body[5:10])
        old = await foreman.client.get(
            artifact["url"], headers={"if-none-match": head.headers["etag"]}
        )
        assert (old.status_code, old.content) == (304, b"")
        async with output(foreman.client, job) as read:
            pass
        assert words(read.records) == ALL


async def test_a_small_result_stands_in_the_job_as_ollama_sends_it_without_streaming(
    tmp_path: Path,
) -> None:
    async with daemon(tmp_path, script=SCRIPT) as foreman:
        view = await foreman.job_ended(await submit(foreman.client))
        plain = (await foreman.direct.post("/api/chat", json=chat(stream=False))).json()
        assert view["result"].keys() == plain.keys()
        assert view["result"]["message"] == plain["message"]
        assert not list((tmp_path / "artifacts").rglob("*.*"))


async def test_a_stop_does_not_wait_for_readers(tmp_path: Path) -> None:
    async with (
        upstream(SCRIPT) as target,
        spawned(tmp_path, target.url) as foreman,
        connected(foreman.url) as client,
    ):
        target.engine.tokens.close()
        job, waiting = await submit(client), await submit(client)
        async with output(client, job) as running:
            await target.engine.tokens.holds()
            target.engine.tokens.release(2)
            await until(lambda: len(running.records) == 2)
            answers = list[httpx.Response]()

            async def wait() -> None:
                answers.append(await client.get(f"/jobs/{waiting}/output"))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await wait_all_tasks_blocked()  # it has asked
                await client.get("/healthz")  # and was heard
                foreman.process.send_signal(signal.SIGTERM)
        assert await foreman.process.wait() == 0
        assert not running.whole
        assert answers[0].status_code == 503
    assert audit(tmp_path) == []
