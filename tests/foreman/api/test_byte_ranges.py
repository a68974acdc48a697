"""Which bytes a conditional or partial request gets, by RFC 9110."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreman.api.byte_ranges import Choice, NotModified, Part, Unsatisfiable, Whole, choose

ETAG = '"abc"'
SIZE = 100

RANGES: dict[str, Choice] = {
    "": Whole(),
    "bytes=0-0": Part(0, 1),
    "bytes=10-19": Part(10, 20),
    "bytes=10-": Part(10, 100),
    "bytes=-1": Part(99, 100),
    "bytes=-200": Part(0, 100),
    "bytes=99-500": Part(99, 100),
    "Bytes = 5 - 9": Part(5, 10),
    "bytes=100-": Unsatisfiable(),
    "bytes=100-200": Unsatisfiable(),
    "bytes=-0": Unsatisfiable(),
    "bytes=9-5": Whole(),
    "bytes=-": Whole(),
    "bytes=0-1,5-6": Whole(),
    "bytes=a-b": Whole(),
    "bytes=0x1-": Whole(),
    "bytes=\xb2-": Whole(),
    "bytes=1.5-2": Whole(),
    "lines=1-2": Whole(),
    "bytes=" + "9" * 5000 + "-": Whole(),
}


def chosen(size: int = SIZE, **headers: str) -> Choice:
    given_ = {name.replace("_", "-").encode(): text for name, text in headers.items()}
    return choose(lambda name: given_.get(name, "").encode("latin-1"), ETAG, size)


@pytest.mark.parametrize("text", RANGES)
def test_a_range_is_what_it_says_or_counts_as_absent(text: str) -> None:
    assert chosen(range=text) == RANGES[text]


@pytest.mark.parametrize("text", ["bytes=0-", "bytes=-1", "bytes=0-0"])
def test_no_range_of_nothing_can_be_satisfied(text: str) -> None:
    assert chosen(0, range=text) == Unsatisfiable()


@pytest.mark.parametrize(
    ("text", "choice"),
    [(ETAG, Part(1, 2)), ('"old"', Whole()), ("W/" + ETAG, Whole()), ("Mon, 01 Jan", Whole())],
)
def test_a_range_of_another_version_is_not_given(text: str, choice: Choice) -> None:
    assert chosen(range="bytes=1-1", if_range=text) == choice


@pytest.mark.parametrize("text", [ETAG, "W/" + ETAG, f'"x", {ETAG}', "*"])
def test_who_has_it_does_not_get_it_again(text: str) -> None:
    assert (
        chosen(if_none_match=text) == chosen(if_none_match=text, range="bytes=1-") == NotModified()
    )


@pytest.mark.parametrize("text", ['"other"', "abc", '"abc', "", "x*"])
def test_who_has_something_else_gets_it(text: str) -> None:
    assert chosen(if_none_match=text) == Whole()


@given(st.text(st.characters(max_codepoint=255)), st.integers(0, 200))
def test_no_header_gets_bytes_that_are_not_there(text: str, size: int) -> None:
    for headers in ({"range": text}, {"range": "bytes=" + text}, {"if_none_match": text}):
        choice = chosen(size, **headers)
        if isinstance(choice, Part):
            assert 0 <= choice.start < choice.end <= size
