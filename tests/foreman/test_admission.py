"""What a body asks for, read as Ollama reads it; what is hostile is refused in a moment."""

import json
from time import process_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreman.admission import Admitted, Refused, admit, unknown_model
from foreman.jobs import Fingerprint
from foreman.wire import route_for

A = "registry.ollama.ai/library/a:latest"
DEEP = 100_000


def read(body: bytes | dict[str, Any], path: str = "/api/chat") -> Admitted:
    route = route_for("POST", path)
    assert route is not None
    return admit(route, (), body if isinstance(body, bytes) else json.dumps(body).encode())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"{",
        b"[]",
        b"5",
        b"null",
        b'"a"',
        b"\xff\xfe{}",
        b"\xef\xbb\xbf{}",
        b'{"model":NaN}',
        b'{"model":"a","keep_alive":NaN}',
        b'{"model":5}',
        b'{"model":"\\ud800"}',
        b'{"model":"a","prompt":"\\ud800"}',
        b'{"model":"a\\u0000"}',
        b'{"model":"\xc3"}',
        b'{"model":"a","stream":"yes"}',
        b'{"model":"a","keep_alive":[]}',
        b'{"model":"a","keep_alive":"soon"}',
        b'{"model":""}',
        b"{}",
        b"[" * DEEP,
        b'{"a":' * DEEP,
        b'{"model":"a","options":' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}",
        b'{"model":' + b"9" * 1_000_000 + b"}",
        b"{" * (8 << 20),
        b'{"model":"' + b"a" * (1 << 20) + b'"}',
    ],
)
def test_what_is_no_request_is_refused_with_a_400_in_a_moment(body: bytes) -> None:
    """Rows 52 to 55: at most 50 ms of CPU for each MiB, and a little."""
    began = process_time()
    with pytest.raises(Refused) as refused:
        read(body)
    assert refused.value.status == 400
    assert refused.value.text
    assert process_time() - began < 0.05 * (1 + len(body) / (1 << 20))


@pytest.mark.parametrize(
    "member",
    [
        b'"num":' + b"9" * 1_000_000,
        b'"list":[' + b",".join([b"1"] * 1_000_000) + b"]",
        b'"images":["' + b"A" * (8 << 20) + b'"]',
    ],
)
def test_what_the_queue_does_not_look_at_is_left_to_the_target_and_costs_little(
    member: bytes,
) -> None:
    body = b'{"model":"a",' + member + b"}"
    began = process_time()
    assert read(body, "/api/generate").key == A
    assert process_time() - began < 0.05 * (1 + len(body) / (1 << 20))


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_admitted_or_refused_and_nothing_else(body: bytes) -> None:
    try:
        read(body)
    except Refused as refused:
        assert 400 <= refused.status < 500


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_json_for_any_member_is_admitted_or_refused(value: object) -> None:
    for name in ("model", "stream", "keep_alive", "options", "shift", "messages", "prompt"):
        try:
            read({"model": "a", name: value})
        except Refused as refused:
            assert 400 <= refused.status < 500


def test_go_takes_the_last_of_doubled_keys_in_any_case_and_what_follows_the_object() -> None:
    assert read(b'{"model":"x","MODEL":"a"} trailing').key == A


def test_the_fingerprint_holds_what_makes_the_target_reload() -> None:
    options = {"num_ctx": 4096, "temperature": 1, "num_gpu": None}
    admitted = read({"model": "a", "messages": [1], "options": options})
    assert admitted.fingerprint == Fingerprint(A, '{"num_ctx":4096}')
    assert admitted.load is not None
    assert json.loads(admitted.load.body) == {
        "model": "a",
        "messages": [],
        "options": {"num_ctx": 4096},
    }


@pytest.mark.parametrize(
    ("path", "body", "streamed"),
    [
        ("/api/chat", {}, True),
        ("/api/chat", {"stream": False}, False),
        ("/v1/chat/completions", {}, False),
        ("/v1/chat/completions", {"stream": True}, True),
        ("/api/embed", {"stream": True}, False),
    ],
)
def test_each_route_streams_by_its_own_default(
    path: str, body: dict[str, Any], streamed: bool
) -> None:
    assert read({"model": "a", **body}, path).streamed is streamed


def test_an_empty_prompt_loads_and_with_keep_alive_zero_unloads() -> None:
    assert read({"model": "a"}, "/api/generate").load is None
    assert not read({"model": "a"}, "/api/generate").unload
    assert read({"model": "a", "keep_alive": 0}, "/api/generate").unload
    assert read({"model": "a", "keep_alive": "0s", "messages": []}).unload
    assert not read({"model": "a", "keep_alive": 0, "messages": [1]}).unload


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/api/chat", 404, "model 'x' not found"),
        ("/api/embed", 404, 'model "x" not found, try pulling it first'),
    ],
)
def test_an_unknown_model_is_refused_in_the_words_of_its_route(
    path: str, status: int, text: str
) -> None:
    route = route_for("POST", path)
    assert route is not None
    refused = unknown_model(route, "x")
    assert (refused.status, refused.text) == (status, text)
