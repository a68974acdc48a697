"""The rows and their event log: every transition, every question, and what must always hold."""

import re
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foreman.errors import KeyReused, QueueFull, StaleJob, StoreError, StoreFull
from foreman.jobs import TRANSITIONS, FailureCode, Fingerprint, JobClass, JobId, Requeue, State
from foreman.migrations import apply
from foreman.schema import MIGRATIONS
from foreman.tables import (
    Accepted,
    DamagedJob,
    Event,
    Idempotency,
    JobRef,
    JobRow,
    NewJob,
    Recovered,
    Result,
    Transaction,
    check,
    claim,
    events_of,
    fail,
    finish,
    fold,
    get_job,
    get_request,
    get_result,
    jobs_ahead,
    lane_counts,
    lane_heads,
    list_jobs,
    queued_total,
    recover,
    requeue,
    start,
    submit,
    submit_once,
)

NOW = 1_800_000_000_000_000


def empty_database() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    apply(connection, MIGRATIONS)
    connection.execute("PRAGMA foreign_keys = 1")
    return connection


@pytest.fixture
def tx() -> Iterator[Transaction]:
    connection = empty_database()
    yield Transaction(connection, NOW, 1)
    connection.close()


def new(
    number: int,
    model: str = "m",
    job_class: JobClass = JobClass.BATCH,
    priority: int = 0,
    labels: dict[str, str] | None = None,
) -> NewJob:
    return NewJob(
        id=JobId(f"{number:026d}"),
        job_class=job_class,
        endpoint="/api/chat",
        model=model,
        fingerprint=Fingerprint(model),
        request=b'{"model":"m"}' if job_class is JobClass.BATCH else None,
        priority=priority,
        labels=labels or {},
    )


def working(tx: Transaction, job: NewJob) -> JobRef:
    return start(tx, claim(tx, submit(tx, job), resident=False), load_s=1.5)


def row(tx: Transaction, ref: JobRef) -> JobRow:
    found = get_job(tx.connection, ref.id)
    assert found is not None
    return found


def test_a_job_that_succeeds_leaves_four_events_that_fold_into_its_row(tx: Transaction) -> None:
    ref = finish(tx, working(tx, new(1)), tokens_in=3, tokens_out=5)
    job, events = row(tx, ref), events_of(tx.connection, ref.id)
    assert [event.state for event in events] == ["queued", "loading", "working", "done"]
    assert [(event.n, event.previous_seq) for event in events] == [(1, 0), (2, 1), (3, 2), (4, 3)]
    assert fold(job, events) == job
    assert (job.load_s, job.resident, job.tokens_in, job.tokens_out) == (1.5, False, 3, 5)
    assert events == tx.events


def test_every_transition_makes_the_reference_that_was_predicted(tx: Transaction) -> None:
    queued = submit(tx, new(1))
    assert claim(tx, queued, resident=True) == queued.then(State.LOADING)


def test_a_prediction_across_boots_needs_the_epoch(tx: Transaction) -> None:
    queued = submit(tx, new(1))
    tx.epoch = 2
    assert claim(tx, queued, resident=True) == queued.then(State.LOADING, epoch=2)


def test_a_stale_reference_changes_nothing(tx: Transaction) -> None:
    queued = submit(tx, new(1))
    claim(tx, queued, resident=True)
    with pytest.raises(StaleJob):
        claim(tx, queued, resident=True)
    with pytest.raises(StaleJob):
        fail(tx, JobRef(JobId("nobody"), State.QUEUED, 1, 1), FailureCode.CANCELLED, "")
    assert len(tx.events) == 2
    assert check(tx.connection) == []


@pytest.mark.parametrize("field", ["state", "epoch", "version"])
def test_each_part_of_the_guard_guards(tx: Transaction, field: str) -> None:
    ref = claim(tx, submit(tx, new(1)), resident=True)
    wrong = {
        "state": JobRef(ref.id, State.WORKING, ref.epoch, ref.version),
        "epoch": JobRef(ref.id, ref.state, ref.epoch + 1, ref.version),
        "version": JobRef(ref.id, ref.state, ref.epoch, ref.version + 1),
    }
    with pytest.raises(StaleJob):
        fail(tx, wrong[field], FailureCode.CANCELLED, "")


def test_an_impossible_transition_is_refused_before_the_database_is_asked(tx: Transaction) -> None:
    with pytest.raises(ValueError, match="from queued to done"):
        finish(tx, submit(tx, new(1)))


def test_a_full_queue_refuses_batch_jobs_only(tx: Transaction) -> None:
    submit(tx, new(1), 1)
    with pytest.raises(QueueFull):
        submit(tx, new(2), 1)
    submit(tx, new(3, job_class=JobClass.INTERACTIVE), 1)
    assert queued_total(tx.connection) == 1


def test_a_claimed_job_makes_room_in_the_queue(tx: Transaction) -> None:
    claim(tx, submit(tx, new(1), 1), resident=True)
    submit(tx, new(2), 1)
    assert queued_total(tx.connection) == 1


def test_an_almost_full_disk_refuses_batch_jobs_only(tx: Transaction) -> None:
    tx.low_disk = True
    with pytest.raises(StoreFull):
        submit(tx, new(1))
    submit(tx, new(2, job_class=JobClass.INTERACTIVE))


def test_only_a_retry_charges_an_attempt(tx: Transaction) -> None:
    ref = working(tx, new(1))
    for reason in (Requeue.SHUTDOWN, Requeue.TARGET_LOST, Requeue.RESTART, Requeue.RETRY):
        ref = requeue(tx, ref, reason, message="500 from the target")
        ref = claim(tx, ref, resident=True)
    assert [e.attempt for e in tx.events] == [1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2]


def test_a_requeued_job_forgets_its_claim_and_keeps_its_reason(tx: Transaction) -> None:
    ref = requeue(tx, working(tx, new(1)), Requeue.TARGET_LOST, not_before_us=NOW + 5)
    job = row(tx, ref)
    assert (job.claimed_at, job.working_at, job.load_s) == (None, None, None)
    assert (job.reason, job.not_before) == ("target_lost", NOW + 5)


def test_a_failure_keeps_its_code_and_its_sentence(tx: Transaction) -> None:
    ref = fail(tx, submit(tx, new(1)), FailureCode.CANCELLED, "asked for")
    job = row(tx, ref)
    assert (job.state, job.error_code, job.error_message) == ("failed", "cancelled", "asked for")


def test_request_and_result_come_back_as_they_were_stored(tx: Transaction) -> None:
    result = Result(200, "application/json", b"\x00\xff")
    ref = finish(tx, working(tx, new(1)), result=result)
    assert get_request(tx.connection, ref.id) == b'{"model":"m"}'
    assert get_result(tx.connection, ref.id) == result


def test_an_interactive_job_has_no_stored_body(tx: Transaction) -> None:
    ref = submit(tx, new(1, job_class=JobClass.INTERACTIVE))
    with pytest.raises(StoreError, match="no row in requests"):
        get_request(tx.connection, ref.id)


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(-1, 1)), min_size=1, max_size=12),
    st.sampled_from(["", "a", "b"]),
)
def test_the_jobs_ahead_are_those_that_would_run_before(
    jobs: list[tuple[str, int]], resident: str
) -> None:
    """Lanes by their oldest job, the resident one first; in a lane by priority, then by age."""
    tx = Transaction(empty_database(), NOW, 1)
    for number, (model, priority) in enumerate(jobs):
        tx.now = NOW + number
        submit(tx, new(number, model=model, priority=priority))
    rows = sorted(listed(tx), key=lambda row: row.id)
    oldest = {row.model_key: row.submitted_at for row in reversed(rows)}
    order = sorted(
        rows,
        key=lambda row: (
            row.model_key != resident,
            oldest[row.model_key],
            -row.priority,
            row.id,
        ),
    )

    def ahead(row: JobRow, counted: int = -1) -> int:
        is_resident = [each.fingerprint for each in rows if each.model_key == resident].__contains__
        return jobs_ahead(tx.connection, row, is_resident, counted=counted)

    assert [ahead(row) for row in order] == list(range(len(order)))
    for row in order:
        roughly = ahead(row, counted=2)
        assert roughly >= ahead(row)
        in_lane = [each for each in order if each.model_key == row.model_key]
        near = min(in_lane.index(row), len(in_lane) - 1 - in_lane.index(row)) < 2
        assert roughly == ahead(row) or not near


def test_one_idempotency_key_is_one_job(tx: Transaction) -> None:
    once = Idempotency("k", b"hash")
    first = submit_once(tx, replace(new(1), owner="alice", idempotency=once))
    other = submit_once(tx, replace(new(2), owner="bob", idempotency=once))
    again = submit_once(tx, replace(new(3), owner="alice", idempotency=once))
    assert (first.anew, other.anew, again.anew) == (True, True, False)
    assert again.row == first.row


def test_an_idempotency_key_with_another_body_is_refused(tx: Transaction) -> None:
    submit_once(tx, replace(new(1), idempotency=Idempotency("k", b"hash")))
    with pytest.raises(KeyReused):
        submit_once(tx, replace(new(2), idempotency=Idempotency("k", b"other")))


def test_a_key_finds_its_job_also_when_the_queue_is_full(tx: Transaction) -> None:
    keyed = replace(new(1), idempotency=Idempotency("k", b"hash"))
    first = submit_once(tx, keyed, 1)
    assert submit_once(tx, replace(keyed, id=new(2).id), 1) == Accepted(first.row, anew=False)


def test_the_published_event_is_flat_and_in_utc(tx: Transaction) -> None:
    ref = requeue(tx, working(tx, new(1, labels={"team": "ä"})), Requeue.RETRY, message="500")
    assert msgspec.json.decode(events_of(tx.connection, ref.id)[-1].to_json()) == {
        "seq": 4,
        "n": 4,
        "previous_seq": 3,
        "job": ref.id,
        "type": "job.queued",
        "state": "queued",
        "attempt": 2,
        "at": "2027-01-15T08:00:00Z",
        "model": "m",
        "class": "batch",
        "labels": {"team": "ä"},
        "reason": "retry",
        "message": "500",
    }


def test_a_lane_runs_by_priority_and_then_by_arrival(tx: Transaction) -> None:
    for number, priority in ((1, 0), (2, 5), (3, 5), (4, -1)):
        submit(tx, new(number, priority=priority))
    order = []
    while heads := lane_heads(tx.connection, NOW):
        order.append(int(heads[0].job_id))
        claim(tx, heads[0].ref, resident=True)
    assert order == [2, 3, 1, 4]


def test_a_requeued_job_is_the_head_of_its_lane_again(tx: Transaction) -> None:
    first = claim(tx, submit(tx, new(1)), resident=True)
    submit(tx, new(2))
    requeue(tx, first, Requeue.SHUTDOWN)
    assert [head.job_id for head in lane_heads(tx.connection, NOW)] == [first.id]


def test_a_job_that_backs_off_is_passed_until_it_is_due(tx: Transaction) -> None:
    first = claim(tx, submit(tx, new(1)), resident=True)
    second = submit(tx, new(2))
    requeue(tx, first, Requeue.RETRY, not_before_us=NOW + 10)
    assert [head.ref for head in lane_heads(tx.connection, NOW)] == [second]
    assert [head.job_id for head in lane_heads(tx.connection, NOW + 10)] == [first.id]


def test_a_lane_where_nothing_is_due_shows_what_will_be_first(tx: Transaction) -> None:
    for number, due in ((1, 30), (2, 10)):
        ref = claim(tx, submit(tx, new(number)), resident=True)
        requeue(tx, ref, Requeue.RETRY, not_before_us=NOW + due)
    [head] = lane_heads(tx.connection, NOW)
    assert (int(head.job_id), head.not_before) == (2, NOW + 10)


def test_interactive_jobs_are_in_no_lane(tx: Transaction) -> None:
    submit(tx, new(1, job_class=JobClass.INTERACTIVE))
    assert lane_heads(tx.connection, NOW) == []
    assert lane_counts(tx.connection) == []


def test_the_choice_among_lanes_reads_the_index_and_not_the_queue(tx: Transaction) -> None:
    for number in range(2_000):
        submit(tx, new(number, model=f"m{number % 3}"))
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    tx.connection.set_progress_handler(count, 10)
    assert len(lane_heads(tx.connection, NOW)) == 3
    assert steps < 30  # x 10 instructions; a scan of one lane alone takes thousands


def listed(tx: Transaction, **filters: Any) -> list[JobRow]:
    """The jobs of a listing that has no damaged ones."""
    found = list_jobs(tx.connection, **filters)
    jobs = [job for job in found if isinstance(job, JobRow)]
    assert len(jobs) == len(found)
    return jobs


def test_a_damaged_job_is_listed_as_such_beside_the_others(tx: Transaction) -> None:
    for number in range(3):
        submit(tx, new(number))
    tx.connection.execute("UPDATE jobs SET priority = 1 WHERE id = ?", (f"{1:026d}",))
    newest, hit, oldest = list_jobs(tx.connection)
    assert isinstance(newest, JobRow) and isinstance(oldest, JobRow)
    assert hit == DamagedJob(
        JobId(f"{1:026d}"),
        f"the row of job {1:026d} is damaged: its checksum does not match",
    )


def test_listing_filters_and_pages_newest_first(tx: Transaction) -> None:
    for number in range(10):
        submit(tx, new(number, model="a" if number % 2 else "b", labels={"k": str(number % 3)}))
    fail(tx, JobRef(JobId(f"{9:026d}"), State.QUEUED, 1, 1), FailureCode.CANCELLED, "")

    def ids(**filters: Any) -> list[int]:
        return [int(job.id) for job in listed(tx, **filters)]

    assert ids(limit=3) == [9, 8, 7]
    assert ids(limit=3, before=JobId(f"{7:026d}")) == [6, 5, 4]
    assert ids(state=State.FAILED) == [9]
    assert ids(model="a", label=("k", "1")) == [7, 1]
    assert ids(job_class=JobClass.INTERACTIVE) == []


def test_a_start_requeues_batch_and_fails_interactive_jobs_of_older_boots(tx: Transaction) -> None:
    batch = working(tx, new(1))
    running = working(tx, new(2, job_class=JobClass.INTERACTIVE))
    waiting = submit(tx, new(3, job_class=JobClass.INTERACTIVE))
    tx.epoch = 2
    assert recover(tx) == Recovered(requeued=1, interrupted=2)
    states = [row(tx, ref).state for ref in (batch, running, waiting)]
    assert states == ["queued", "failed", "failed"]
    assert recover(tx) == Recovered()


def test_recovery_leaves_the_jobs_of_this_boot_alone(tx: Transaction) -> None:
    working(tx, new(1))
    submit(tx, new(2, job_class=JobClass.INTERACTIVE))
    assert recover(tx) == Recovered()


def test_the_third_death_over_one_job_fails_it_as_a_crash_loop(tx: Transaction) -> None:
    ref = submit(tx, new(1))
    for _ in range(3):
        claim(tx, row(tx, ref).ref, resident=True)
        tx.epoch += 1
        last = recover(tx)
    job = row(tx, ref)
    assert last == Recovered(crash_loops=1)
    assert (job.state, job.error_code, job.crashes, job.attempt) == ("failed", "crash_loop", 3, 1)


@pytest.mark.parametrize(
    ("damage", "finding"),
    [
        ("UPDATE jobs SET priority = 1", "row of job .* is damaged"),
        ("UPDATE events SET at = at + 1", "event 4 is damaged"),
        ("DELETE FROM events WHERE n = 2", "is not 1..3 without gaps"),
        ("UPDATE store SET queued = 7", "store counts 7 waiting jobs"),
        ("UPDATE lanes SET queued = 7", "lane m {} counts 7 waiting jobs and has 1"),
        ("DELETE FROM lanes", "lane m {} counts 0 waiting jobs and has 1"),
        ("INSERT INTO lanes VALUES ('x', '{}', 1)", "lane x {} counts 1 waiting jobs and has 0"),
        ("UPDATE store SET seq = 1", "only 1 were given out"),
    ],
)
def test_a_damaged_store_is_described_in_words(tx: Transaction, damage: str, finding: str) -> None:
    working(tx, new(1))
    submit(tx, new(2))
    assert check(tx.connection) == []
    tx.connection.execute(damage)
    assert any(re.search(finding, line) for line in check(tx.connection))


def test_a_damaged_body_is_not_handed_out(tx: Transaction) -> None:
    ref = submit(tx, new(1))
    tx.connection.execute("UPDATE requests SET body = x'00'")
    with pytest.raises(StoreError, match="in requests is damaged"):
        get_request(tx.connection, ref.id)


class Model:
    """Random writes, some of them illegal or stale, and what they must leave behind."""

    def __init__(self) -> None:
        self.tx = Transaction(empty_database(), NOW, 1)
        self.refs: list[JobRef] = []

    def submit(self, batch: bool) -> None:
        job_class = JobClass.BATCH if batch else JobClass.INTERACTIVE
        self.refs.append(submit(self.tx, new(len(self.refs), f"m{len(self.refs) % 3}", job_class)))

    def move(self, which: int, to: State, reason: Requeue) -> None:
        index = which % len(self.refs)
        ref = self.refs[index]
        if to not in TRANSITIONS[ref.state]:
            return
        self.refs[index] = {
            State.LOADING: lambda: claim(self.tx, ref, resident=which % 2 == 0),
            State.WORKING: lambda: start(self.tx, ref, load_s=which / 7),
            State.QUEUED: lambda: requeue(self.tx, ref, reason, not_before_us=NOW + which),
            State.DONE: lambda: finish(self.tx, ref, tokens_out=which, incomplete=which % 3 == 0),
            State.FAILED: lambda: fail(self.tx, ref, FailureCode.GARBLED, "ä"),
        }[to]()

    def restart(self) -> None:
        self.tx.epoch += 1
        recover(self.tx)
        rows = [get_job(self.tx.connection, ref.id) for ref in self.refs]
        self.refs = [found.ref for found in rows if found]


_MOVES = st.one_of(
    st.tuples(st.just("submit"), st.booleans()),
    st.tuples(
        st.just("move"), st.integers(0, 50), st.sampled_from(State), st.sampled_from(Requeue)
    ),
    st.tuples(st.just("restart")),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(_MOVES, min_size=5, max_size=60))
def test_whatever_happens_the_invariants_hold(moves: list[tuple[object, ...]]) -> None:
    model = Model()
    model.submit(batch=True)
    for name, *arguments in moves:
        getattr(model, str(name))(*arguments)
    connection = model.tx.connection
    assert check(connection, None) == []
    seqs = [seq for (seq,) in connection.execute("SELECT seq FROM events ORDER BY seq")]
    assert seqs == list(range(1, len(seqs) + 1))
    assert [event.seq for event in model.tx.events] == seqs
    for ref in model.refs:
        found = get_job(connection, ref.id)
        assert found is not None and found.ref == ref
    _every_path_is_legal(model.tx.events)


def _every_path_is_legal(events: list[Event]) -> None:
    last: dict[str, State] = {}
    for event in events:
        if event.n > 1:
            assert event.state in TRANSITIONS[last[event.job]]
        last[event.job] = event.state
