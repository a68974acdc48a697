import pytest

from tests.docs.expected import alike, pattern

SHOWN = "job 01M7YF3E12HZD2FM3MA5KBPYDW done\n...\nafter 1.9 s, ... tokens"


@pytest.mark.parametrize(
    ("printed", "same"),
    [
        ("job 01ZZZZZZZZZZZZZZZZZZZZZZZZ done\n1\n2\nafter 30 ms, 12 tokens\n", True),
        ("job  01ZZZZZZZZZZZZZZZZZZZZZZZZ done  \nafter 0 s, no tokens", True),
        ("job 01ZZZZZZZZZZZZZZZZZZZZZZZZ failed\nafter 2 s, 1 tokens", False),
        ("a job 01ZZZZZZZZZZZZZZZZZZZZZZZZ done\nafter 2 s, 1 tokens", False),
        ("job 01ZZZZZZZZZZZZZZZZZZZZZZZZ done\nafter 2 s, 1\n tokens", False),
        ("job 01ZZZZZZZZZZZZZZZZZZZZZZZZ done\nafter 2 s, 1 tokens\nmore", False),
    ],
)
def test_output_is_what_a_page_shows_but_for_ids_times_and_dots(printed: str, same: bool) -> None:
    assert (pattern(SHOWN).fullmatch(alike(printed)) is not None) is same
