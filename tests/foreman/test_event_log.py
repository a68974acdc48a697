"""The log in the database: pages after a cursor, and that both halves of a filter agree."""

import logging
import sqlite3
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreman import names
from foreman.event_log import (
    SPAN,
    EventFilter,
    bounds,
    events_after,
    page_after,
    page_of_job,
)
from foreman.jobs import FailureCode, Fingerprint, JobClass, JobId, State
from foreman.migrations import apply
from foreman.rows import Event, NewJob
from foreman.schema import MIGRATIONS
from foreman.submitting import submit
from foreman.tables import Transaction, claim, fail, start

NOW = 1_800_000_000_000_000
EVERYTHING = EventFilter()
_ROW_OF_2 = f"UPDATE jobs SET priority = 9 WHERE id = '{2:026d}'"


@pytest.fixture
def tx() -> Iterator[Transaction]:
    connection = empty_database()
    yield Transaction(connection, NOW, 1)
    connection.close()


def empty_database() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    apply(connection, MIGRATIONS)
    connection.execute("PRAGMA foreign_keys = 1")
    return connection


def new(
    number: int,
    model: str = "m",
    job_class: JobClass = JobClass.BATCH,
    labels: dict[str, str] | None = None,
    owner: str = "",
) -> NewJob:
    return NewJob(
        id=job_id(number),
        job_class=job_class,
        endpoint="/api/chat",
        model=model,
        fingerprint=Fingerprint(names.key(model)),
        labels=labels or {},
        owner=owner,
    )


def job_id(number: int) -> JobId:
    return JobId(f"{number:026d}")


def seqs(events: list[Event]) -> list[int]:
    return [event.seq for event in events]


def test_events_come_in_order_after_the_cursor(tx: Transaction) -> None:
    for number in range(5):
        submit(tx, new(number))
    assert events_after(tx.connection, 0, limit=10) == tx.events
    assert seqs(events_after(tx.connection, 3, limit=10)) == [4, 5]
    assert seqs(events_after(tx.connection, 1, limit=2)) == [2, 3]
    assert seqs(events_after(tx.connection, 0, limit=10, upto=2)) == [1, 2]


def test_the_bounds_are_what_retention_took_and_what_was_given_out(tx: Transaction) -> None:
    submit(tx, new(1))
    tx.connection.execute("UPDATE store SET pruned_seq = 7, seq = 9")
    assert bounds(tx.connection) == (7, 9)


def test_a_page_says_how_far_it_looked(tx: Transaction) -> None:
    for number in range(SPAN + 10):
        submit(tx, new(number, "rare" if number == SPAN + 5 else "m"))
    rare = EventFilter(model=names.key("rare"))
    first = page_after(tx.connection, 0, limit=10, wanted=rare)
    assert (first.events, first.upto) == ([], SPAN)
    second = page_after(tx.connection, first.upto, limit=10, wanted=rare)
    assert [event.seq for event in second.events] == [SPAN + 6]
    assert second.upto == second.last_seq == SPAN + 10


def test_a_full_page_ends_with_its_last_event(tx: Transaction) -> None:
    for number in range(5):
        submit(tx, new(number))
    assert page_after(tx.connection, 0, limit=3, wanted=EVERYTHING).upto == 3


def test_a_job_is_found_in_one_look_however_long_the_log(tx: Transaction) -> None:
    ref = submit(tx, new(1))
    for number in range(2, SPAN + 10):
        submit(tx, new(number))
    claim(tx, ref, resident=True)
    page = page_of_job(tx.connection, ref.id, 0, limit=10)
    assert [event.n for event in page.events] == [1, 2]
    assert page.upto == page.last_seq


def test_a_jobs_log_is_whole_whatever_retention_took_of_others(tx: Transaction) -> None:
    ref = submit(tx, new(1))
    tx.connection.execute("UPDATE store SET pruned_seq = 1")
    assert page_of_job(tx.connection, ref.id, 0, limit=10).pruned_seq == 0


def test_a_job_that_retention_took_leaves_no_log_to_continue(tx: Transaction) -> None:
    submit(tx, new(1))
    page = page_of_job(tx.connection, job_id(2), 0, limit=10)
    assert page.pruned_seq > page.last_seq


def test_after_a_restore_a_cursor_that_is_no_event_of_the_job_is_no_cursor(tx: Transaction) -> None:
    """What the reader saw under that number may have been lost: it must look at the job."""
    ref = submit(tx, new(1))
    submit(tx, new(2))
    tx.connection.execute("UPDATE store SET seq = 9, pruned_seq = 9")  # as a restore leaves it
    ref = claim(tx, ref, resident=True)
    told = page_of_job(tx.connection, ref.id, 5, limit=10)
    assert (told.pruned_seq, told.last_seq) == (9, 10)
    assert page_of_job(tx.connection, ref.id, 1, limit=10).pruned_seq == 0
    assert page_of_job(tx.connection, ref.id, 10, limit=10).pruned_seq == 0


@pytest.mark.parametrize("damage", ["UPDATE events SET at = 1 WHERE seq = 2", _ROW_OF_2])
def test_what_is_damaged_is_left_out_and_named_in_the_log(
    tx: Transaction, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    for number in range(1, 5):
        submit(tx, new(number))
    tx.connection.execute(damage)
    with caplog.at_level(logging.ERROR):
        first = page_after(tx.connection, 0, limit=2, wanted=EVERYTHING)
    assert (seqs(list(first.events)), first.upto) == ([1], 2)
    assert "event 2" in caplog.text and "is damaged" in caplog.text
    second = page_after(tx.connection, first.upto, limit=9, wanted=EVERYTHING)
    assert seqs(list(second.events)) == [3, 4]


@pytest.mark.parametrize(
    "wanted",
    [
        EVERYTHING,
        EventFilter(states=frozenset({State.DONE}), label=("a", "x"), model=names.key("m")),
    ],
)
def test_the_outer_loop_is_over_the_numbers_of_the_events(
    tx: Transaction, wanted: EventFilter
) -> None:
    plan = explained(tx.connection, wanted)
    assert plan[0] == "SEARCH events USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"
    assert not any("TEMP B-TREE" in step for step in plan)


def test_a_job_is_found_by_its_own_index(tx: Transaction) -> None:
    plan = explained(tx.connection, EventFilter(job=job_id(1)))
    assert plan[0].startswith("SEARCH events USING INDEX events_of_job (job=?")
    assert not any("TEMP B-TREE" in step for step in plan)


def explained(connection: sqlite3.Connection, wanted: EventFilter) -> list[str]:
    """The plan of what `events_after` asks."""
    asked: list[str] = []
    connection.set_trace_callback(asked.append)
    events_after(connection, 0, limit=1, wanted=wanted, upto=9)
    connection.set_trace_callback(None)
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {asked[0]}").fetchall()]


MODELS = ("m", "M:latest", "other", "library/m:latest")
LABELS = st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from(["x", "y", ""]))
JOBS = st.builds(
    new,
    number=st.just(0),
    model=st.sampled_from(MODELS),
    job_class=st.sampled_from(list(JobClass)),
    labels=LABELS,
    owner=st.sampled_from(["", "ann", "bob"]),
)
FILTERS = st.builds(
    EventFilter,
    job=st.none() | st.integers(0, 4).map(job_id),
    states=st.none() | st.frozensets(st.sampled_from(list(State))),
    model=st.none() | st.sampled_from(MODELS).map(names.key),
    label=st.none() | st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(["x", "y", ""])),
    job_class=st.none() | st.sampled_from(list(JobClass)),
    owner=st.none() | st.sampled_from(["", "ann", "bob"]),
)


@given(jobs=st.lists(st.tuples(JOBS, st.integers(0, 3)), max_size=5), wanted=FILTERS)
def test_the_database_finds_exactly_what_the_filter_matches(
    jobs: list[tuple[NewJob, int]], wanted: EventFilter
) -> None:
    """C59: a replay and the live stream hold the same events, so one can follow the other."""
    connection = empty_database()
    tx = Transaction(connection, NOW, 1)
    for number, (job, steps) in enumerate(jobs):
        live(tx, replace(job, id=job_id(number)), steps)
    found = events_after(connection, 0, limit=1000, wanted=wanted)
    assert found == [event for event in tx.events if wanted.matches(event)]
    connection.close()


def live(tx: Transaction, job: NewJob, steps: int) -> None:
    """Submit a job and take it so many steps."""
    ref = submit(tx, job)
    if steps > 0:
        ref = claim(tx, ref, resident=False)
    if steps > 1:
        ref = start(tx, ref, load_s=1.0)
    if steps > 2:
        fail(tx, ref, FailureCode.TARGET_ERROR, "it broke")
