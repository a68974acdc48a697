"""What an answer says of itself as it passes, however it is cut, mutated or overlong."""

import json
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foreman.streams import (
    ERROR_TEXT,
    LINE_LIMIT,
    NdjsonScanner,
    OpaqueScanner,
    Scanner,
    SseScanner,
    Verdict,
    error_text_of,
    scanner,
)
from foreman.wire import Dialect

NDJSON = (
    b'{"model":"m","message":{"role":"assistant","content":"Gr\xc3\xbc\xc3\x9fe"},"done":false}\n'
    b'{"model":"m","message":{"role":"assistant","content":" dir"},"done":false}\n'
    b'{"model":"m","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop",'
    b'"load_duration":1500000000,"prompt_eval_count":7,"eval_count":9}\n'
)
SSE = (
    b'data: {"choices":[{"delta":{"content":"hi"}}],"usage":null}\n\n'
    b": waiting\n\n"
    b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\n'
    b"data: [DONE]\n\n"
)
ANTHROPIC = (
    b"event: message_start\n"
    b'data: {"type":"message_start","message":{"usage":{"input_tokens":5,"output_tokens":1}}}\n\n'
    b"event: message_delta\n"
    b'data: {"type":"message_delta","usage":{"output_tokens":8}}\n\n'
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
)
DONE = Verdict(True, None, None, 7, 9, 1.5)
HOSTILE = st.sampled_from(
    [
        b"",
        b"\n",
        b"null\n",
        b"[]\n",
        b'{"type":[]}\n',
        b'{"error":{"message":[1]}}\n',
        b'{"response":{"usage":5}}\n',
        b'{"message":{"usage":{"input_tokens":"x"}}}\n',
        b'{"usage":{"prompt_tokens":-1}}\n',
        b'{"eval_count":123456789012345678901234567890,"done":true}\n',
        b'{"done":true}\n{"done":false}\n',
        b"[" * 5000,
        b'{"a":' * 5000,
        b"\xff\xfe",
        b"\xc3",
        b'"\\ud800"',
        b"data: [DONE]\n",
        b"NaN\n",
    ]
)


def verdict(scan: Scanner, *chunks: bytes) -> Verdict:
    for chunk in chunks:
        scan.feed(chunk)
    return scan.verdict()


def test_a_whole_stream_says_that_it_is_done_and_what_it_cost() -> None:
    assert verdict(NdjsonScanner(), NDJSON) == DONE
    assert verdict(SseScanner(), SSE) == Verdict(True, tokens_in=3, tokens_out=4)
    assert verdict(SseScanner(), ANTHROPIC) == Verdict(True, tokens_in=5, tokens_out=8)


def test_a_stream_cut_anywhere_is_never_taken_for_complete() -> None:
    """Row 32. All but the last newline: that line is whole without it."""
    complete = [verdict(NdjsonScanner(), NDJSON[:cut]).complete for cut in range(len(NDJSON))]
    assert complete == [False] * (len(NDJSON) - 1) + [True]


@given(st.lists(st.integers(0, len(NDJSON)), max_size=20))
def test_how_it_is_chunked_never_changes_the_verdict(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(NDJSON)]
    assert verdict(NdjsonScanner(), *(NDJSON[a:b] for a, b in pairwise(edges))) == DONE


@settings(max_examples=1500)
@given(st.data())
def test_a_mutated_stream_gets_a_verdict_and_the_same_one_however_it_is_chunked(
    data: st.DataObject,
) -> None:
    """Row 33: no exception leaves the scanner, whatever the bytes."""
    kind = SseScanner if data.draw(st.booleans()) else NdjsonScanner
    body = bytearray(data.draw(st.sampled_from([NDJSON, SSE, ANTHROPIC])))
    for _ in range(data.draw(st.integers(0, 6))):
        at = data.draw(st.integers(0, len(body)))
        drop = data.draw(st.integers(0, 20))
        body[at : at + drop] = data.draw(HOSTILE | st.binary(max_size=8))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=8)))
    edges = [0, *cuts, len(body)]
    chunked = verdict(kind(), *(bytes(body[a:b]) for a, b in pairwise(edges)))
    assert chunked == verdict(kind(), bytes(body))


@pytest.mark.parametrize(
    "line",
    [
        b'{"type":[]}',
        b'{"response":{"usage":5}}',
        b'{"message":{"usage":{"input_tokens":"x"}}}',
        b'{"eval_count":123456789012345678901234567890,"done":true}',
        b'{"usage":{"prompt_tokens":-1}}',
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_a_line_of_the_wrong_shape_is_a_verdict_and_no_exception(line: bytes) -> None:
    seen = verdict(SseScanner(), b"data: " + line + b"\n\ndata: [DONE]\n\n")
    assert seen.garbled is not None or seen.complete


def test_a_number_that_no_database_holds_is_not_passed_on() -> None:
    seen = verdict(NdjsonScanner(), b'{"eval_count":%d,"done":true}\n' % (1 << 64))
    assert seen.garbled and seen.tokens_out is None


def test_an_error_line_in_a_200_is_a_failure() -> None:
    text = "llama runner process has terminated: exit status 2"
    seen = verdict(
        NdjsonScanner(), NDJSON.split(b"\n")[0], b"\n", json.dumps({"error": text}).encode()
    )
    assert (seen.complete, seen.error) == (False, text)


def test_done_said_twice_and_data_after_it_change_nothing() -> None:
    seen = verdict(NdjsonScanner(), NDJSON, NDJSON)
    assert seen == DONE


def test_a_line_without_an_end_is_garbled_and_not_kept() -> None:
    scan, chunk = NdjsonScanner(), b"x" * (1 << 20)
    tracemalloc.start()
    for _ in range(100):
        scan.feed(chunk)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "a line of more than" in str(scan.verdict().garbled)
    assert peak < 3 * LINE_LIMIT


def test_a_long_line_is_garbled_whether_it_comes_whole_or_in_pieces() -> None:
    line = b'{"a":"' + b"x" * LINE_LIMIT + b'","done":true}\n'
    whole = verdict(NdjsonScanner(), line)
    pieces = verdict(NdjsonScanner(), *(line[i : i + 65536] for i in range(0, len(line), 65536)))
    assert whole == pieces
    assert whole.garbled


def test_one_json_object_is_complete_when_it_is_whole() -> None:
    body = b'{"model":"m","done":true,"eval_count":4}'
    assert verdict(scanner(Dialect.OLLAMA, b"application/json"), body).tokens_out == 4
    assert verdict(scanner(Dialect.OLLAMA, b"application/json"), body[:-1]).garbled


def test_an_object_too_large_to_keep_passes_unread() -> None:
    pieces = [b'{"a":"', *[b"x" * (1 << 20)] * 6, b'"}']
    assert verdict(scanner(Dialect.OLLAMA, b"application/json"), *pieces) == Verdict(True)


def test_the_form_is_chosen_by_what_the_target_says_it_sends() -> None:
    assert isinstance(scanner(Dialect.OPENAI, b"text/event-stream"), SseScanner)
    assert isinstance(scanner(Dialect.OLLAMA, b"application/x-ndjson"), NdjsonScanner)
    assert isinstance(scanner(Dialect.OPENAI, b"text/plain; charset=utf-8"), OpaqueScanner)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"error":"no such model"}', "no such model"),
        (b'{"error":{"message":"bad","type":"x"}}', "bad"),
        (b'{"type":"error","error":{"message":"busy"}}', "busy"),
        (b"<html>502</html>", "<html>502</html>"),
        (b"[1]", ""),
        (b"[" * 100_000, "[" * 500),
    ],
)
def test_the_text_of_an_error_is_found_in_any_dialect(body: bytes, text: str) -> None:
    assert error_text_of(body) == text


def test_no_error_text_is_kept_at_any_length() -> None:
    assert len(error_text_of(json.dumps({"error": "x" * 10**6}).encode())) == ERROR_TEXT
