import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from foreman.llm.cost import Cost
from foreman.llm.log_queries import LogReader, NotInLog
from foreman.llm.log_schema import LogUnusable
from foreman.llm.log_views import Span, Stats, Totals, span
from foreman.llm.record import Outcome, Record
from foreman.llm.request_log import RequestLog
from foreman.llm.usage import Usage

NOW = 1_800_000_000.0
DAY = 86_400.0


def record(number: int, ago: float, cost: float | None, **fields: object) -> Record:
    given: dict[str, object] = {
        "asked": "a/GPT-4o",
        "target": "a/GPT-4o",
        "outcome": Outcome.ANSWERED,
        "streamed": False,
        "cost": None if cost is None else Cost(cost, "sats"),
    }
    return Record(id=str(number), at=NOW - ago, **given | fields)  # type: ignore[arg-type]


FOUR = (
    record(1, 60, 10.0, usage=Usage.uncached(input=100, output=200), latency=0.1, tier="local"),
    record(
        2, 3600 * 5, 20.0, usage=Usage.uncached(input=150, output=300), latency=0.3, streamed=True
    ),
    record(3, DAY * 2, None, outcome=Outcome.FAILED, target="b/llama", error="no"),
    record(4, DAY * 20, 5.0, usage=Usage(output=7), latency=0.2),
)


@pytest.fixture(name="reader")
def _reader(tmp_path: Path) -> LogReader:
    with RequestLog(tmp_path / "llm.db") as log:
        for each in FOUR:
            log.write(each)
    return LogReader(tmp_path / "llm.db", known=("idle-model",))


def stats(reader: LogReader, preset: str = "last_7d", **options: object) -> Stats:
    return reader.stats(span(preset, now=NOW), **options)  # type: ignore[arg-type]


def test_the_figures_of_a_week(reader: LogReader) -> None:
    found = stats(reader)

    totals = found.totals
    assert (totals.requests, totals.answered, totals.failed, totals.streamed) == (3, 2, 1, 1)
    assert (totals.costs, totals.input, totals.output) == ({"sats": 30.0}, 250, 500)
    assert (totals.unreported, totals.unpriced) == (0, 0)
    assert totals.success_rate == pytest.approx(200 / 3)
    assert (found.p50_ms, found.p95_ms, totals.average_latency_ms) == (100, 300, 200)
    assert not found.empty


def test_the_figures_of_a_month(reader: LogReader) -> None:
    totals = stats(reader, "last_30d").totals

    assert (totals.requests, totals.costs) == (4, {"sats": 35.0})
    assert (totals.input, totals.output, totals.unreported) == (250, 507, 1)


@pytest.mark.parametrize(("preset", "count"), [("last_1h", 1), ("last_24h", 2), ("last_7d", 3)])
def test_a_range_reaches_back_from_now(reader: LogReader, preset: str, count: int) -> None:
    assert stats(reader, preset).totals.requests == count


def test_explicit_times_go_before_the_range(reader: LogReader) -> None:
    within = span("last_1h", since="2026-12-01", until="2026-12-31T00:00:00+00:00", now=NOW)

    assert reader.stats(within).totals.requests == 1
    assert within == Span(1_796_083_200_000_000, 1_798_675_200_000_000)


def test_a_time_without_requests_has_zeros_and_says_so(reader: LogReader) -> None:
    found = reader.stats(Span(0, 1))

    assert found == Stats(
        since=0, until=1, totals=Totals(), empty=True, message="no requests in this time"
    )
    assert found.totals.success_rate == 0.0


@pytest.mark.parametrize("model", ["gpt-4o", "GPT-4O", "GPT-4o"])
def test_a_model_is_found_in_any_case(reader: LogReader, model: str) -> None:
    assert stats(reader, model=model).totals.requests == 2
    assert reader.requests(model=model).total == 3


def test_a_name_that_nobody_knows_is_an_error_and_a_known_one_has_no_requests(
    reader: LogReader,
) -> None:
    with pytest.raises(NotInLog, match="there is no model 'zzz' in the log"):
        stats(reader, model="zzz")
    with pytest.raises(NotInLog, match="provider 'zzz'"):
        reader.requests(provider="zzz")
    assert stats(reader, model="Idle-Model").empty


def test_groups_have_figures_of_their_own_and_unused_ones_zeros(reader: LogReader) -> None:
    models = stats(reader, group_by="model", also=("idle",)).groups
    tiers = stats(reader, group_by="tier", also=("local", "frontier")).groups
    providers = stats(reader, group_by="provider").groups

    assert models["idle"] == Totals()
    assert (models["GPT-4o"].requests, models["GPT-4o"].costs) == (2, {"sats": 30.0})
    assert models["llama"].failed == 1
    assert {name: each.requests for name, each in tiers.items()} == {
        "local": 1,
        "frontier": 0,
        "unknown": 2,
    }
    assert {name: each.requests for name, each in providers.items()} == {"a": 2, "b": 1}


@pytest.mark.parametrize(
    "ask",
    [
        lambda reader: span("last_2d"),
        lambda reader: span(since="yesterday"),
        lambda reader: reader.stats(group_by="colour"),
        lambda reader: reader.requests(sort="colour"),
        lambda reader: reader.requests(order="up"),
        lambda reader: reader.requests(page=0),
        lambda reader: reader.requests(per_page=0),
    ],
)
def test_what_makes_no_sense_is_refused(
    reader: LogReader, ask: Callable[[LogReader], object]
) -> None:
    with pytest.raises(ValueError, match=r"range|isoformat|group by|sort by|pages"):
        ask(reader)


def ids(reader: LogReader, **options: object) -> list[str]:
    return [entry.id for entry in reader.requests(**options).entries]  # type: ignore[arg-type]


def test_requests_are_listed_newest_first_or_as_asked(reader: LogReader) -> None:
    assert ids(reader) == ["1", "2", "3", "4"]
    assert ids(reader, order="asc") == ["4", "3", "2", "1"]
    assert ids(reader, sort="cost") == ["2", "1", "4", "3"]
    assert ids(reader, sort="cost", order="asc") == ["4", "1", "2", "3"]
    assert ids(reader, sort="latency") == ["2", "4", "1", "3"]


def test_requests_are_filtered(reader: LogReader) -> None:
    assert ids(reader, success=False) == ["3"]
    assert ids(reader, success=True, streamed=False) == ["1", "4"]
    assert ids(reader, streamed=True) == ["2"]
    assert ids(reader, provider="B") == ["3"]


def test_pages_are_counted_and_one_beyond_the_end_is_empty(tmp_path: Path) -> None:
    with RequestLog(tmp_path / "llm.db") as log:
        for number in range(5):
            log.write(record(number, ago=number, cost=1.0))
    reader = LogReader(tmp_path / "llm.db")

    second = reader.requests(page=2, per_page=2)
    beyond = reader.requests(page=999, per_page=500)

    assert ([each.id for each in second.entries], second.pages, second.total) == (["2", "3"], 3, 5)
    assert (beyond.entries, beyond.total, beyond.per_page) == ((), 5, 100)


def test_the_newest_second_is_within_a_range_that_ends_now(tmp_path: Path) -> None:
    with RequestLog(tmp_path / "llm.db") as log:
        log.write(record(1, ago=0.0, cost=1.0))

    assert stats(LogReader(tmp_path / "llm.db"), "last_1h").totals.requests == 1


def test_a_log_can_be_read_while_it_is_written(tmp_path: Path) -> None:
    with RequestLog(tmp_path / "llm.db") as log:
        log.write(FOUR[0])
    with RequestLog(tmp_path / "llm.db") as log:
        log.write(FOUR[1])
        assert LogReader(tmp_path / "llm.db").requests().total in (1, 2)


def test_a_log_that_is_not_there_or_not_ours_says_so(tmp_path: Path) -> None:
    with pytest.raises(LogUnusable, match="there is no request log here"):
        LogReader(tmp_path / "none.db").requests()

    with closing(sqlite3.connect(tmp_path / "theirs.db")) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    with pytest.raises(LogUnusable, match="belongs to another program"):
        LogReader(tmp_path / "theirs.db").stats()
