"""C17, C19-C23, C37-C39, C58, C70: what is refused at once, in Ollama's words, and what is not."""

import json
from typing import Any

import pytest

from foreman.embedded.script import ModelScript, Script
from tests.conformance.answers import assert_same, chat
from tests.conftest import StartDaemon

LLAMA = Script(models=(ModelScript(name="llama3.2:latest"), ModelScript(name="llama3.2:1b")))
# Every dialect says the same things in a shape of its own.
EVERY_ROUTE = [
    ("/api/chat", chat()),
    ("/api/generate", {"model": "small", "prompt": "hi"}),
    ("/api/embed", {"model": "embedder", "input": "hi"}),
    ("/api/embeddings", {"model": "embedder", "prompt": "hi"}),
    ("/v1/chat/completions", chat()),
    ("/v1/completions", {"model": "small", "prompt": "hi"}),
    ("/v1/embeddings", {"model": "embedder", "input": "hi"}),
    ("/v1/responses", {"model": "small", "input": "hi"}),
    ("/v1/messages", {**chat(), "max_tokens": 9}),
]
PATHS = [path for path, _ in EVERY_ROUTE]


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
async def test_c17_an_unknown_model_is_404_at_once(daemon: StartDaemon, path: str) -> None:
    async with daemon() as foreman:
        foreman.engine.tokens.close()
        async with foreman.crowd(3):
            body = chat("nope") | {"prompt": "hi"}
            answer = await assert_same(foreman, "POST", path, json=body)
            assert answer.status_code == 404
            assert answer.json() == {"error": "model 'nope' not found"}


@pytest.mark.parametrize("name", [None, "", "  "], ids=["absent", "empty", "blank"])
@pytest.mark.parametrize("path", PATHS)
async def test_c19_a_missing_model_is_refused_in_the_routes_words(
    daemon: StartDaemon, path: str, name: str | None
) -> None:
    body = dict(EVERY_ROUTE)[path] | {"model": name}
    async with daemon() as foreman:
        answer = await assert_same(foreman, "POST", path, json=body)
    if path == "/api/chat":
        assert (answer.status_code, answer.json()) == (400, {"error": "model is required"})
    if path == "/api/generate" and name is None:
        assert (answer.status_code, answer.json()) == (404, {"error": "model '' not found"})


@pytest.mark.parametrize("path", PATHS)
async def test_c20_an_empty_body_is_refused(daemon: StartDaemon, path: str) -> None:
    async with daemon() as foreman:
        answer = await assert_same(foreman, "POST", path, content=b"")
        assert answer.status_code == 400
        if path.startswith("/api/"):
            assert answer.json() == {"error": "missing request body"}


BROKEN = [b"{", b'{"model": tru}', b"[]", b'{"model": 5}', b"\xff"]


@pytest.mark.parametrize("body", BROKEN, ids=repr)
@pytest.mark.parametrize("path", PATHS)
async def test_c21_a_malformed_body_is_refused(daemon: StartDaemon, path: str, body: bytes) -> None:
    async with daemon() as foreman:
        answer = await foreman.client.post(path, content=body)
        direct = await foreman.direct.post(path, content=body)
        assert answer.status_code == direct.status_code == 400
        assert shape(answer.json()) == shape(direct.json())
        assert answer.headers["content-type"] == direct.headers["content-type"]


async def test_c21_a_wrong_type_is_refused_only_where_it_is_read(daemon: StartDaemon) -> None:
    streamed = {"stream": "yes"}
    async with daemon() as foreman:
        answer = await foreman.client.post("/api/chat", json=chat() | streamed)
        assert answer.status_code == 400
        body = {"model": "embedder", "input": "hi"} | streamed
        await assert_same(foreman, "POST", "/api/embed", json=body)


@pytest.mark.parametrize("kind", [None, "application/x-www-form-urlencoded", "text/plain"], ids=str)
async def test_c22_the_content_type_is_never_looked_at(
    daemon: StartDaemon, kind: str | None
) -> None:
    headers = {"Content-Type": kind} if kind else {}
    body = json.dumps(chat(stream=False)).encode()
    async with daemon() as foreman:
        answer = await foreman.client.post("/api/chat", content=body, headers=headers)
        assert answer.json()["done"]
        assert foreman.oracle.requests[-1].body == body


async def test_c23_forty_megabytes_of_images_are_accepted(daemon: StartDaemon) -> None:
    body = chat(stream=False)
    body["messages"][0]["images"] = ["QUJD" * (5 << 20)] * 2
    data = json.dumps(body).encode()
    assert len(data) > 40 << 20
    async with daemon() as foreman:
        answer = await foreman.client.post("/api/chat", content=data)
        assert answer.json()["done"]
        assert foreman.oracle.requests[-1].size == len(data)


SPELLINGS = [
    "llama3.2",
    "LLAMA3.2:Latest",
    "llama3.2:latest",
    "library/llama3.2",
    "registry.ollama.ai/library/llama3.2:latest",
    "https://registry.ollama.ai/library/llama3.2",
    "llama3.2:local",
]


async def test_c37_all_spellings_of_a_name_share_one_lane_and_are_echoed(
    daemon: StartDaemon,
) -> None:
    async with daemon(script=LLAMA) as foreman:
        for name in SPELLINGS:
            answer = await assert_same(foreman, "POST", "/api/chat", json=chat(name, stream=False))
            assert answer.json()["model"] == name
        assert len(foreman.oracle.loads) == 1
        assert {job["fingerprint"] for job in await foreman.jobs()} == {"llama3.2:latest"}


async def test_c38_a_name_without_a_tag_is_the_latest(daemon: StartDaemon) -> None:
    async with daemon(script=LLAMA) as foreman:
        answer = await foreman.client.post("/api/chat", json=chat("llama3.2", stream=False))
        assert answer.status_code == 200
        assert [load.model for load in foreman.oracle.loads] == ["llama3.2:latest"]


INVALID = ["llama3.2@sha256:abc", "hf.co/foo", "a/b/c/d", "llama3.2:", ":1b", "-x", "a b"]


@pytest.mark.parametrize("name", [*INVALID, "x:cloud:local"])
@pytest.mark.parametrize("path", ["/api/chat", "/api/generate", "/api/embed", "/v1/responses"])
async def test_c39_an_invalid_name_is_refused(daemon: StartDaemon, path: str, name: str) -> None:
    body = chat(name) | {"prompt": "hi", "input": "hi"}
    async with daemon() as foreman:
        answer = await assert_same(foreman, "POST", path, json=body)
        assert answer.status_code == 400
        if path == "/api/chat" and name in INVALID:
            assert answer.json() == {"error": "invalid model name"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/chat"),
        ("DELETE", "/api/tags"),
        ("HEAD", "/api/ps"),
        ("PUT", "/v1/messages"),
        ("GET", "/api/delete"),
    ],
)
async def test_c58_a_wrong_method_is_405_with_those_allowed(
    daemon: StartDaemon, method: str, path: str
) -> None:
    async with daemon() as foreman:
        answer = await foreman.client.request(method, path)
        direct = await foreman.direct.request(method, path)
        assert (answer.status_code, answer.content) == (405, direct.content)
        assert answer.headers["content-type"].startswith("text/plain")
        assert methods(answer.headers["allow"]) == methods(direct.headers["allow"])


async def test_c70_keys_match_in_any_case_and_the_last_one_counts(daemon: StartDaemon) -> None:
    body = b'{"model":"nope","MODEL":"big","Messages":[{"role":"user","content":"a"}]} trailing'
    async with daemon() as foreman:
        answer = await assert_same(foreman, "POST", "/api/chat", content=body)
        assert answer.status_code == 200
        (job,) = await foreman.jobs()
        assert job["model"] == "big"


def shape(value: Any) -> Any:
    """The keys of an error, and its type where it has one; the text is the decoder's own."""
    if isinstance(value, dict):
        return {key: item if key == "type" else shape(item) for key, item in value.items()}
    return type(value)


def methods(allow: str) -> set[str]:
    """The methods in an Allow header."""
    return {each.strip() for each in allow.split(",")}
