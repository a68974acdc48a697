"""The OpenAI and Anthropic routes: C09-C11, C47-C52, C66, C67."""

import base64
import json
import struct
from typing import Any

import pytest
import zstandard

from foreman.embedded.script import EndEarly, ErrorLine, ModelScript, Script, ToolCall

SAID = [{"role": "user", "content": "hi"}]
CHAT = {"model": "small", "messages": SAID}
TEXT = "one 2 3 4 5 6 7 8"
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {}}}]


def frames(body: str) -> list[Any]:
    """The data of each server-sent event, `[DONE]` as it is."""
    assert body.endswith("\n\n")
    data = [event.split("data: ", 1)[1] for event in body.removesuffix("\n\n").split("\n\n")]
    return [each if each == "[DONE]" else json.loads(each) for each in data]


async def test_chat_completions_do_not_stream_by_default(rig: Any) -> None:
    answer = (await rig.client.post("/v1/chat/completions", json=CHAT)).json()
    assert answer["object"] == "chat.completion"
    (choice,) = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": TEXT}
    assert choice["finish_reason"] == "stop"
    assert answer["usage"] == {"prompt_tokens": 1, "completion_tokens": 8, "total_tokens": 9}


async def test_chat_completions_stream_to_done(rig: Any) -> None:
    body = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
    answer = await rig.client.post("/v1/chat/completions", json=body)
    assert answer.headers["content-type"] == "text/event-stream"
    *chunks, finish, usage, done = frames(answer.text)
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": "one"}
    assert chunks[1]["choices"][0]["delta"] == {"content": " 2"} and len(chunks) == 8
    assert finish["choices"][0] == {"index": 0, "delta": {}, "finish_reason": "stop"}
    assert usage["choices"] == [] and usage["usage"]["completion_tokens"] == 8
    assert done == "[DONE]"


async def test_tool_calls_finish_with_their_own_reason(start: Any) -> None:
    rig = await start(
        Script(models=(ModelScript(name="m", tool_calls=(ToolCall("add", {"b": 1}),)),))
    )
    body = {"model": "m", "messages": SAID, "tools": TOOLS}
    (choice,) = (await rig.client.post("/v1/chat/completions", json=body)).json()["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"][0]["function"]["arguments"] == '{"b":1}'
    streamed = await rig.client.post("/v1/chat/completions", json={**body, "stream": True})
    assert frames(streamed.text)[-2]["choices"][0]["finish_reason"] == "tool_calls"


async def test_completions_speak_in_both_modes(rig: Any) -> None:
    body = {"model": "small", "prompt": "hi"}
    answer = (await rig.client.post("/v1/completions", json=body)).json()
    assert answer["object"] == "text_completion" and answer["choices"][0]["text"] == TEXT
    streamed = await rig.client.post("/v1/completions", json={**body, "stream": True})
    *chunks, done = frames(streamed.text)
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == TEXT
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop" and done == "[DONE]"


async def test_base64_embeddings_hold_the_same_floats(rig: Any) -> None:
    body = {"model": "embedder", "input": ["a", "b"]}
    floats = (await rig.client.post("/v1/embeddings", json=body)).json()
    packed = (
        await rig.client.post("/v1/embeddings", json={**body, "encoding_format": "base64"})
    ).json()
    assert [each["index"] for each in floats["data"]] == [0, 1]
    for plain, coded in zip(floats["data"], packed["data"], strict=True):
        decoded = struct.unpack("<8f", base64.b64decode(coded["embedding"]))
        assert decoded == pytest.approx(plain["embedding"])
    assert floats["usage"] == {"prompt_tokens": 2, "total_tokens": 2}


async def test_models_are_listed_by_tag_and_found_by_name(rig: Any) -> None:
    listed = (await rig.client.get("/v1/models")).json()
    assert {"id": "small:latest", "owned_by": "library"}.items() <= listed["data"][0].items()
    found = (await rig.client.get("/v1/models/small")).json()
    assert found["id"] == "small" and found["object"] == "model"
    unknown = await rig.client.get("/v1/models/nope")
    assert unknown.status_code == 404
    assert unknown.json()["error"]["type"] == "not_found_error"


async def test_no_models_are_null(start: Any) -> None:
    rig = await start(Script(models=()))
    assert (await rig.client.get("/v1/models")).json() == {"object": "list", "data": None}


async def test_responses_end_with_completed_and_no_done(rig: Any) -> None:
    body = {"model": "small", "input": "hi", "instructions": "be brief"}
    whole = (await rig.client.post("/v1/responses", json=body)).json()
    assert whole["output"][0]["content"][0]["text"] == TEXT and whole["status"] == "completed"
    answer = await rig.client.post("/v1/responses", json={**body, "stream": True})
    assert answer.headers["cache-control"] == "no-cache"
    events = frames(answer.text)
    kinds = [event["type"] for event in events]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert kinds[4:-4] == ["response.output_text.delta"] * 8
    assert kinds[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == TEXT


async def test_messages_open_and_close_their_blocks(rig: Any) -> None:
    body = {"model": "thinker", "max_tokens": 50, "messages": SAID}
    whole = (await rig.client.post("/v1/messages", json=body)).json()
    assert [block["type"] for block in whole["content"]] == ["thinking", "text"]
    assert whole["stop_reason"] == "end_turn"
    answer = await rig.client.post("/v1/messages", json={**body, "stream": True})
    events = frames(answer.text)
    opened = [event["index"] for event in events if event["type"] == "content_block_start"]
    closed = [event["index"] for event in events if event["type"] == "content_block_stop"]
    assert opened == closed == [0, 1]
    assert events[0]["type"] == "message_start" and events[-1]["type"] == "message_stop"
    assert events[-2]["delta"]["stop_reason"] == "end_turn"


async def test_messages_use_tools(start: Any) -> None:
    rig = await start(
        Script(models=(ModelScript(name="m", tool_calls=(ToolCall("add", {"b": 1}),)),))
    )
    body = {"model": "m", "max_tokens": 5, "messages": SAID, "tools": TOOLS, "stream": True}
    events = frames((await rig.client.post("/v1/messages", json=body)).text)
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    assert deltas == [{"type": "input_json_delta", "partial_json": '{"b":1}'}]
    assert events[-2]["delta"]["stop_reason"] == "tool_use"


@pytest.mark.parametrize("text", [False, True])
async def test_a_transcription_is_one_answer(rig: Any, text: bool) -> None:
    data = {"model": "small", "response_format": "text" if text else "json"}
    answer = await rig.client.post(
        "/v1/audio/transcriptions", data=data, files={"file": ("a.wav", b"RIFF")}
    )
    assert (answer.text if text else answer.json()["text"]) == TEXT


@pytest.mark.parametrize(
    ("path", "body", "status", "kind", "text"),
    [
        ("/v1/chat/completions", {}, 400, "invalid_request_error", "[] is too short - 'messages'"),
        (
            "/v1/chat/completions",
            {"model": "nope", "messages": SAID},
            404,
            "not_found_error",
            "model 'nope' not found",
        ),
        (
            "/v1/completions",
            {"model": "nope", "prompt": "x"},
            404,
            "not_found_error",
            "model 'nope' not found",
        ),
        ("/v1/embeddings", {"model": "small"}, 400, "invalid_request_error", "invalid input"),
        (
            "/v1/responses",
            {"model": "nope", "input": "x"},
            404,
            "not_found_error",
            "model 'nope' not found",
        ),
    ],
)
async def test_openai_errors_are_objects(
    rig: Any, path: str, body: Any, status: int, kind: str, text: str
) -> None:
    answer = await rig.client.post(path, json=body)
    assert answer.status_code == status and answer.headers["content-type"] == "application/json"
    error = {"message": text, "type": kind, "param": None, "code": None}
    assert answer.json() == {"error": error}


@pytest.mark.parametrize(
    ("body", "status", "kind", "text"),
    [
        ({}, 400, "invalid_request_error", "model is required"),
        (
            {"model": "m"},
            400,
            "invalid_request_error",
            "max_tokens is required and must be positive",
        ),
        ({"model": "m", "max_tokens": 1}, 400, "invalid_request_error", "messages is required"),
        (
            {"model": "nope", "max_tokens": 1, "messages": SAID},
            404,
            "not_found_error",
            "model 'nope' not found",
        ),
    ],
)
async def test_anthropic_errors_are_typed(
    rig: Any, body: Any, status: int, kind: str, text: str
) -> None:
    answer = await rig.client.post("/v1/messages", json=body)
    assert answer.status_code == status
    assert answer.json()["type"] == "error" and answer.json()["request_id"].startswith("req_")
    assert answer.json()["error"] == {"type": kind, "message": text}


async def test_zstd_bodies_are_read_on_v1(rig: Any) -> None:
    body = zstandard.compress(json.dumps(CHAT).encode())
    headers = {"content-encoding": "zstd"}
    answer = await rig.client.post("/v1/chat/completions", content=body, headers=headers)
    assert answer.json()["choices"][0]["message"]["content"] == TEXT
    broken = await rig.client.post("/v1/chat/completions", content=b"no", headers=headers)
    assert broken.status_code == 400


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses"]
)
@pytest.mark.parametrize("fault", [ErrorLine(after_tokens=2), EndEarly(after_tokens=2)])
async def test_a_failure_in_a_v1_stream_is_lost(start: Any, path: str, fault: Any) -> None:
    rig = await start(Script(models=(ModelScript(name="m"),), faults=(fault,)))
    body = {"model": "m", "messages": SAID, "prompt": "x", "input": "x", "max_tokens": 9}
    answer = await rig.client.post(path, json={**body, "stream": True})
    assert answer.status_code == 200
    for terminal in ("[DONE]", "message_stop", "response.completed"):
        assert terminal not in answer.text
