from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreman.llm.framing import Framing, Lines, ServerSentEvents, TooLong, Whole

BODY = 'data: {"a":"é😀"}\r\n\r\n: hb\n\nevent: x\ndata:1\ndata: 2\n\ndata: [DONE]'
FRAMES = ['{"a":"é😀"}'.encode(), b"1\n2", b"[DONE]"]


def frames(framing: Framing, *chunks: bytes) -> list[bytes]:
    return [frame for chunk in chunks for frame in framing.feed(chunk)] + framing.end()


@pytest.mark.parametrize("cut", range(len(BODY.encode())))
def test_events_are_the_same_wherever_the_body_is_cut(cut: int) -> None:
    body = BODY.encode()

    assert frames(ServerSentEvents(), body[:cut], body[cut:]) == FRAMES


@given(st.lists(st.binary(), max_size=20))
def test_lines_are_those_of_the_body_however_it_is_cut(chunks: list[bytes]) -> None:
    lines = [line.strip() for line in b"".join(chunks).split(b"\n")]

    assert frames(Lines(), *chunks) == [line for line in lines if line]


def test_a_long_line_is_a_line() -> None:
    line = b"x" * 3_000_000

    assert frames(Lines(), line[:70_000], line[70_000:] + b"\n") == [line]


@pytest.mark.parametrize("make", [Lines, ServerSentEvents, Whole], ids=["lines", "events", "whole"])
def test_a_frame_without_end_is_refused(make: Callable[[int], Framing]) -> None:
    framing = make(100)

    with pytest.raises(TooLong):
        for _ in range(200):
            framing.feed(b"x")


def test_an_event_of_many_lines_is_refused_at_the_same_length() -> None:
    events = ServerSentEvents(100)

    with pytest.raises(TooLong):
        for _ in range(200):
            events.feed(b"data: x\n")


def test_an_event_without_data_is_none() -> None:
    assert frames(ServerSentEvents(), b"event: ping\n\nid: 1\n\ndata:\n\n") == []
