"""The smoke list of docs/how-to/smoke-test.md, with real processes and real connections."""

import hashlib
import json
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from foreman.embedded.script import ModelScript, Script
from tests.e2e.processes import audit, chat, until, upstream
from tests.e2e.receiver import SECRET, receiver
from tests.e2e.targets import free_port
from tests.fakes.daemon import connected, spawned

WORDS = "nothing accepted is ever lost"
MODELS = Script(models=(ModelScript(name="small:latest", text=WORDS),))

BEFORE = ["job.queued", "job.loading", "job.working"]
AFTER = ["job.queued", "job.loading", "job.working", "job.done"]


@asynccontextmanager
async def following(port: int, after: int) -> AsyncGenerator[WebSocketConnection]:
    """A websocket with the events after this one; the library leaves open what a kill has cut."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        async with trio.open_nursery() as nursery:
            resource = f"/events?after={after}"
            async with await wrap_client_stream(
                nursery, stream, f"127.0.0.1:{port}", resource
            ) as websocket:
                yield websocket


async def told(websocket: WebSocketConnection, count: int) -> list[dict[str, Any]]:
    """The next events."""
    return [json.loads(await websocket.get_message()) for _ in range(count)]


async def test_a_job_its_webhooks_and_its_followers_outlive_a_killed_daemon(
    tmp_path: Path,
) -> None:
    port = await free_port()
    async with upstream(MODELS) as target, receiver() as hook:
        settings = {
            "listen": f"127.0.0.1:{port}",
            "webhook_secret": SECRET,
            "webhook_allow": "127.0.0.0/8",
        }
        order = {
            "request": chat(),
            "artifacts": "fetch",
            "webhook": {"url": hook.url, "events": ["*"]},
        }
        target.engine.tokens.close()
        async with (
            spawned(tmp_path, target.url, **settings) as foreman,
            connected(foreman.url) as client,
            following(port, 0) as websocket,
        ):
            answer = await client.post("/jobs", json=order, headers={"idempotency-key": "smoke"})
            assert answer.status_code == 202
            job = answer.json()["id"]
            seen = await told(websocket, len(BEFORE))
            assert [each["type"] for each in seen] == BEFORE

            async def settled() -> bool:
                ledger = (await client.get("/webhooks/deliveries")).json()["deliveries"]
                return [each["state"] for each in ledger] == ["delivered"] * len(BEFORE)

            await until(settled)  # what is under way at a kill is sent again, after five seconds
            target.engine.tokens.release(2)  # it dies in the middle of an answer
            with pytest.raises(httpx.RemoteProtocolError):
                async with client.stream("GET", f"/jobs/{job}/output") as output:
                    records = 0
                    async for _ in output.aiter_lines():
                        records += 1
                        if records == 2:
                            foreman.process.send_signal(signal.SIGKILL)
            with pytest.raises(ConnectionClosed):
                await websocket.get_message()
        last = seen[-1]["seq"]
        async with (
            spawned(tmp_path, target.url, **settings) as foreman,
            connected(foreman.url) as client,
            following(port, last) as websocket,
        ):
            again = await client.post("/jobs", json=order, headers={"idempotency-key": "smoke"})
            assert (again.status_code, again.json()["id"]) == (200, job)
            target.engine.tokens.open()
            done = (await client.get(f"/jobs/{job}/wait")).json()
            assert (done["state"], done["attempt"]) == ("done", 1)
            seen += await told(websocket, len(AFTER))
            await until(lambda: len(hook.messages) == len(seen))
            assert await stored(client, done) == WORDS
            foreman.process.terminate()
            assert await foreman.process.wait() == 0
    assert [each["type"] for each in seen] == BEFORE + AFTER
    assert [each["seq"] for each in seen] == list(range(1, len(seen) + 1))
    assert seen[len(BEFORE)]["reason"] == "restart"
    assert hook.events == [(each["seq"], each["type"]) for each in seen]
    assert len({each.id for each in hook.messages}) == len(seen)
    assert target.target.oracle.max_running == 1
    assert audit(tmp_path) == []


async def stored(client: httpx.AsyncClient, job: dict[str, Any]) -> str:
    """The text in the artifact, whose bytes are what its hash says."""
    [artifact] = job["artifacts"]
    answer = await client.get(artifact["url"])
    assert hashlib.sha256(answer.content).hexdigest() == artifact["sha256"]
    assert answer.headers["etag"] == f'"{artifact["sha256"]}"'
    parts = [json.loads(line) for line in answer.text.splitlines()]
    return "".join(part["message"]["content"] for part in parts)
