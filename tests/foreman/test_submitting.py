"""Many jobs in one go are as many jobs one by one: numbered, counted, refused each for itself."""

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from foreman.errors import KeyReused, QueueFull, StoreError, StoreFull
from foreman.jobs import Fingerprint, JobClass, JobId, State
from foreman.migrations import apply
from foreman.rows import Event, Idempotency, JobRef, JobRow, NewJob
from foreman.schema import MIGRATIONS
from foreman.submitting import Accepted, submit, submit_each, submit_once, submit_running
from foreman.tables import check, events_of, get_request, lane_counts, list_jobs, queued_total
from foreman.transitions import Transaction, claim, claim_resident, start

NOW = 1_800_000_000_000_000


def transaction() -> Transaction:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    apply(connection, MIGRATIONS)
    connection.execute("PRAGMA foreign_keys = 1")
    return Transaction(connection, NOW, 1)


@pytest.fixture
def tx() -> Iterator[Transaction]:
    made = transaction()
    yield made
    made.connection.close()


def new(number: int, model: str = "m", key: str | None = None, body: bytes = b"{}") -> NewJob:
    return NewJob(
        id=JobId(f"{number:026d}"),
        job_class=JobClass.BATCH,
        endpoint="/api/chat",
        model=model,
        fingerprint=Fingerprint(model),
        request=body,
        labels={"number": str(number)},
        idempotency=None if key is None else Idempotency(key, body),
    )


def accepted(answer: Accepted | StoreError) -> Accepted:
    assert isinstance(answer, Accepted), answer
    return answer


def test_they_are_numbered_in_their_order_and_counted_by_lane(tx: Transaction) -> None:
    submit_once(tx, new(0))
    answers = submit_each(tx, [new(1, "a"), new(2, "b"), new(3, "a")])
    assert [accepted(each).row.last_seq for each in answers] == [2, 3, 4]
    assert [event.seq for event in tx.events] == [1, 2, 3, 4]
    assert {lane.fingerprint.model: lane.queued for lane in lane_counts(tx.connection)} == {
        "m": 1,
        "a": 2,
        "b": 1,
    }
    assert queued_total(tx.connection) == 4
    assert check(tx.connection) == []


def test_each_has_its_event_its_request_and_its_labels(tx: Transaction) -> None:
    submit_each(tx, [new(1, body=b'{"a": 1}'), new(2, body=b'{"b": 2}')])
    assert get_request(tx.connection, new(2).id) == b'{"b": 2}'
    assert [event.n for event in events_of(tx.connection, new(2).id)] == [1]
    [found] = list_jobs(tx.connection, label=("number", "2"))
    assert isinstance(found, JobRow)
    assert found.id == new(2).id


def test_a_key_that_comes_twice_in_one_go_makes_one_job(tx: Transaction) -> None:
    first, other, again = map(accepted, submit_each(tx, [new(1, key="k"), new(2), new(3, key="k")]))
    assert (first.anew, other.anew, again.anew) == (True, True, False)
    assert again.row == first.row
    assert queued_total(tx.connection) == 2
    assert check(tx.connection) == []


def test_a_key_of_another_owner_is_another_key(tx: Transaction) -> None:
    jobs = [replace(new(1, key="k"), owner="alice"), replace(new(2, key="k"), owner="bob")]
    assert all(accepted(each).anew for each in submit_each(tx, jobs))


def test_a_key_that_comes_back_with_another_body_is_refused_alone(tx: Transaction) -> None:
    jobs = [new(1, key="k"), new(2, key="k", body=b'{"other": 1}'), new(3)]
    first, refused, other = submit_each(tx, jobs)
    assert isinstance(refused, KeyReused)
    assert refused.job == accepted(first).row.id
    assert accepted(other).row.last_seq == 2


def test_the_last_places_of_the_queue_go_to_those_who_come_first(tx: Transaction) -> None:
    known = submit_once(tx, new(1, key="k"))
    answers = submit_each(tx, [new(2), new(3), new(4, key="k")], max_queue=2)
    assert accepted(answers[0]).anew
    assert isinstance(answers[1], QueueFull)
    assert answers[2] == Accepted(known.row, anew=False)
    assert queued_total(tx.connection) == 2


def test_on_a_full_disk_only_what_was_accepted_before_is_found(tx: Transaction) -> None:
    known = submit_once(tx, new(1, key="k"))
    tx.low_disk = True
    refused, found = submit_each(tx, [new(2), new(3, key="k")])
    assert isinstance(refused, StoreFull)
    assert found == Accepted(known.row, anew=False)
    assert [event.seq for event in tx.events] == [1]


def test_a_damaged_row_behind_a_key_concerns_that_key_alone(tx: Transaction) -> None:
    submit_once(tx, new(1, key="k"))
    tx.connection.execute("UPDATE jobs SET priority = 7")
    damaged, other = submit_each(tx, [new(2, key="k"), new(3)])
    assert isinstance(damaged, StoreError)
    assert accepted(other).anew


def test_none_at_all_take_no_number(tx: Transaction) -> None:
    assert submit_each(tx, []) == []
    assert tx.events == []
    assert submit_once(tx, new(1)).row.last_seq == 1


def by_steps(tx: Transaction, job: NewJob) -> JobRef:
    return start(tx, claim(tx, submit(tx, job), resident=True), load_s=None)


def claimed(tx: Transaction, job: NewJob) -> JobRef:
    return claim_resident(tx, submit(tx, job))


def left_by(run: Callable[[Transaction, NewJob], JobRef], job: NewJob) -> tuple[object, ...]:
    """All that is to be seen of a job that works."""
    tx = transaction()
    try:
        submit_once(tx, new(0))
        ref = run(tx, job)
        told: list[Event] = tx.events
        [row] = list_jobs(tx.connection, state=State.WORKING)
        assert check(tx.connection) == []
        return ref, row, told, events_of(tx.connection, job.id), lane_counts(tx.connection)
    finally:
        tx.connection.close()


@pytest.mark.parametrize("job_class", JobClass)
def test_steps_of_one_moment_leave_what_they_leave_one_by_one(job_class: JobClass) -> None:
    job = replace(new(1), job_class=job_class)
    assert left_by(claimed, job) == left_by(by_steps, job)


def test_a_call_that_runs_at_once_is_as_if_it_had_waited() -> None:
    call = replace(new(1), job_class=JobClass.INTERACTIVE, request=None, labels={})
    assert left_by(submit_running, call) == left_by(by_steps, call)
