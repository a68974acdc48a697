"""C26-C29, C73: a target that fails, and what the client sees of it."""

import json
from typing import Any

import httpx
import pytest
import trio

from foreman.embedded.script import Cut, EndEarly, ErrorLine, Fault, Script, Status
from tests.conformance.answers import chat, events, ndjson
from tests.conftest import StartDaemon
from tests.fakes.daemon import Daemon

BODIES: dict[str, dict[str, Any]] = {
    "/api/chat": chat(),
    "/api/generate": {"model": "small", "prompt": "hi"},
    "/v1/chat/completions": chat(stream=True),
    "/v1/completions": {"model": "small", "prompt": "hi", "stream": True},
    "/v1/responses": {"model": "small", "input": "hi", "stream": True},
    "/v1/messages": chat(stream=True, max_tokens=9),
}
HEARTBEATS = {"commit_after": 0.01, "heartbeat": 0.01}


def after_load(path: str) -> int:
    """How many calls of this path a fault must skip to strike the call itself, not its load."""
    return 1 if path.startswith("/api/") else 0


@pytest.mark.parametrize("status", [400, 429, 500, 503])
@pytest.mark.parametrize("path", BODIES)
async def test_c26_an_error_before_the_first_byte_passes_unchanged(
    daemon: StartDaemon, path: str, status: int
) -> None:
    body = '{"error": "out of  memory"}'
    headers = {"Retry-After": "7", "X-Reason": "heat"}
    fault = Status(
        status=status, body=body, headers=headers, paths=(path,), skip=after_load(path), first=1
    )
    async with daemon(script=Script(faults=(fault,))) as foreman:
        answer = await foreman.client.post(path, json=BODIES[path])
        assert (answer.status_code, answer.text) == (status, body)
        assert answer.headers.items() >= {("retry-after", "7"), ("x-reason", "heat")}
        job = await foreman.job_ended(answer.headers["x-foreman-job"])
        assert (job["state"], job["error"]["message"]) == ("failed", "out of  memory")


@pytest.mark.parametrize("path", BODIES)
async def test_c26_an_error_after_the_commit_is_told_in_the_stream(
    daemon: StartDaemon, path: str
) -> None:
    fault = Status(status=500, text="out of memory", paths=(path,), skip=after_load(path))
    async with daemon(script=Script(faults=(fault,)), **HEARTBEATS) as foreman:
        answer = await committed_early(foreman, path, BODIES[path])
        assert answer.status_code == 200
        if path.startswith("/api/"):
            assert ndjson(answer) == [{"error": "out of memory"}]
            return
        ((name, data),) = events(answer)
        assert data["error"]["message"] == "out of memory"
        assert name == ("error" if path == "/v1/messages" else "")


@pytest.mark.parametrize("path", BODIES)
async def test_c26_an_error_after_the_commit_cuts_a_single_object(
    daemon: StartDaemon, path: str
) -> None:
    fault = Status(status=500, paths=(path,), skip=after_load(path))
    async with daemon(script=Script(faults=(fault,)), **HEARTBEATS) as foreman:
        with pytest.raises(httpx.RemoteProtocolError):
            await committed_early(foreman, path, BODIES[path] | {"stream": False})


async def test_c27_an_error_in_the_middle_passes_and_the_job_has_failed(
    daemon: StartDaemon,
) -> None:
    fault = ErrorLine(after_tokens=2, text="the runner died")
    async with daemon(script=Script(faults=(fault,))) as foreman:
        answer = await foreman.client.post("/api/chat", json=chat())
        *tokens, last = ndjson(answer)
        assert len(tokens) == 2
        assert last == {"error": "the runner died"}
        job = await foreman.job_ended(answer.headers["x-foreman-job"])
        assert (job["state"], job["error"]["message"]) == ("failed", "the runner died")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/messages"])
async def test_c27_an_error_that_ollama_would_swallow_is_told(
    daemon: StartDaemon, path: str
) -> None:
    fault = ErrorLine(after_tokens=2, paths=(path,))
    async with daemon(script=Script(faults=(fault,))) as foreman:
        answer = await foreman.client.post(path, json=BODIES[path])
        name, last = events(answer)[-1]
        assert last["error"]["message"]
        assert name == ("error" if path == "/v1/messages" else "")
        job = await foreman.job_ended(answer.headers["x-foreman-job"])
        assert job["state"] == "failed"


CHAT = ("/api/chat",)
CUTS = {
    "between-lines": Cut(after_tokens=2, paths=CHAT, skip=1),
    "in-a-line": Cut(after_bytes=200, paths=CHAT, skip=1),
}


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
async def test_c28_a_target_that_dies_never_looks_like_a_clean_end(
    daemon: StartDaemon, cut: Fault
) -> None:
    async with daemon(script=Script(faults=(cut,))) as foreman:
        try:
            answer = await foreman.client.post("/api/chat", json=chat())
        except httpx.RemoteProtocolError:
            pass
        else:
            assert "broke off" in json.loads(answer.content.splitlines()[-1])["error"]
            assert [json.loads(line) for line in answer.content.splitlines()]
        (job,) = await foreman.jobs()
        assert (await foreman.job_ended(job["id"]))["error"]["code"] == "truncated"


async def test_c28_a_single_object_that_breaks_off_is_a_502(daemon: StartDaemon) -> None:
    cut = Cut(after_bytes=50, paths=CHAT, skip=1)
    async with daemon(script=Script(faults=(cut,))) as foreman:
        answer = await foreman.client.post("/api/chat", json=chat(stream=False))
        assert answer.status_code == 502
        assert "broke off" in answer.json()["error"]


async def test_c29_a_stream_that_just_ends_is_incomplete_and_nothing_is_invented(
    daemon: StartDaemon,
) -> None:
    fault = EndEarly(after_tokens=3)
    async with daemon(script=Script(faults=(fault,))) as foreman:
        answer = await foreman.client.post("/api/chat", json=chat())
        assert [line["done"] for line in ndjson(answer)] == [False] * 3
        job = await foreman.job_ended(answer.headers["x-foreman-job"])
        assert (job["state"], job["incomplete"]) == ("done", True)


METADATA: list[tuple[str, str, Any]] = [
    ("GET", "/api/ps", None),
    ("GET", "/v1/models", None),
    ("POST", "/api/show", {"model": "small"}),
    ("POST", "/api/embed", {"model": "embedder", "input": "hi"}),
    ("POST", "/v1/embeddings", {"model": "embedder", "input": "hi"}),
    ("POST", "/api/generate", {"model": "small", "keep_alive": 0}),
    ("POST", "/api/pull", {"model": "small"}),
]


async def test_c73_without_a_target_every_route_answers_json(daemon: StartDaemon) -> None:
    async with daemon(allow_admin=True) as foreman:
        await foreman.polled()
        tags = (await foreman.client.get("/api/tags")).content
        await go_away(foreman)
        for method, path, body in METADATA:
            answer = await foreman.client.request(method, path, json=body)
            assert answer.status_code in (502, 503), path
            assert answer.headers["content-type"].startswith("application/json"), path
            assert "error" in answer.json(), path
        for path in ("/", "/api/version", "/api/tags"):
            assert (await foreman.client.get(path)).status_code == 200, "the poller remembers"
        assert (await foreman.client.get("/api/tags")).content == tags


async def test_c73_a_job_outlives_the_targets_absence(daemon: StartDaemon) -> None:
    async with daemon() as foreman:
        await foreman.polled()
        await go_away(foreman)
        async with trio.open_nursery() as clients:
            answers: list[httpx.Response] = []

            async def ask() -> None:
                answers.append(await foreman.client.post("/api/chat", json=chat(stream=False)))

            clients.start_soon(ask)
            await foreman.waits(1)  # it was put back: nothing runs
            foreman.engine.script = Script()
        assert answers[0].json()["done"]
        job = await foreman.job_ended(answers[0].headers["x-foreman-job"])
        assert (job["state"], job["attempt"]) == ("done", 1)


async def go_away(foreman: Daemon) -> None:
    """Take the target off the network until it has another script."""
    foreman.engine.script = Script(outage=3600)
    while True:
        try:
            await foreman.direct.get("/")
        except httpx.TransportError:
            return


async def committed_early(foreman: Daemon, path: str, body: dict[str, Any]) -> httpx.Response:
    """The answer to a call whose load took so long that 200 went out before it was over."""
    foreman.engine.loads.close()
    async with foreman.client.stream("POST", path, json=body) as answer:
        foreman.engine.loads.open()
        await answer.aread()
    return answer
