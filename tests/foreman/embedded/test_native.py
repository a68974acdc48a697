"""The native inference routes: C01-C08, C17-C22, C33-C37, C39-C46, C70, C71."""

import json
from typing import Any

import msgspec
import pytest

from foreman.embedded.script import ModelScript, Script, ToolCall

CHAT = {"messages": [{"role": "user", "content": "hi"}]}
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {}}}]


def lines(body: bytes) -> list[Any]:
    assert body.endswith(b"\n")
    return [json.loads(line) for line in body.removesuffix(b"\n").split(b"\n")]


async def test_chat_streams_by_default_and_echoes_the_name_as_sent(rig: Any) -> None:
    answer = await rig.client.post("/api/chat", json={"model": "SMALL", **CHAT})
    assert answer.headers["content-type"] == "application/x-ndjson"
    chunks = lines(answer.content)
    assert {chunk["model"] for chunk in chunks} == {"SMALL"}
    assert [chunk["done"] for chunk in chunks] == [False] * 8 + [True]
    assert chunks[0]["message"] == {"role": "assistant", "content": "one"}
    last = chunks[-1]
    assert last["message"] == {"role": "assistant", "content": ""}
    assert last["done_reason"] == "stop" and last["eval_count"] == 8
    assert last["total_duration"] >= last["load_duration"] > 0 and "context" not in last


async def test_chat_without_streaming_is_one_object(rig: Any) -> None:
    body = {"model": "small", "stream": False, **CHAT}
    answer = await rig.client.post("/api/chat", json=body)
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert answer.json()["message"]["content"] == "one 2 3 4 5 6 7 8"
    assert answer.json()["done"] and answer.json()["done_reason"] == "stop"


async def test_generate_ends_with_its_context_but_not_when_raw(rig: Any) -> None:
    body = {"model": "small", "prompt": "hi there"}
    answer = await rig.client.post("/api/generate", json=body)
    chunks = lines(answer.content)
    assert "".join(chunk["response"] for chunk in chunks) == "one 2 3 4 5 6 7 8"
    assert chunks[-1]["context"] and "context" not in chunks[0]
    raw = await rig.client.post("/api/generate", json={**body, "raw": True, "stream": False})
    assert "context" not in raw.json()


async def test_num_predict_cuts_the_answer_short(rig: Any) -> None:
    body = {"model": "small", "stream": False, "options": {"num_predict": 3}, **CHAT}
    answer = (await rig.client.post("/api/chat", json=body)).json()
    assert answer["message"]["content"] == "one 2 3" and answer["done_reason"] == "length"


async def test_go_escapes_markup_in_its_json(start: Any) -> None:
    rig = await start(Script(models=(ModelScript(name="m", echo=True),)))
    body = {"model": "m", "messages": [{"role": "user", "content": "<a&b> é"}], "stream": False}
    answer = await rig.client.post("/api/chat", json=body)
    assert rb'"content":"\u003ca\u0026b\u003e ' in answer.content
    assert answer.json()["message"]["content"] == "<a&b> é"


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        ("/api/chat", b"", 400, "missing request body"),
        ("/api/embed", b" \n", 400, "missing request body"),
        ("/api/chat", b"{", 400, "unexpected EOF"),
        ("/api/chat", b"nope", 400, "invalid character 'n' looking for beginning of value"),
        ("/api/chat", b'{"a" 1}', 400, "invalid character '1' after object key"),
        (
            "/api/chat",
            b"[1]",
            400,
            "json: cannot unmarshal array into Go value of type api.ChatRequest",
        ),
        (
            "/api/chat",
            b'{"model":5}',
            400,
            "json: cannot unmarshal number into Go struct field ChatRequest.model of type string",
        ),
        ("/api/chat", b"{}", 400, "model is required"),
        ("/api/generate", b"{}", 404, "model '' not found"),
        ("/api/embed", b"{}", 404, "model '' not found"),
        ("/api/embeddings", b"{}", 400, "model is required"),
        ("/api/chat", b'{"model":"hf.co/foo"}', 400, "invalid model name"),
        (
            "/api/chat",
            b'{"model":"x:cloud:local"}',
            400,
            'use either :local or :cloud, not both: "x:cloud:local"',
        ),
        ("/api/chat", b'{"model":"nope"}', 404, "model 'nope' not found"),
        ("/api/generate", b'{"model":"nope"}', 404, "model 'nope' not found"),
        ("/api/embed", b'{"model":"nope"}', 404, 'model "nope" not found, try pulling it first'),
        (
            "/api/embeddings",
            b'{"model":"nope"}',
            404,
            'model "nope" not found, try pulling it first',
        ),
        ("/api/show", b"{}", 400, "model is required"),
        ("/api/show", b'{"name":"nope"}', 404, "model 'nope:latest' not found"),
        ("/api/chat", b'{"model":"embedder"}', 400, '"embedder" does not support chat'),
        ("/api/generate", b'{"model":"embedder"}', 400, '"embedder" does not support generate'),
        (
            "/api/generate",
            b'{"model":"small","suffix":"x","prompt":"y"}',
            400,
            "registry.ollama.ai/library/small:latest does not support insert",
        ),
        ("/api/chat", b'{"model":"small","think":true}', 400, '"small" does not support thinking'),
        (
            "/api/chat",
            b'{"model":"small","think":"bogus"}',
            400,
            'invalid think value: "bogus" (must be "high", "medium", "low", "max", true, or false)',
        ),
        (
            "/api/chat",
            b'{"model":"small","top_logprobs":21}',
            400,
            "top_logprobs must be between 0 and 20",
        ),
        (
            "/api/generate",
            b'{"model":"small","prompt":"x","raw":true,"system":"s"}',
            400,
            "raw mode does not support template, system, or context",
        ),
        (
            "/api/generate",
            b'{"model":"small","keep_alive":"5"}',
            400,
            'time: missing unit in duration "5"',
        ),
        (
            "/api/chat",
            b'{"model":"small","options":{"num_ctx":"x"}}',
            500,
            'option "num_ctx" must be of type integer',
        ),
        (
            "/api/generate",
            b'{"model":"small","prompt":"x","format":"xml"}',
            500,
            'invalid format: "\\"xml\\""; expected "json" or a valid JSON Schema object',
        ),
        ("/api/embed", b'{"model":"embedder","input":[1]}', 400, "invalid input type"),
    ],
)
async def test_bad_calls_get_ollamas_own_words(
    rig: Any, path: str, body: bytes, status: int, error: str
) -> None:
    answer = await rig.client.post(path, content=body)
    assert answer.json() == {"error": error}
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json; charset=utf-8"


@pytest.mark.parametrize(
    "body",
    [
        b'{"Model":"small","MESSAGES":[],"stream":false}',
        b'{"model":"nope","model":"small","messages":null}',
        b' {"model":"small"} trailing rubbish',
    ],
)
async def test_the_decoder_is_as_lax_as_gos(rig: Any, body: bytes) -> None:
    answer = await rig.client.post("/api/chat", content=body)
    assert answer.json()["done_reason"] == "load"


@pytest.mark.parametrize("keep_alive", [None, 300, "5m", -1, "1h30m"])
async def test_an_empty_call_loads_and_answers_one_object(rig: Any, keep_alive: Any) -> None:
    body = {"model": "small", "keep_alive": keep_alive}
    answer = await rig.client.post("/api/generate", json=body)
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert answer.json() | {"created_at": ""} == {
        "model": "small",
        "created_at": "",
        "response": "",
        "done": True,
        "done_reason": "load",
    }
    assert [load.model for load in rig.oracle.loads] == ["small:latest"]


@pytest.mark.parametrize("keep_alive", [0, "0", "0s"])
@pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
async def test_an_empty_call_with_no_keep_alive_unloads(
    rig: Any, path: str, keep_alive: Any
) -> None:
    await rig.client.post(path, json={"model": "small"})
    answer = await rig.client.post(path, json={"model": "small", "keep_alive": keep_alive})
    assert answer.json()["done_reason"] == "unload"
    assert (await rig.client.get("/api/ps")).json() == {"models": []}
    assert rig.oracle.unloads == ["small:latest"]


async def test_thinking_is_on_unless_refused(rig: Any) -> None:
    body = {"model": "thinker", "stream": False, **CHAT}
    answer = (await rig.client.post("/api/chat", json=body)).json()
    assert answer["message"]["thinking"] == "Hm. So"
    answer = (await rig.client.post("/api/chat", json={**body, "think": False})).json()
    assert "thinking" not in answer["message"]


@pytest.mark.parametrize("early", [False, True])
async def test_tool_calls_keep_the_order_of_their_arguments(start: Any, early: bool) -> None:
    call = ToolCall("add", {"z": 1, "a": {"y": 2, "b": 12345678901234567890}})
    model = ModelScript(name="m", tool_calls=(call,), tool_calls_early=early)
    rig = await start(Script(models=(model,)))
    body = {"model": "m", "tools": TOOLS, **CHAT}
    answer = await rig.client.post("/api/chat", json=body)
    assert b'"arguments":{"z":1,"a":{"y":2,"b":12345678901234567890}}' in answer.content
    with_calls = [
        chunk["done"] for chunk in lines(answer.content) if "tool_calls" in chunk["message"]
    ]
    assert with_calls == [not early]


async def test_logprobs_come_with_their_tokens(rig: Any) -> None:
    body = {"model": "small", "logprobs": True, "top_logprobs": 2, **CHAT}
    chunks = lines((await rig.client.post("/api/chat", json=body)).content)
    assert chunks[0]["logprobs"][0]["token"] == "one"
    assert len(chunks[0]["logprobs"][0]["top_logprobs"]) == 2
    assert "logprobs" not in chunks[-1]


async def test_embeddings_keep_order_and_are_normalised(rig: Any) -> None:
    body = {"model": "embedder", "input": ["a", "b", "a"]}
    answer = (await rig.client.post("/api/embed", json=body)).json()
    first, second, third = answer["embeddings"]
    assert first == third != second
    assert sum(value * value for value in first) == pytest.approx(1)
    assert answer["prompt_eval_count"] == 3 and answer["total_duration"] > 0
    single = await rig.client.post("/api/embed", json={**body, "input": "a", "dimensions": 4})
    (short,) = single.json()["embeddings"]
    assert len(short) == 4 and sum(value * value for value in short) == pytest.approx(1)


async def test_the_old_embedding_route_does_not_normalise(rig: Any) -> None:
    body = {"model": "embedder", "prompt": "a"}
    answer = (await rig.client.post("/api/embeddings", json=body)).json()
    assert list(answer) == ["embedding"]
    assert sum(value * value for value in answer["embedding"]) != pytest.approx(1)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/api/embed", {"model": "embedder", "embeddings": []}),
        ("/api/embeddings", {"embedding": []}),
    ],
)
async def test_embedding_nothing_is_a_load(rig: Any, path: str, expected: Any) -> None:
    answer = await rig.client.post(path, json={"model": "embedder"})
    assert answer.json() == expected
    assert len(rig.oracle.loads) == 1


async def test_cloud_models_ask_for_a_sign_in_and_take_no_slot(rig: Any) -> None:
    for name in ("faraway:cloud", "gpt-oss:120b-cloud"):
        answer = await rig.client.post("/api/chat", json={"model": name, **CHAT})
        assert answer.status_code == 401
        assert answer.json()["error"] == "unauthorized"
        assert answer.json()["signin_url"].startswith("https://ollama.com/connect?")
    rig.engine.script = msgspec.structs.replace(rig.engine.script, signed_in=True)
    answer = await rig.client.post("/api/chat", json={"model": "faraway:cloud", **CHAT})
    assert len(lines(answer.content)) == 9
    assert (await rig.client.get("/api/ps")).json() == {"models": []} and not rig.oracle.loads


async def test_a_stub_without_a_suffix_is_cloud_unless_asked_for_locally(start: Any) -> None:
    rig = await start(Script(models=(ModelScript(name="stub", remote=True),)))
    assert (await rig.client.post("/api/chat", json={"model": "stub", **CHAT})).status_code == 401
    local = await rig.client.post("/api/chat", json={"model": "stub:local", **CHAT})
    assert local.status_code == 404 and local.json() == {"error": "model 'stub:local' not found"}
