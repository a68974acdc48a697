"""Errors in the shape of each dialect, whole or appended to a stream."""

import json
from typing import Any

import pytest

from foreman.api.replies import error_body, error_frame, heartbeat, stream_type
from foreman.streams import NdjsonScanner, SseScanner
from foreman.wire import Dialect

OLLAMA, OPENAI, ANTHROPIC, OWN = (
    Dialect.OLLAMA,
    Dialect.OPENAI,
    Dialect.ANTHROPIC,
    Dialect.OWN,
)


@pytest.mark.parametrize(
    ("dialect", "status", "said"),
    [
        (OLLAMA, 404, {"error": "no"}),
        (OWN, 404, {"type": "about:blank", "title": "Not Found", "status": 404, "detail": "no"}),
        (ANTHROPIC, 404, {"type": "error", "error": {"type": "not_found_error", "message": "no"}}),
        (ANTHROPIC, 503, {"type": "error", "error": {"type": "overloaded_error", "message": "no"}}),
        (
            OPENAI,
            400,
            {
                "error": {
                    "message": "no",
                    "type": "invalid_request_error",
                    "param": None,
                    "code": None,
                }
            },
        ),
        (
            OPENAI,
            503,
            {"error": {"message": "no", "type": "api_error", "param": None, "code": None}},
        ),
    ],
)
def test_each_dialect_gets_the_shape_its_clients_read(
    dialect: Dialect, status: int, said: dict[str, Any]
) -> None:
    kind, body = error_body(dialect, status, "no")
    assert said.items() <= json.loads(body).items()
    assert kind[1].startswith(
        b"application/problem+json" if dialect is OWN else b"application/json"
    )


def test_a_frame_can_be_appended_to_a_stream_and_is_read_as_its_error() -> None:
    ndjson, sse = NdjsonScanner(), SseScanner()
    ndjson.feed(b'{"done":false}\n' + error_frame(OLLAMA, 502, "gone"))
    sse.feed(b"data: {}\n\n" + error_frame(OPENAI, 502, "gone"))
    assert ndjson.verdict().error == "gone"
    assert sse.verdict().error == "gone"
    assert error_frame(ANTHROPIC, 502, "gone").startswith(b"event: error\ndata: {")


@pytest.mark.parametrize("dialect", [OLLAMA, OPENAI, ANTHROPIC])
def test_a_sign_of_life_is_skipped_by_every_parser(dialect: Dialect) -> None:
    scan = NdjsonScanner() if dialect is OLLAMA else SseScanner()
    whole = b'{"done":true}\n' if dialect is OLLAMA else b"data: [DONE]\n\n"
    scan.feed(heartbeat(dialect, streamed=True) * 3 + whole)
    assert scan.verdict().complete
    assert json.loads(heartbeat(dialect, streamed=False) * 3 + b"{}") == {}
    assert b"\n" not in heartbeat(OLLAMA, streamed=True)


def test_streams_are_ndjson_for_ollama_and_events_for_the_others() -> None:
    kinds = [stream_type(each)[1] for each in (OLLAMA, OPENAI, ANTHROPIC)]
    assert kinds == [b"application/x-ndjson", b"text/event-stream", b"text/event-stream"]
