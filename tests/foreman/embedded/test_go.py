from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreman.embedded import go
from foreman.embedded.clock import MAX_SECONDS


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("5m", 300),
        ("-1.5h", -5400),
        ("1h2m3s4ms", 3723.004),
        ("+.5s", 0.5),
        ("7us", 7e-6),
    ],
)
def test_durations_have_units(text: str, seconds: float) -> None:
    assert go.duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("5", 'time: missing unit in duration "5"'),
        ("", 'time: invalid duration ""'),
        ("x", 'time: invalid duration "x"'),
        ("5d", 'time: unknown unit "d" in duration "5d"'),
        ("-", 'time: invalid duration "-"'),
        ("1m.", 'time: invalid duration "1m."'),
    ],
)
def test_wrong_durations_are_refused_in_gos_words(text: str, error: str) -> None:
    with pytest.raises(go.BadRequest) as caught:
        go.duration(text)
    assert caught.value.text == error


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(None, None), (300, 300), (0.5, 0.5), (-1, MAX_SECONDS), ("-1s", MAX_SECONDS)],
)
def test_keep_alive_is_seconds_or_for_ever(value: object, seconds: float | None) -> None:
    assert go.Fields("ChatRequest", {"keep_alive": value}).keep_alive() == seconds


@given(st.text() | st.text("0123456789.-+hmsnuµ"))
def test_no_duration_crashes(text: str) -> None:
    with suppress(go.BadRequest):
        go.duration(text)


@given(st.binary() | st.text('{}[]:,"truefalsn0129.-\\ \n').map(str.encode))
def test_no_body_crashes_the_decoder(body: bytes) -> None:
    with suppress(go.BadRequest):
        go.decode(body, "ChatRequest")
