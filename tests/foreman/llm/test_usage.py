import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreman.llm import Usage

counts = st.none() | st.integers(min_value=0, max_value=10**9)
usages = st.builds(Usage, input=counts, cache_read=counts, cache_write=counts, output=counts)


@pytest.mark.parametrize(
    ("usage", "total"),
    [
        (Usage.uncached(input=10, output=15), 25),
        (Usage(input=100, output=50, cache_read=500, cache_write=100), 750),
        (Usage(input=1000, output=500, cache_read=100, cache_write=200), 1800),
        (Usage(input=3000, output=1500, cache_read=550, cache_write=275), 5325),
        (Usage.none(), 0),
    ],
)
def test_the_total_is_the_sum_of_the_four_parts(usage: Usage, total: int) -> None:
    assert usage.total == total


def test_three_calls_add_up() -> None:
    calls = [Usage.uncached(input=i, output=o) for i, o in ((50, 25), (100, 50), (150, 75))]

    assert sum(calls, Usage.none()) == Usage.uncached(input=300, output=150)


@pytest.mark.parametrize("part", ["input", "cache_read", "cache_write", "output"])
def test_unknown_is_not_zero(part: str) -> None:
    known = {"input": 1, "cache_read": 2, "cache_write": 3, "output": 4, part: None}
    usage = Usage(**known)

    assert usage.total is None
    assert (usage + Usage.none()).total is None
    assert getattr(usage + Usage.none(), part) is None


def test_nothing_said_is_nothing_known() -> None:
    assert Usage().parts == (None, None, None, None)
    assert Usage().prompt is None


def test_a_part_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="below 0"):
        Usage(input=-1)


def test_what_came_from_the_cache_is_taken_out_of_a_prompt_that_includes_it() -> None:
    usage = Usage.including_cache(prompt=1000, cache_read=768, output=10)

    assert usage.parts == (232, 768, 0, 10)
    assert usage.prompt == 1000


def test_a_cache_unheard_of_leaves_the_fresh_part_unknown() -> None:
    usage = Usage.including_cache(prompt=1000, cache_read=None, output=10)

    assert usage.parts == (None, None, 0, 10)


def test_cumulative_reports_are_merged_and_not_added() -> None:
    start = Usage(input=200, cache_read=1000, cache_write=200, output=1)

    assert start.updated(Usage(output=30)).parts == (200, 1000, 200, 30)


@given(usages, usages, usages)
def test_addition_is_commutative_and_associative(one: Usage, two: Usage, three: Usage) -> None:
    assert one + two == two + one
    assert (one + two) + three == one + (two + three)


@given(usages)
def test_none_is_neutral(usage: Usage) -> None:
    assert usage + Usage.none() == usage


@given(usages, usages)
def test_totals_add_as_their_parts_do(one: Usage, two: Usage) -> None:
    known = one.total is not None and two.total is not None

    assert (one + two).total == ((one.total or 0) + (two.total or 0) if known else None)


@given(usages)
def test_a_later_report_that_knows_nothing_changes_nothing(usage: Usage) -> None:
    assert usage.updated(Usage()) == usage
