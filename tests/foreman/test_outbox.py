"""The outbox: lines, attempts, breakers, dead letters, replays."""

import json
import random
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foreman import endpoints, ledger, outbox
from foreman.delivery import SCHEDULE, Attempt
from foreman.endpoints import LOST_TOO_LONG, SECOND
from foreman.errors import StoreError
from foreman.jobs import Fingerprint, JobClass, JobId
from foreman.ledger import Selection
from foreman.migrations import apply
from foreman.outbox import Message
from foreman.rows import moment
from foreman.schema import MIGRATIONS
from foreman.tables import JobRef, NewJob, Transaction, check, claim, finish, start, submit

NOW = 1_800_000_000_000_000
HOUR = 3600 * SECOND
URL = "https://receiver.example/hook"
OTHER = "https://other.example/"
EVERY = ("job.queued", "job.loading", "job.working", "job.done", "job.failed")


class Box:
    """A database with jobs in it; `now` moves by hand, jitter is none."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        apply(self.connection, MIGRATIONS)
        self.connection.execute("PRAGMA foreign_keys = 1")
        self.now = NOW
        self.jobs = 0

    @property
    def tx(self) -> Transaction:
        return Transaction(self.connection, self.now, 1)

    def submit(
        self, url: str | None = URL, events: Sequence[str] = EVERY, owner: str = ""
    ) -> JobRef:
        self.jobs += 1
        wanted = None if url is None else json.dumps({"url": url, "events": events})
        return submit(
            self.tx,
            NewJob(
                JobId(f"{self.jobs:026d}"),
                JobClass.BATCH,
                "/api/chat",
                "m",
                Fingerprint("m"),
                b"{}",
                webhook=wanted,
                owner=owner,
            ),
        )

    def run(self, ref: JobRef) -> None:
        """Queued to done: three more events."""
        ref = claim(self.tx, ref, resident=True)
        finish(self.tx, start(self.tx, ref, load_s=None))

    def turn(self, limit: int = 8, busy: Sequence[str] = ()) -> list[str]:
        return ledger.turn(self.connection, self.now, limit, busy).urls

    def take(self, url: str = URL) -> Message | None:
        return outbox.take(self.connection, url, self.now, middle)

    def taken(self, url: str = URL) -> Message:
        message = self.take(url)
        assert message is not None
        return message

    def record(self, message: Message, status: int | None = 200, **more: Any) -> str | None:
        attempt = Attempt(self.now, 0.1, status, **more)
        return outbox.record(self.connection, message.id, attempt, self.now, middle)

    def fail_for_good(self, url: str = URL) -> Message:
        """All the attempts at the next message."""
        while True:
            message = self.taken(url)
            state = self.record(message, 500)
            self.now += 40 * HOUR
            if state == "dead":
                return message

    def deliver_all(self, url: str = URL) -> list[Message]:
        delivered: list[Message] = []
        while message := self.take(url):
            assert self.record(message) == "delivered"
            delivered.append(message)
        return delivered

    def stored(self, message: Message) -> Message:
        found = outbox.get(self.connection, message.id)
        assert found is not None
        return found

    def states(self) -> list[str]:
        query = "SELECT state FROM outbox ORDER BY id"
        return [state for (state,) in self.connection.execute(query)]

    def endpoint(self, url: str = URL) -> ledger.Endpoint:
        [found] = ledger.list_endpoints(self.connection, url=url)
        return found

    def consistent(self) -> None:
        """Each line has one message with a due time, its first; the audit finds nothing."""
        assert [problem for problem in check(self.connection) if "damaged" not in problem] == []
        query = """SELECT job, endpoint, due_at IS NOT NULL FROM outbox WHERE state = 'pending'
            ORDER BY job, endpoint, seq"""
        heads: dict[tuple[str, str], list[int]] = {}
        for job, url, due in self.connection.execute(query):
            heads.setdefault((job, url), []).append(due)
        assert all(dues == [1] + [0] * (len(dues) - 1) for dues in heads.values()), heads
        settled = "SELECT count(*) FROM outbox WHERE state != 'pending' AND due_at IS NOT NULL"
        assert self.connection.execute(settled).fetchone() == (0,)


@pytest.fixture
def box() -> Iterator[Box]:
    made = Box()
    yield made
    made.consistent()
    made.connection.close()


def middle(least: float, most: float) -> float:
    return (least + most) / 2


def data(message: Message) -> Any:
    return json.loads(message.body)["data"]


# ---------------------------------------------------------------- what is stored


def test_a_job_without_a_webhook_posts_nothing(box: Box) -> None:
    tx = box.tx
    submit(tx, NewJob(JobId("x"), JobClass.BATCH, "/", "m", Fingerprint("m"), b"{}"))
    assert not tx.posted
    assert box.states() == []


def test_only_the_events_that_were_asked_for_are_posted(box: Box) -> None:
    box.run(box.submit(events=["job.working", "job.done"]))
    types = [json.loads(message.body)["type"] for message in box.deliver_all()]
    assert types == ["job.working", "job.done"]


def test_the_prompt_is_never_sent(box: Box) -> None:
    job = NewJob(
        JobId("1" * 26),
        JobClass.BATCH,
        "/api/chat",
        "m",
        Fingerprint("m"),
        b'{"prompt":"the secret"}',
        webhook=json.dumps({"url": URL, "events": EVERY}),
    )
    box.run(submit(box.tx, job))
    for message in box.deliver_all():
        assert b"secret" not in message.body


# ---------------------------------------------------------------- order


def test_a_line_is_sent_one_by_one_in_the_order_of_its_events(box: Box) -> None:
    box.run(box.submit())
    first = box.taken()
    assert box.take() is None  # the others wait for it
    assert box.record(first) == "delivered"
    following = box.deliver_all()
    seqs = [message.seq for message in [first, *following]]
    assert seqs == sorted(seqs)
    assert len(seqs) == 4


def test_a_line_that_fails_holds_up_no_other_line(box: Box) -> None:
    one, two = box.submit(), box.submit()
    assert box.record(box.taken(), 500) == "pending"
    box.run(one)
    box.run(two)
    assert {message.job for message in box.deliver_all()} == {two.id}


def test_a_message_whose_daemon_died_while_sending_is_tried_again(box: Box) -> None:
    """D71: the next try is on disk before this one is made."""
    box.submit()
    first = box.taken()
    assert box.take() is None
    box.now += 5 * SECOND
    again = box.taken()
    assert (again.id, again.body) == (first.id, first.body)
    assert box.record(again) == "delivered"


def test_a_message_after_a_dead_letter_says_so_once(box: Box) -> None:
    box.run(box.submit())
    before = box.fail_for_good()
    sent = box.deliver_all()
    assert [data(message).get("gap") for message in sent] == [True, None, None]
    assert sent[0].seq > before.seq


def test_a_gap_is_known_to_an_event_that_comes_after_the_dead_letter(box: Box) -> None:
    job = box.submit()
    box.fail_for_good()
    box.run(job)
    assert [data(message).get("gap") for message in box.deliver_all()] == [True, None, None]


# ---------------------------------------------------------------- attempts


def test_a_receiver_that_is_down_is_tried_ten_times_on_schedule_and_then_given_up(
    box: Box,
) -> None:
    """D65, the rows of it; the actor's half is in tests/actors/test_webhooks.py."""
    box.submit()
    waits = []
    while True:
        message = box.taken()
        if box.record(message, None, error="connection refused") == "dead":
            break
        due_at = box.stored(message).due_at
        assert due_at is not None
        waits.append((due_at - box.now) / SECOND)
        box.now = due_at - 1
        assert box.take() is None
        box.now = due_at
    assert waits == list(SCHEDULE[1:])
    [delivery] = ledger.deliveries(box.connection, Selection())
    assert [each.n for each in delivery.attempts] == list(range(1, 11))
    assert delivery.state == "dead"


def test_retry_after_is_a_floor(box: Box) -> None:
    box.submit()
    message = box.taken()
    box.record(message, 503, wait=100.0)
    assert box.stored(message).due_at == box.now + 100 * SECOND
    box.now += 100 * SECOND
    box.record(box.taken(), 503, wait=1.0)
    assert box.stored(message).due_at == box.now + 300 * SECOND


def test_a_blocked_address_is_a_dead_letter_at_once(box: Box) -> None:
    box.submit()
    assert box.record(box.taken(), None, error="loopback", blocked=True) == "dead"
    assert box.endpoint().disabled_at is None
    assert box.endpoint().failures == 0


def test_an_answer_for_a_job_that_was_deleted_is_let_go(box: Box) -> None:
    job = box.submit(events=["job.queued"])
    message = box.taken()
    box.run(job)
    box.connection.execute("UPDATE endpoints SET pending = 0")
    box.connection.execute("DELETE FROM jobs")
    assert box.record(message) is None


# ---------------------------------------------------------------- endpoints


def test_five_failures_in_a_row_open_the_breaker_and_its_time_is_charged_to_nobody(
    box: Box,
) -> None:
    """D67."""
    for _ in range(20):
        box.submit()
    for _ in range(5):
        assert box.turn() == [URL]
        box.record(box.taken(), 500)
    assert box.turn() == []
    assert box.take() is None
    box.now += 30 * SECOND
    assert box.turn() == [URL]
    box.record(box.taken(), 500)  # the probe
    assert box.endpoint().held_until == box.now + 60 * SECOND
    box.now += 60 * SECOND
    assert box.record(box.taken()) == "delivered"
    assert len(box.deliver_all()) == 19
    query = "SELECT count(*) FROM deliveries WHERE status = 500"
    assert box.connection.execute(query).fetchone() == (6,)


def test_an_open_breaker_outlives_the_daemon(box: Box) -> None:
    """It is two columns of the endpoint, so there is nothing to be lost."""
    for _ in range(6):
        box.submit()
    for _ in range(5):
        box.record(box.taken(), 500)
    box.submit()
    assert box.endpoint().held_until == box.now + 30 * SECOND
    assert ledger.turn(box.connection, box.now, 8, ()) == ([], box.now + 30 * SECOND)


def test_410_disables_the_endpoint_and_all_the_rest_are_dead_letters(box: Box) -> None:
    """D69."""
    first = box.submit()
    for _ in range(300):
        box.submit()
    box.submit(OTHER)
    assert box.record(box.taken(), 410) == "dead"
    while URL in box.turn():
        assert box.take() is None
    box.run(first)
    assert set(box.states()[:-4]) == {"dead"}
    assert box.endpoint().dead == 304
    assert box.endpoint().reason == "it answered 410 Gone"
    assert box.turn() == [OTHER]


def test_an_endpoint_is_disabled_after_five_days_of_failure_and_ten_dead_letters(box: Box) -> None:
    for _ in range(9):
        box.submit()
    for _ in range(9):
        box.fail_for_good()
    assert box.now - NOW > LOST_TOO_LONG
    assert box.endpoint().disabled_at is None
    box.submit()
    box.fail_for_good()
    assert box.endpoint().reason == "no success for 120 hours, 10 messages lost"


def test_a_success_forgives_what_was_lost_before(box: Box) -> None:
    for _ in range(19):
        box.submit()
    for _ in range(9):
        box.fail_for_good()
    box.record(box.taken())
    for _ in range(9):
        box.fail_for_good()
    assert box.endpoint().disabled_at is None


def test_an_endpoint_that_is_owed_too_much_is_disabled_and_no_job_is_refused(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints, "MAX_PENDING", 3)
    for _ in range(5):
        box.submit()
    assert box.endpoint().reason == "3 messages waited for it"
    assert box.take() is None
    assert box.states() == ["dead"] * 5


def test_enabling_gives_a_clean_slate_and_replaying_brings_back_the_lost(box: Box) -> None:
    box.submit()
    dead = box.taken()
    box.record(dead, 410)
    assert outbox.replay(box.connection, [dead.id], box.now) == 0
    assert endpoints.enable(box.connection, URL, box.now)
    assert outbox.replay(box.connection, [dead.id], box.now) == 1
    [again] = box.deliver_all()
    assert (again.id, again.body) == (dead.id, dead.body)
    assert not endpoints.enable(box.connection, "https://nobody.example/", box.now)


def test_the_endpoint_that_waited_longest_is_first_and_one_just_served_last(box: Box) -> None:
    for url in (URL, OTHER):
        for _ in range(2):
            box.submit(url)
    box.now += SECOND
    first, second = box.turn()
    box.record(box.taken(first))
    assert box.turn() == [second, first]
    assert box.turn(limit=1, busy=[second]) == [first]


def test_an_endpoint_nobody_needs_is_forgotten(box: Box) -> None:
    box.submit()
    box.deliver_all()
    assert endpoints.forget(box.connection, box.now) == 0
    assert endpoints.forget(box.connection, box.now + 1) == 1


def test_a_clock_that_was_set_back_strands_nothing(box: Box) -> None:
    box.submit()
    box.record(box.taken(), 500)
    box.now -= 365 * 24 * HOUR
    assert box.turn() == [URL]
    assert box.record(box.taken()) == "delivered"


# ---------------------------------------------------------------- replay


def test_a_replay_starts_the_schedule_over_under_the_same_id(box: Box) -> None:
    box.submit()
    dead = box.fail_for_good()
    box.now += HOUR
    assert outbox.replay(box.connection, [dead.id], box.now) == 1
    again = box.taken()
    assert (again.id, again.body) == (dead.id, dead.body)
    assert box.record(again, 500) == "pending"
    assert box.stored(again).due_at == box.now + 5 * SECOND
    [delivery] = ledger.deliveries(box.connection, Selection())
    assert len(delivery.attempts) == 11


def test_a_replayed_message_goes_before_what_waits_behind_it(box: Box) -> None:
    box.run(box.submit())
    dead = box.fail_for_good()
    second = box.taken()  # on its way
    outbox.replay(box.connection, [dead.id], box.now)
    box.consistent()
    assert box.record(second, 500) == "pending"
    box.consistent()
    box.now += HOUR
    assert [message.seq for message in box.deliver_all()] == [
        dead.seq,
        second.seq,
        second.seq + 1,
        second.seq + 2,
    ]


def test_what_was_sent_before_keeps_its_bytes_whatever_becomes_of_the_one_ahead(box: Box) -> None:
    box.run(box.submit())
    sent = box.deliver_all()
    outbox.replay(box.connection, [message.id for message in sent[:2]], box.now)
    assert box.fail_for_good().id == sent[0].id
    assert [message.body for message in box.deliver_all()] == [sent[1].body]


def test_a_replay_is_tried_at_once_though_the_breaker_is_open(box: Box) -> None:
    for _ in range(5):
        box.submit()
    for _ in range(5):
        message = box.taken()
        box.record(message, 500)
    assert box.turn() == []
    outbox.replay(box.connection, [message.id], box.now)
    assert box.turn() == [URL]
    assert box.record(box.taken(), 500) == "pending"
    assert box.turn() == []


def test_a_delivered_line_is_replayed_in_order_ten_a_second(box: Box) -> None:
    for _ in range(20):
        box.submit()
    sent = [message.id for message in box.deliver_all()]
    selected = ledger.replayable(box.connection, Selection(state="delivered"))
    assert selected == sent
    assert outbox.replay(box.connection, selected, box.now) == 20
    box.now += SECOND - 1
    assert [message.id for message in box.deliver_all()] == sent[:10]
    box.now += SECOND
    assert [message.id for message in box.deliver_all()] == sent[10:]


def test_what_is_replayed_is_chosen_by_id_job_or_time(box: Box) -> None:
    first = box.submit()
    box.now += HOUR
    second = box.submit(owner="alice")
    box.now += HOUR
    box.submit()

    def chosen(selection: Selection, owner: str | None = None) -> list[int]:
        ids = ledger.replayable(box.connection, selection, owner)
        found = [outbox.get(box.connection, each) for each in ids]
        return [message.seq for message in found if message is not None]

    assert chosen(Selection()) == [1, 2, 3]
    assert chosen(Selection(job=first.id)) == [1]
    assert chosen(Selection(), "alice") == [2]
    assert chosen(Selection(after=moment(NOW + HOUR), before=moment(NOW + 2 * HOUR))) == [2]
    assert chosen(Selection(before=moment(NOW + HOUR))) == [1]
    assert chosen(Selection(state="dead")) == []
    [one] = ledger.deliveries(box.connection, Selection(job=second.id))
    assert chosen(Selection(id=one.id)) == [2]


# ---------------------------------------------------------------- the ledger


def test_the_ledger_is_paged_newest_first_and_filtered(box: Box) -> None:
    box.run(box.submit())
    box.submit(OTHER, owner="alice")
    box.record(box.taken())

    def seqs(selection: Selection, **more: Any) -> list[int]:
        return [each.seq for each in ledger.deliveries(box.connection, selection, **more)]

    assert seqs(Selection()) == [5, 4, 3, 2, 1]
    page = ledger.deliveries(box.connection, Selection(), limit=2)
    assert seqs(Selection(), before=page[-1].id, limit=2) == [3, 2]
    assert seqs(Selection(state="delivered")) == [1]
    assert seqs(Selection(endpoint=OTHER)) == [5]
    assert seqs(Selection(), owner="alice") == [5]
    assert [each.type for each in page] == ["job.queued", "job.done"]
    shown = [each.url for each in ledger.list_endpoints(box.connection, "alice")]
    assert shown == [OTHER]


# ---------------------------------------------------------------- damage


def test_a_damaged_message_is_not_sent_and_holds_up_nobody() -> None:
    box = Box()
    box.run(box.submit())
    box.connection.execute("UPDATE outbox SET body = x'78' WHERE seq IN (1, 2)")
    sent = box.deliver_all()
    assert [(message.seq, data(message).get("gap")) for message in sent] == [(3, True), (4, None)]
    assert box.states() == ["dead", "dead", "delivered", "delivered"]
    box.consistent()
    assert [problem for problem in check(box.connection) if "damaged" in problem]
    [damaged, *_] = ledger.replayable(box.connection, Selection(state="dead"))
    with pytest.raises(StoreError, match="damaged"):
        outbox.get(box.connection, damaged)
    assert outbox.replay(box.connection, [damaged], box.now) == 0


def test_what_was_buried_while_it_was_on_its_way_may_still_arrive(box: Box) -> None:
    box.submit()
    message = box.taken()
    endpoints.disable(box.connection, URL, box.now, "a test")
    assert box.take() is None
    assert box.states() == ["dead"]
    assert box.record(message) == "delivered"


# ---------------------------------------------------------------- size


def test_a_turn_and_a_delivery_cost_the_same_however_much_waits() -> None:
    """D75: nothing scans the backlog."""
    box = Box()
    box.connection.execute("BEGIN")
    for _ in range(500):
        box.submit()

    def steps() -> int:
        """Instructions of SQLite's machine for one turn and one delivery."""
        counted = 0

        def count() -> int:
            nonlocal counted
            counted += 1
            return 0

        box.connection.set_progress_handler(count, 1)
        assert box.turn() == [URL]
        box.record(box.taken())
        box.connection.set_progress_handler(None, 0)
        return counted

    few = max(steps(), steps())
    for _ in range(4500):
        box.submit()
    assert steps() <= few * 1.1


# ---------------------------------------------------------------- any history


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_any_history_keeps_order_bytes_and_counts(seed: int) -> None:
    """I9: first deliveries in order, one id one body, nothing pending that never comes due."""
    choose = random.Random(seed)
    box, history = Box(), History()
    for number in range(120):
        step(box, history, choose)
        if number % 8 == 0:
            box.consistent()
    for _ in range(60):
        box.now += 48 * HOUR
        for url in box.turn():
            box.deliver_all(url)
    assert "pending" not in box.states()
    for line, seqs in history.first.items():
        assert line in history.lossy or seqs == sorted(seqs)


@dataclass
class History:
    refs: list[JobRef] = field(default_factory=list[JobRef])
    bodies: dict[str, bytes] = field(default_factory=dict[str, bytes])
    first: dict[tuple[str, str], list[int]] = field(default_factory=dict[Any, list[int]])
    lossy: set[tuple[str, str]] = field(default_factory=set[Any])


def step(box: Box, history: History, choose: random.Random) -> None:
    match choose.randrange(7):
        case 0 | 1:
            history.refs.append(box.submit(choose.choice([URL, OTHER])))
        case 2 if history.refs:
            box.run(history.refs.pop(choose.randrange(len(history.refs))))
        case 3:
            box.now += choose.choice([1, 6, 400, 90_000]) * SECOND
        case 4:
            ids = ledger.replayable(box.connection, Selection())
            outbox.replay(box.connection, choose.sample(ids, min(len(ids), 3)), box.now)
        case _:
            message = box.take(choose.choice([URL, OTHER]))
            if message is not None:
                attempt(box, history, message, choose)


def attempt(box: Box, history: History, message: Message, choose: random.Random) -> None:
    assert history.bodies.setdefault(message.id, message.body) == message.body
    line = (message.job, message.endpoint)
    seqs = history.first.setdefault(line, [])
    state = box.record(message, choose.choice([200, 200, 500]))
    if state == "dead":
        history.lossy.add(line)
    if state == "delivered" and message.seq not in seqs:
        seqs.append(message.seq)


# ---------------------------------------------------------------- the backlog, for metrics


def backlog(box: Box) -> ledger.Backlog:
    return ledger.backlog(box.connection, box.now)


def test_the_backlog_ages_from_when_the_oldest_message_was_due() -> None:
    box = Box()
    assert backlog(box) == ledger.Backlog(0, 0.0, 0, 0, 0, 0)
    box.submit()
    box.now += 5 * SECOND
    box.submit(url=OTHER)
    box.now += 60 * SECOND
    assert backlog(box) == ledger.Backlog(2, 65.0, 0, 2, 0, 0)
    box.deliver_all()
    assert backlog(box) == ledger.Backlog(1, 60.0, 0, 1, 0, 0)
    box.deliver_all(OTHER)
    assert backlog(box) == ledger.Backlog(0, 0.0, 0, 0, 0, 0)


def test_a_message_between_two_tries_is_not_late() -> None:
    box = Box()
    box.submit()
    box.record(box.taken(), 500)
    assert backlog(box).lag_s == 0.0
    assert backlog(box).pending == 1


def test_the_backlog_tells_endpoints_that_are_held_from_disabled_ones() -> None:
    box = Box()
    for _ in range(40):
        box.submit()
    while box.take() is not None:  # until its breaker opens
        box.record(box.taken(), 500)
    box.submit(url=OTHER)
    box.record(box.taken(OTHER), 410)
    found = backlog(box)
    assert (found.pending, found.waiting, found.held, found.disabled) == (40, 0, 1, 1)
    assert found.dead == 1
    box.now += 60 * SECOND
    assert backlog(box).lag_s >= 60  # of those that it keeps back


def test_a_look_at_the_backlog_costs_the_same_however_much_waits() -> None:
    def steps(endpoints_: int, dead: int) -> int:
        box, taken = Box(), 0
        box.connection.execute("PRAGMA foreign_keys = 0")
        box.connection.executemany(
            "INSERT INTO endpoints (url, pending, due_at, failures, held_until, lost)"
            " VALUES (?, 1, ?, 0, 0, 0)",
            ((f"https://receiver.example/{n}", NOW + n) for n in range(endpoints_)),
        )
        box.connection.executemany(
            "INSERT INTO outbox VALUES (?, 'x', ?, 1, x'', 'dead', 1, 0, NULL, 0, 0, 0)",
            ((f"msg_{n}", str(n)) for n in range(dead)),
        )

        def count() -> int:
            nonlocal taken
            taken += 1
            return 0

        box.connection.set_progress_handler(count, 1000)
        found = backlog(box)
        assert (found.pending, found.dead) == (ledger.OWED_AT_MOST, ledger.COUNTED)
        return taken

    most = ledger.COUNTED
    assert steps(2 * most, 2 * most) <= steps(most, most) + 1
