"""An answer as records, however it was cut on its way, and the one object it adds up to."""

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreman.records import document, fold, split, splitter

NDJSON, SSE, JSON = "application/x-ndjson", "text/event-stream; charset=utf-8", "application/json"

OBJECTS = [b'{"a":"Gr\xc3\xbc\xc3\x9fe"}', b'{"b":[1,2]}', b'{"c":"x\\ny"}']


def framed(records: list[bytes], newline: bytes) -> bytes:
    """Server-sent events around these records, with everything else that may stand there."""
    frames = [b"event: e" + newline + b"data: " + each + newline * 2 for each in records]
    return b": waiting" + newline * 2 + b"".join(frames) + b"data: [DONE]" + newline * 2


BODIES = {
    "lines": (NDJSON, b"\n".join(OBJECTS) + b"\n"),
    "lines of another system": (NDJSON, b"\r\n".join(OBJECTS) + b"\r\n"),
    "a last line without its end": (NDJSON, b"\n".join(OBJECTS)),
    "a sign of life and blank lines": (NDJSON, b"   " + b"\n\n".join(OBJECTS) + b"\n\n"),
    "events": (SSE, framed(OBJECTS, b"\n")),
    "events of another system": (SSE, framed(OBJECTS, b"\r\n")),
    "a last event without its end": (SSE, framed(OBJECTS, b"\n").partition(b"data: [DO")[0][:-1]),
    "no space after the colon": (SSE, framed(OBJECTS, b"\n").replace(b"data: ", b"data:")),
}


@pytest.mark.parametrize("name", BODIES)
@given(cuts=st.lists(st.integers(0, 300)))
def test_the_records_are_the_same_wherever_the_body_was_cut(name: str, cuts: list[int]) -> None:
    content_type, body = BODIES[name]
    splitting, records, ends = splitter(content_type), list[bytes](), sorted({*cuts, 0, len(body)})
    for start, end in pairwise(ends):
        records += splitting.feed(body[start:end])
    assert records + splitting.end() == OBJECTS


@pytest.mark.parametrize("content_type", [NDJSON, SSE])
def test_a_record_is_there_as_soon_as_it_is_whole(content_type: str) -> None:
    splitting = splitter(content_type)
    assert splitting.feed(b'data: {"a":' if content_type == SSE else b'{"a":') == []
    assert len(splitting.feed(b"1}\n\n")) == 1
    assert splitting.end() == []


@pytest.mark.parametrize(
    ("content_type", "body", "records"),
    [
        (JSON, b'{"a": 1}', [b'{"a": 1}']),
        (JSON, b'{\n  "a": 1.50,\r\n  "b": "x y"\n}\n', [b'{"a":1.50,"b":"x y"}']),
        (JSON, b"", []),
        (JSON, b"<html>\n</html>", [b'"<html>\\n</html>"']),
        (SSE, b'data: {"a":\ndata: 1}\n\n', [b'{"a":1}']),
        ("text/plain; charset=utf-8", b"so be it\n\xff", ['"so be it\\n\ufffd"'.encode()]),
    ],
)
def test_every_record_is_one_line_of_json(
    content_type: str, body: bytes, records: list[bytes]
) -> None:
    assert split(content_type, body) == records


def chunk(message: dict[str, Any] | None, **rest: Any) -> dict[str, Any]:
    return {"model": "m", "created_at": "2026-01-01T00:00:00Z", "message": message, **rest}


CALL = {"function": {"name": "f", "arguments": {}}}
CHAT = [
    chunk({"role": "assistant", "content": "", "thinking": "Let"}, done=False),
    chunk({"role": "assistant", "content": "", "thinking": " me"}, done=False),
    chunk({"role": "assistant", "content": "He", "tool_calls": [CALL]}, done=False),
    chunk({"role": "assistant", "content": "llo", "tool_calls": None}, done=False),
    chunk({"role": "assistant", "content": ""}, done=True, done_reason="stop", eval_count=4),
]


def test_a_streamed_chat_becomes_the_object_sent_without_streaming() -> None:
    assert fold("/api/chat", CHAT) == {
        "model": "m",
        "created_at": "2026-01-01T00:00:00Z",
        "message": {
            "role": "assistant",
            "content": "Hello",
            "thinking": "Let me",
            "tool_calls": [CALL],
        },
        "done": True,
        "done_reason": "stop",
        "eval_count": 4,
    }


def test_a_streamed_generation_keeps_its_context_and_its_log_probabilities() -> None:
    chunks: list[dict[str, Any]] = [
        {"model": "m", "response": "a", "done": False, "logprobs": [{"token": "a"}]},
        {"model": "m", "response": "b", "done": False, "logprobs": [{"token": "b"}]},
        {"model": "m", "response": "", "done": True, "context": [1, 2], "total_duration": 5},
    ]
    assert fold("/api/generate", chunks) == {
        "model": "m",
        "response": "ab",
        "done": True,
        "logprobs": [{"token": "a"}, {"token": "b"}],
        "context": [1, 2],
        "total_duration": 5,
    }


@pytest.mark.parametrize("endpoint", ["/api/chat", "/api/generate"])
@pytest.mark.parametrize(
    "records",
    [[], [{}], [{"message": None, "response": None}], [{"message": [1]}, {"response": 5}], [3, {}]],
)
def test_folding_raises_for_nothing_a_target_may_send(endpoint: str, records: list[object]) -> None:
    fold(endpoint, records)


def test_other_streams_are_the_list_of_their_records() -> None:
    body = framed([b'{"n":1}', b'{"n":2}'], b"\n")
    assert document("/v1/chat/completions", SSE, body) == [{"n": 1}, {"n": 2}]


def test_an_answer_that_was_not_streamed_is_what_it_is() -> None:
    assert document("/api/chat", JSON, b'{"message": {"content": "x"}}') == {
        "message": {"content": "x"}
    }
    assert document("/v1/audio/transcriptions", "text/plain", b"words\n") == "words\n"
    assert document("/api/chat", JSON, b"") is None


def test_a_streamed_document_is_folded() -> None:
    body = b"".join(msgspec.json.encode(each) + b"\n" for each in CHAT)
    assert document("/api/chat", NDJSON, body) == fold("/api/chat", CHAT)


@pytest.mark.parametrize("body", [b"nonsense\n", b"[" * 100_000 + b"\n", b'"\xff"\n'])
def test_an_unreadable_answer_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError, match="not the JSON it should be"):
        document("/api/chat", NDJSON, body)
