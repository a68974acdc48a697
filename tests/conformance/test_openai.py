"""C09-C11, C49-C52, C66, C67: the /v1 routes."""

import json
from typing import Any

import pytest
import zstandard

from foreman.embedded.script import DEFAULT_MODELS, ModelScript, Script
from tests.conformance.answers import assert_same, chat, events
from tests.conftest import StartDaemon

SPEECH = Script(
    models=(
        *DEFAULT_MODELS,
        ModelScript(name="ears:latest", capabilities=("completion", "audio", "vision")),
    )
)


@pytest.mark.parametrize("stream", [None, False], ids=["absent", "false"])
async def test_c09_a_completion_is_not_streamed_unless_asked(
    daemon: StartDaemon, stream: bool | None
) -> None:
    body = chat() if stream is None else chat(stream=stream)
    async with daemon() as foreman:
        answer = await assert_same(foreman, "POST", "/v1/chat/completions", json=body)
        assert answer.json()["object"] == "chat.completion"
        assert answer.json()["choices"][0]["finish_reason"] == "stop"


async def test_c10_a_streamed_completion_ends_with_done(daemon: StartDaemon) -> None:
    async with daemon() as foreman:
        body = chat(stream=True)
        answer = await assert_same(foreman, "POST", "/v1/chat/completions", json=body)
        *_, (_, finish), (_, done) = events(answer)
        assert finish["choices"][0]["finish_reason"] == "stop"
        assert done == "[DONE]"


async def test_c11_usage_comes_in_a_chunk_without_choices(daemon: StartDaemon) -> None:
    async with daemon() as foreman:
        body = chat(stream=True, stream_options={"include_usage": True})
        answer = await assert_same(foreman, "POST", "/v1/chat/completions", json=body)
        *_, (_, usage), (_, done) = events(answer)
        assert (usage["choices"], done) == ([], "[DONE]")
        assert usage["usage"]["completion_tokens"] == 8


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_c49_legacy_completions_work_in_both_modes(daemon: StartDaemon, stream: bool) -> None:
    body = {"model": "small", "prompt": "hello there", "stream": stream}
    async with daemon() as foreman:
        answer = await assert_same(foreman, "POST", "/v1/completions", json=body)
        assert answer.status_code == 200


async def test_c50_responses_work_whole(daemon: StartDaemon) -> None:
    body = {"model": "small", "input": "hello there"}
    async with daemon() as foreman:
        answer = await assert_same(foreman, "POST", "/v1/responses", json=body)
        assert answer.json()["status"] == "completed"


async def test_c50_streamed_responses_end_completed_without_done(daemon: StartDaemon) -> None:
    body = {"model": "small", "input": "hello there", "stream": True}
    async with daemon() as foreman:
        answer = await assert_same(foreman, "POST", "/v1/responses", json=body)
        assert events(answer)[-1][0] == "response.completed"
        assert "[DONE]" not in answer.text
        assert answer.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_c51_messages_work_in_both_modes(daemon: StartDaemon, stream: bool) -> None:
    body = chat(stream=stream, max_tokens=100)
    async with daemon() as foreman:
        answer = await assert_same(foreman, "POST", "/v1/messages", json=body)
        if stream:
            names = [name for name, _ in events(answer)]
            assert (names[0], names[-1]) == ("message_start", "message_stop")
        else:
            assert answer.json()["type"] == "message"


@pytest.mark.parametrize(
    ("body", "kind"),
    [(chat(), "invalid_request_error"), (chat("nope", max_tokens=9), "not_found_error")],
    ids=["no-limit", "unknown-model"],
)
async def test_c51_errors_of_messages_are_anthropics(
    daemon: StartDaemon, body: Any, kind: str
) -> None:
    async with daemon() as foreman:
        answer = await assert_same(foreman, "POST", "/v1/messages", json=body)
        assert answer.json()["type"] == "error"
        assert answer.json()["error"]["type"] == kind
        assert answer.json()["request_id"].startswith("req_")


@pytest.mark.parametrize("path", ["chat/completions", "completions", "responses", "embeddings"])
async def test_c52_an_unknown_model_is_openais_404(daemon: StartDaemon, path: str) -> None:
    body = chat("nope") | {"prompt": "hi", "input": "hi"}
    async with daemon() as foreman:
        answer = await assert_same(foreman, "POST", f"/v1/{path}", json=body)
        assert answer.status_code == 404
        assert answer.json()["error"]["type"] == "not_found_error"


async def test_c66_a_zstd_body_is_read_and_forwarded_as_it_came(daemon: StartDaemon) -> None:
    plain = json.dumps({"model": "big", "input": "hello there"}).encode()
    body = zstandard.compress(plain)
    headers = {"Content-Encoding": "zstd", "Content-Type": "application/json"}
    async with daemon() as foreman:
        answer = await assert_same(foreman, "POST", "/v1/responses", content=body, headers=headers)
        assert answer.json()["status"] == "completed"
        (job,) = await foreman.jobs()
        assert job["model"] == "big"
        assert [each.body for each in foreman.oracle.requests].count(body) == 2


@pytest.mark.parametrize("form", ["json", "text"])
async def test_c67_a_transcription_names_its_model_in_the_form(
    daemon: StartDaemon, form: str
) -> None:
    parts: dict[str, Any] = {
        "data": {"model": "ears", "response_format": form},
        "files": {"file": ("speech.wav", b"RIFF" + bytes(100_000))},
        "headers": {"Content-Type": "multipart/form-data; boundary=between"},
    }
    async with daemon(script=SPEECH) as foreman:
        answer = await assert_same(foreman, "POST", "/v1/audio/transcriptions", **parts)
        assert answer.status_code == 200
        assert b"one 2 3" in answer.content
        (job,) = await foreman.jobs()
        assert job["model"] == "ears"
