"""C24, C25, C30-C32, C34, C40: clients that wait, that leave, and that need not wait."""

import json

import httpx
import ollama
import pytest
import trio

from foreman.embedded.script import DEFAULT_MODELS, ModelScript, Script
from tests.conformance.answers import chat, events, ndjson, text_of
from tests.conftest import StartDaemon
from tests.fakes import http
from tests.fakes.daemon import Daemon, connected, until

BUSY = "server busy, please try again.  maximum pending requests exceeded"
ECHO = Script(models=(ModelScript(name="small", echo=True), ModelScript(name="big", echo=True)))
STUBS = ["faraway:cloud", "stub"]  # installed, and known for what they are by /api/tags
CLOUD = tuple(ModelScript(name=name, remote=True, tokens=0) for name in STUBS)


async def test_c24_two_clients_at_once_are_never_mixed(daemon: StartDaemon) -> None:
    said: dict[str, str] = {}

    async def ask(foreman: Daemon, content: str) -> None:
        answer = await foreman.client.post("/api/chat", json=chat(content=content))
        said[content] = text_of(ndjson(answer))

    async with daemon(script=ECHO) as foreman:
        foreman.engine.tokens.close()
        async with trio.open_nursery() as clients:
            clients.start_soon(ask, foreman, "the first of two")
            await foreman.engine.tokens.holds()
            clients.start_soon(ask, foreman, "and the second one")
            await foreman.waits(1)
            foreman.engine.tokens.open()
        assert list(said) == ["the first of two", "and the second one"]
        assert all(content == answered for content, answered in said.items())
        assert foreman.oracle.max_running == 1


async def test_c24_a_waiting_client_is_told_its_job_and_its_place(daemon: StartDaemon) -> None:
    async with daemon(commit_after=0.01) as foreman:
        foreman.engine.tokens.close()
        async with (
            foreman.crowd(2),
            http.post(foreman.url, "/api/chat", chat()) as answer,
        ):
            assert answer.headers["x-foreman-position"] == "2"
            queue = await foreman.queue()
            assert queue["calls"][-1]["id"] == answer.headers["x-foreman-job"]


LIMIT = 0.5  # seconds of silence that the clients below stand: their 30 s or 300 s, in little
BEATS = 40  # heartbeats to wait for; together they take longer than LIMIT


async def test_c25_heartbeats_carry_every_client_through_a_long_wait(daemon: StartDaemon) -> None:
    """ollama-python as it is; Go's scanner for the CLI; undici and llama-index by their limits."""
    answers: list[str] = []

    async def ollama_python(url: str, *, stream: bool) -> None:
        messages = [{"role": "user", "content": "hello"}]
        async with ollama.AsyncClient(url, timeout=LIMIT) as client:
            if stream:
                parts = await client.chat("small", messages, stream=True)
                answers.append("".join([part.message.content or "" async for part in parts]))
            else:
                whole = await client.chat("small", messages)
                answers.append(whole.message.content or "")

    async def go_scanner(url: str) -> None:
        request = ("POST", "/api/chat")
        async with connected(url) as client, client.stream(*request, json=chat()) as answer:
            lines = [json.loads(line) async for line in answer.aiter_lines()]
        answers.append(text_of(lines))

    async def openai_like(url: str) -> None:
        timeout = httpx.Timeout(LIMIT)
        async with httpx.AsyncClient(base_url=url, timeout=timeout) as client:
            answer = await client.post("/v1/chat/completions", json=chat(stream=True))
        assert answer.text.startswith(": waiting\n\n")
        *chunks, (_, done) = events(answer)
        assert done == "[DONE]"
        deltas = [data["choices"][0]["delta"] for _, data in chunks]
        answers.append("".join(delta.get("content", "") for delta in deltas))

    async with daemon(commit_after=0.02, heartbeat=0.02) as foreman:
        foreman.engine.tokens.close()
        async with trio.open_nursery() as clients:
            for stream in (True, False):
                clients.start_soon(lambda on: ollama_python(foreman.url, stream=on), stream)
            clients.start_soon(go_scanner, foreman.url)
            clients.start_soon(openai_like, foreman.url)
            await foreman.waits(3)
            await beats(foreman, BEATS)
            foreman.engine.tokens.open()
    assert answers == ["one 2 3 4 5 6 7 8"] * 4


async def test_c30_who_leaves_the_queue_costs_the_target_nothing(daemon: StartDaemon) -> None:
    async with daemon() as foreman:
        foreman.engine.tokens.close()
        async with foreman.crowd(1):
            async with trio.open_nursery() as clients:
                clients.start_soon(post_chat, foreman, "big")
                await foreman.waits(1)
                clients.cancel_scope.cancel()
            await foreman.waits(0)
            (job,) = await foreman.jobs(model="big")
            assert (job["state"], job["error"]["code"]) == ("failed", "cancelled")
            foreman.engine.tokens.open()
            await foreman.client.post("/api/chat", json=chat(stream=False))
        assert [call.model for call in foreman.oracle.calls] == ["small", "small"]
        assert [load.model for load in foreman.oracle.loads] == ["small:latest"]


async def test_c31_who_leaves_in_the_middle_frees_the_slot(daemon: StartDaemon) -> None:
    async with daemon() as foreman:
        foreman.engine.tokens.close()
        foreman.engine.tokens.release()
        async with http.post(foreman.url, "/api/chat", chat()) as answer:
            await answer.line()
        foreman.engine.tokens.release()  # lets the token pass whose reader has gone
        await until(lambda: is_true(foreman.oracle.cancelled == 1))
        foreman.engine.tokens.open()
        following = await foreman.client.post("/api/chat", json=chat(stream=False))
        assert following.json()["done"]
        assert len(foreman.oracle.loads) == 1, "the model stayed loaded"


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/messages"])
async def test_c32_a_full_queue_says_so_in_ollamas_words(daemon: StartDaemon, path: str) -> None:
    async with daemon(max_waiting=2) as foreman:
        foreman.engine.tokens.close()
        async with foreman.crowd(2):
            answer = await foreman.client.post(path, json=chat(max_tokens=9))
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) >= 1
            error = answer.json()["error"]
            assert (error if path == "/api/chat" else error["message"]) == BUSY
            assert len((await foreman.queue())["calls"]) == 1, "and it is no job"


@pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
async def test_c34_an_unload_passes_a_long_queue(daemon: StartDaemon, path: str) -> None:
    async with daemon() as foreman:
        await foreman.client.post("/api/chat", json=chat("big"))
        foreman.engine.tokens.close()
        async with foreman.crowd(50):
            # Everything queued is held: in the queue, this would never be answered.
            answer = await foreman.client.post(path, json={"model": "big", "keep_alive": 0})
            assert answer.json()["done_reason"] == "unload"
            assert foreman.oracle.unloads == ["big:latest"]
            shown = (await foreman.client.get("/api/ps")).json()["models"]
            assert [each["name"] for each in shown] == ["small:latest"]


@pytest.mark.parametrize("name", [*STUBS, "gpt-oss:120b-cloud"])
async def test_c40_a_cloud_models_401_comes_unchanged_and_at_once(
    daemon: StartDaemon, name: str
) -> None:
    async with daemon(script=Script(models=(*DEFAULT_MODELS, *CLOUD))) as foreman:
        foreman.engine.tokens.close()
        async with foreman.crowd(2):
            answer = await foreman.client.post("/api/chat", json=chat(name))
            direct = await foreman.direct.post("/api/chat", json=chat(name))
            assert (answer.status_code, answer.content) == (401, direct.content)
            assert answer.json()["signin_url"]


@pytest.mark.parametrize("name", STUBS)
async def test_c40_a_cloud_model_runs_beside_the_local_jobs(daemon: StartDaemon, name: str) -> None:
    script = Script(models=(ModelScript(name="small"), *CLOUD), signed_in=True)
    async with daemon(script=script) as foreman:
        foreman.engine.tokens.close()
        async with foreman.crowd(2):
            answer = await foreman.client.post("/api/chat", json=chat(name))
            assert ndjson(answer)[-1]["done"]


async def beats(foreman: Daemon, count: int) -> None:
    """Return when one more waiting client has received so many heartbeats."""
    async with http.post(foreman.url, "/api/chat", chat()) as answer:
        seen = b""
        while len(seen) < count:
            seen += await answer.piece()
        assert seen.strip(b" ") == b""


async def post_chat(foreman: Daemon, model: str) -> None:
    """A client that waits for its answer."""
    await foreman.client.post("/api/chat", json=chat(model))


async def is_true(value: bool) -> bool:
    """A condition for `until` that asks nobody."""
    return value
