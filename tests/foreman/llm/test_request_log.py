import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import anyio
import pytest

from foreman.llm import Exhausted, Request
from foreman.llm.chain import Chain
from foreman.llm.cost import Cost, PriceTable
from foreman.llm.health import Breaking, Health
from foreman.llm.log_queries import LogReader
from foreman.llm.log_schema import create
from foreman.llm.observed import Observed
from foreman.llm.prices import Rates
from foreman.llm.providers.fake import FakeProvider, Say, Status
from foreman.llm.record import Outcome, Record
from foreman.llm.request_log import LONGEST, RequestLog
from foreman.llm.usage import Usage

REQUEST = Request.of("Hi")


def record(number: int = 0, **fields: object) -> Record:
    given = {"asked": "a/m", "target": "a/m", "outcome": Outcome.ANSWERED, "streamed": False}
    return Record(id=f"{number:04d}", at=float(number), **given | fields)  # type: ignore[arg-type]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Nobody else can write."""
    with closing(create(path)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.rollback()


async def test_what_was_asked_stands_in_the_log(tmp_path: Path) -> None:
    fake = FakeProvider(models={"a": [Status(503)], "b": [Say(reported_cost=0.5)]})
    chain = Chain([fake.model("a"), fake.model("b")], health=Health(Breaking(threshold=1)))
    prices = PriceTable({"fake": Rates(input=1e6, output=2e6)})

    with RequestLog(tmp_path / "new" / "llm.db") as log:
        await Observed(chain, log.write, prices=prices).complete(REQUEST)
        await anyio.to_thread.run_sync(log.close)

    [entry] = LogReader(tmp_path / "new" / "llm.db").requests().entries
    assert (entry.id, entry.asked) == (REQUEST.id, "fake/a, fake/b")
    assert (entry.provider, entry.model, entry.outcome) == ("fake", "b", "answered")
    assert (entry.input, entry.cache_read, entry.cache_write, entry.output) == (10, 0, 0, 15)
    assert (entry.cost, entry.unit, entry.reported_cost) == (40.0, "USD", 0.5)
    assert entry.latency_ms is not None
    assert [(step.target, step.called) for step in entry.steps] == [("fake/a", True)]
    assert "scripted failure" in entry.steps[0].reason


async def test_requests_that_failed_are_in_it_too(tmp_path: Path) -> None:
    health = Health(Breaking(threshold=1))
    chain = Chain([FakeProvider(otherwise=Status(503)).model("a")], health=health)

    with RequestLog(tmp_path / "llm.db") as log:
        model = Observed(chain, log.write)
        for _ in range(2):
            with pytest.raises(Exhausted):
                await model.complete(Request.of("Hi"))

    refused, failed = LogReader(tmp_path / "llm.db").requests().entries
    assert [failed.success, refused.success] == [False, False]
    assert (failed.input, failed.cost, failed.latency_ms) == (None, None, None)
    assert failed.code == refused.code == "PROVIDER_NOT_AVAILABLE"
    assert [(step.called, step.reason) for step in refused.steps] == [(False, "cooling down")]


def test_a_log_goes_on_where_it_ended(tmp_path: Path) -> None:
    for number in range(3):
        with RequestLog(tmp_path / "llm.db") as log:
            log.write(record(number))

    assert LogReader(tmp_path / "llm.db").requests().total == 3


def test_a_request_has_one_row_however_often_it_is_written(tmp_path: Path) -> None:
    with RequestLog(tmp_path / "llm.db") as log:
        log.write(record(outcome=Outcome.FAILED))
        log.write(record(error="x" * 9999))

    [entry] = LogReader(tmp_path / "llm.db").requests().entries
    assert (entry.outcome, len(entry.error)) == ("answered", LONGEST)


def test_the_newest_requests_are_kept(tmp_path: Path) -> None:
    for half in range(2):
        with RequestLog(tmp_path / "llm.db", keep=10) as log:
            for number in range(half * 10, half * 10 + 10):
                log.write(record(number))

    page = LogReader(tmp_path / "llm.db").requests(per_page=100)
    assert [entry.at for entry in page.entries] == [n * 1_000_000 for n in range(19, 9, -1)]


def test_a_log_that_cannot_keep_up_leaves_records_out_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), locked(tmp_path / "llm.db"):
        log = RequestLog(tmp_path / "llm.db", ahead=4)
        for number in range(50):
            log.write(record(number))
    log.close()

    page = LogReader(tmp_path / "llm.db").requests()
    assert log.lost >= 45
    assert page.total == 50 - log.lost > 0
    assert caplog.text.count("a request is not logged: 4 others wait to be written") == 1


@pytest.mark.parametrize("trouble", ["a folder", "a foreign database", "no database", "the future"])
def test_a_file_that_is_no_log_of_ours_costs_the_log_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, trouble: str
) -> None:
    path = tmp_path / "llm.db"
    match trouble:
        case "a folder":
            path.mkdir()
        case "no database":
            path.write_bytes(b"text" * 1000)
        case _:
            if trouble == "the future":
                create(path).close()
            with closing(sqlite3.connect(path)) as connection:
                connection.execute("CREATE TABLE theirs (x)")
                connection.execute("PRAGMA user_version = 99")
    before = path.read_bytes() if path.is_file() else b""

    with caplog.at_level(logging.WARNING), RequestLog(path) as log:
        for number in range(3):
            log.write(record(number))

    assert log.lost == 3
    assert caplog.text.count("requests are not logged") == 1
    assert path.is_dir() or path.read_bytes() == before


def test_a_value_that_sqlite_cannot_hold_costs_its_batch_alone(tmp_path: Path) -> None:
    with RequestLog(tmp_path / "llm.db") as log:
        log.write(record(1, usage=Usage(input=2**70)))
    with log:
        log.write(record(2))

    assert log.lost == 2
    with RequestLog(tmp_path / "llm.db") as again:
        again.write(record(3, cost=Cost(1.0)))
    assert [each.id for each in LogReader(tmp_path / "llm.db").requests().entries] == ["0003"]


def test_nothing_is_opened_before_the_first_request(tmp_path: Path) -> None:
    with RequestLog(tmp_path / "llm.db") as log:
        pass
    log.close()

    assert not (tmp_path / "llm.db").exists()
