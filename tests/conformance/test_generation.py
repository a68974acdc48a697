"""C01-C06, C33, C35, C36, C41-C46, C71: /api/chat and /api/generate."""

import json
from typing import Any

import pytest

from foreman.embedded.script import DEFAULT_MODELS, ErrorLine, ModelScript, Script, ToolCall
from tests.conformance.answers import assert_same, chat, ndjson, text_of
from tests.conftest import StartDaemon
from tests.fakes import http

METRICS = {"total_duration", "prompt_eval_count", "eval_count", "eval_duration"}


async def test_c01_chat_streams_by_default(daemon: StartDaemon) -> None:
    async with daemon() as foreman:
        answer = await assert_same(foreman, "POST", "/api/chat", json=chat())
        *chunks, last = ndjson(answer)
        assert answer.headers["content-type"] == "application/x-ndjson"
        assert len(chunks) > 1
        assert not any(chunk["done"] for chunk in chunks)
        assert last["done"] and last.keys() >= METRICS
        assert {chunk["model"] for chunk in [*chunks, last]} == {"small"}


async def test_c02_chat_without_streaming_is_one_object(daemon: StartDaemon) -> None:
    async with daemon() as foreman:
        answer = await assert_same(foreman, "POST", "/api/chat", json=chat(stream=False))
        assert answer.headers["content-type"] == "application/json; charset=utf-8"
        assert int(answer.headers["content-length"]) == len(answer.content)
        assert (answer.json()["done"], answer.json()["done_reason"]) == (True, "stop")


async def test_c03_generate_streams_by_default(daemon: StartDaemon) -> None:
    body = {"model": "small", "prompt": "hello there"}
    async with daemon() as foreman:
        answer = await assert_same(foreman, "POST", "/api/generate", json=body)
        *chunks, last = ndjson(answer)
        assert len(chunks) > 1 and all("response" in chunk for chunk in chunks)
        assert last["done"] and last["context"]


async def test_c04_generate_without_streaming_is_one_object(daemon: StartDaemon) -> None:
    body = {"model": "small", "prompt": "hello there", "stream": False}
    async with daemon() as foreman:
        answer = await assert_same(foreman, "POST", "/api/generate", json=body)
        assert answer.json()["response"] == "one 2 3 4 5 6 7 8"


async def test_c05_a_token_arrives_before_the_target_may_say_the_next(
    daemon: StartDaemon,
) -> None:
    async with daemon() as foreman:
        foreman.engine.tokens.close()
        foreman.engine.tokens.release()
        async with http.post(foreman.url, "/api/chat", chat()) as answer:
            for token in ("one", " 2", " 3", " 4", " 5", " 6", " 7", " 8"):
                # A token that is held back anywhere leaves this waiting for ever.
                assert json.loads(await answer.line())["message"]["content"] == token
                foreman.engine.tokens.release()
            assert json.loads(await answer.line())["done"]


@pytest.mark.parametrize("fault", [None, ErrorLine(after_tokens=2)], ids=["fine", "failing"])
async def test_c06_no_line_is_ever_blank(daemon: StartDaemon, fault: ErrorLine | None) -> None:
    script = Script(faults=(fault,) if fault else ())
    async with daemon(script=script, commit_after=0.01, heartbeat=0.01) as foreman:
        foreman.engine.tokens.close()
        async with http.post(foreman.url, "/api/chat", chat()) as answer:
            body = await answer.piece() + await answer.piece()
            assert body.strip(b" ") == b"", "heartbeats are spaces"
            foreman.engine.tokens.open()
            body += await answer.rest()
    assert all(line.strip() for line in body.removesuffix(b"\n").split(b"\n"))
    assert [json.loads(line) for line in body.splitlines()]


async def test_c33_a_load_answers_json_even_to_a_streaming_call(daemon: StartDaemon) -> None:
    async with daemon() as foreman:
        answer = await assert_same(foreman, "POST", "/api/generate", json={"model": "small"})
        assert answer.headers["content-type"] == "application/json; charset=utf-8"
        assert answer.json()["done_reason"] == "load"


async def test_c35_a_chat_without_messages_loads_or_unloads(daemon: StartDaemon) -> None:
    empty: dict[str, Any] = {"model": "small", "messages": []}
    async with daemon() as foreman:
        load = await assert_same(foreman, "POST", "/api/chat", json=empty)
        unload = await assert_same(foreman, "POST", "/api/chat", json=empty | {"keep_alive": 0})
        assert load.json()["done_reason"] == "load"
        assert unload.json()["done_reason"] == "unload"
        assert (await foreman.client.get("/api/ps")).json()["models"] == []


@pytest.mark.parametrize("keep_alive", [300, "5m", -1, "0"], ids=str)
async def test_c36_keep_alive_is_forwarded_verbatim(
    daemon: StartDaemon, keep_alive: int | str
) -> None:
    body = b'{ "model":"small", "prompt":"hi", "keep_alive": %s }' % json.dumps(keep_alive).encode()
    async with daemon() as foreman:
        assert (await foreman.client.post("/api/generate", content=body)).status_code == 200
        sent = [each.body for each in foreman.oracle.requests if b"prompt" in each.body]
        assert sent == [body]


async def test_c36_a_keep_alive_without_a_unit_is_refused(daemon: StartDaemon) -> None:
    body = {"model": "small", "prompt": "hi", "keep_alive": "5"}
    async with daemon() as foreman:
        answer = await assert_same(foreman, "POST", "/api/generate", json=body)
        assert answer.status_code == 400
        assert answer.json()["error"] == 'time: missing unit in duration "5"'


TOOLS = [
    {
        "type": "function",
        "function": {"name": "weigh", "parameters": {"zebra": 1, "apple": 2, "mango": 3}},
    }
]
CALLER = ModelScript(
    name="caller:latest",
    tool_calls=(ToolCall("weigh", {"zebra": 1, "apple": {"y": 1.50, "x": 10**17}}),),
)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_c41_tools_and_tool_calls_pass_with_their_key_order(
    daemon: StartDaemon, stream: bool
) -> None:
    body = json.dumps(chat("caller", tools=TOOLS, stream=stream)).encode()
    async with daemon(script=Script(models=(CALLER,))) as foreman:
        answer = await assert_same(foreman, "POST", "/api/chat", content=body)
        assert b'"arguments":{"zebra":1,"apple":{"y":1.5,"x":100000000000000000}}' in answer.content
        assert body in [each.body for each in foreman.oracle.requests][-2:]


@pytest.mark.parametrize("think", [True, False, "high"], ids=str)
async def test_c42_think_passes_and_thinking_comes_back(
    daemon: StartDaemon, think: bool | str
) -> None:
    async with daemon() as foreman:
        body = chat("thinker", think=think, stream=False)
        answer = await assert_same(foreman, "POST", "/api/chat", json=body)
        assert ("thinking" in answer.json()["message"]) is bool(think)


async def test_c42_a_bogus_think_is_refused(daemon: StartDaemon) -> None:
    async with daemon() as foreman:
        answer = await assert_same(
            foreman, "POST", "/api/chat", json=chat("thinker", think="bogus")
        )
        assert answer.status_code == 400


@pytest.mark.parametrize("wanted", ["json", {"type": "object", "properties": {"a": {}}}], ids=str)
async def test_c43_a_format_passes(daemon: StartDaemon, wanted: Any) -> None:
    async with daemon() as foreman:
        answer = await assert_same(foreman, "POST", "/api/chat", json=chat(format=wanted))
        assert text_of(ndjson(answer)) == "one 2 3 4 5 6 7 8"


async def test_c44_logprobs_pass_and_too_many_are_refused(daemon: StartDaemon) -> None:
    async with daemon() as foreman:
        fine = chat(logprobs=True, top_logprobs=2, stream=False)
        answer = await assert_same(foreman, "POST", "/api/chat", json=fine)
        assert len(answer.json()["logprobs"][0]["top_logprobs"]) == 2
        answer = await assert_same(foreman, "POST", "/api/chat", json=chat(top_logprobs=21))
        assert answer.status_code == 400


async def test_c45_a_model_that_cannot_think_says_so(daemon: StartDaemon) -> None:
    async with daemon() as foreman:
        answer = await assert_same(foreman, "POST", "/api/chat", json=chat(think=True))
        assert answer.status_code == 400
        assert answer.json() == {"error": '"small" does not support thinking'}


@pytest.mark.parametrize(
    ("path", "body"),
    [("chat", chat("embedder")), ("generate", {"model": "embedder", "prompt": "hi"})],
    ids=["chat", "generate"],
)
async def test_c46_an_embedding_model_does_not_chat(
    daemon: StartDaemon, path: str, body: dict[str, Any]
) -> None:
    async with daemon() as foreman:
        answer = await assert_same(foreman, "POST", f"/api/{path}", json=body)
        assert answer.status_code == 400
        assert answer.json() == {"error": f'"embedder" does not support {path}'}


async def test_c71_raw_mode_takes_no_system_prompt(daemon: StartDaemon) -> None:
    body = {"model": "small", "prompt": "hi", "raw": True, "system": "be brief"}
    async with daemon(script=Script(models=DEFAULT_MODELS)) as foreman:
        answer = await assert_same(foreman, "POST", "/api/generate", json=body)
        assert answer.status_code == 400
        assert answer.json()["error"].startswith("raw mode does not support")
