"""A sound database out of a backup and what was salvaged of a damaged one, job by job.

A job is taken over where its row is sound and its events, those of both sides together, make that
row. Where only its log has suffered, it is told anew from the row, under new numbers. Where the row
is lost, the backup's is brought up to date by the events that still follow it. Otherwise the job is
what the backup says, or lost. Totals, labels and lanes are counted afresh.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from foreman import endpoints
from foreman.encoding import checksum, stored
from foreman.folding import fold
from foreman.jobs import ENDED, FailureCode, JobId, State
from foreman.outbox import Message
from foreman.queries import get_job, read_event
from foreman.rows import Detail, Event, Failure, JobRow, Microseconds
from foreman.transitions import event_values

BESIDE = ("requests", "results", "artifacts", "outbox")
Rows = dict[Any, Sequence[Any]]
Saved = tuple[JobRow, list[Event]]


@dataclass(slots=True)
class Account:
    """How many jobs came out of it how, and which are lost."""

    saved: int = 0  # as they last stood
    retold: int = 0  # as they last stood; their log was written anew
    from_backup: int = 0  # as they stood when the backup was made
    advanced: int = 0  # of those, brought up to date by events
    lost: list[JobId] = field(default_factory=list[JobId])
    without_request: int = 0  # jobs that have not ended and cannot be run: they will fail
    without_result: int = 0  # jobs that are done and whose answer is gone
    messages_lost: int = 0  # webhooks that belong to no event any more

    @property
    def whole(self) -> bool:
        """Whether nothing is missing that is known of."""
        return not (self.lost or self.without_request or self.without_result or self.messages_lost)


def merge(
    into: sqlite3.Connection,
    salvaged: sqlite3.Connection,
    *,
    after_seq: int,
    now: Microseconds,
    rest: Callable[[], None] = lambda: None,
) -> Account:
    """Bring `into`, a sound database or an empty one, up to what was salvaged, in a transaction.

    Events that are told anew get numbers after `after_seq`; the store then goes on after them.
    """
    merger = _Merger(into, salvaged, after_seq, now)
    into.execute("PRAGMA foreign_keys = 1")
    into.execute("BEGIN IMMEDIATE")
    for (job,) in salvaged.execute(_KNOWN).fetchall():
        rest()
        merger.settle(JobId(job))
    [(jobs,)] = into.execute("SELECT count(*) FROM jobs").fetchall()
    account = merger.account
    account.from_backup = jobs - account.saved - account.retold
    merger.count_afresh()
    into.execute("COMMIT")
    return account


class _Merger:
    def __init__(
        self,
        into: sqlite3.Connection,
        salvaged: sqlite3.Connection,
        after_seq: int,
        now: Microseconds,
    ) -> None:
        self.account = Account()
        self._into = into
        self._salvaged = salvaged
        self._seq = after_seq
        self._now = now

    def settle(self, job: JobId) -> None:
        """Decide what this job is, and write it."""
        kept, found = get_job(self._into, job), get_job(self._salvaged, job)
        submitted = found or kept
        if submitted is None:
            self.account.lost.append(job)
            return
        log = _log(self._into, submitted) | _log(self._salvaged, submitted)
        if found is not None and (kept is None or kept.version <= found.version):
            if whole := _whole(found, log):
                self._write(whole, retold=False)
                self.account.saved += 1
            else:
                self._write(self._retold(found), retold=True)
                self.account.retold += 1
        elif kept is not None and (further := _further(kept, log)):
            self._write(further, retold=False)
            self.account.advanced += 1

    def count_afresh(self) -> None:
        """Everything that only says how many there are, and the numbers that go on."""
        into = self._into
        for row in self._salvaged.execute("SELECT * FROM endpoints").fetchall():
            _insert(into, "endpoints", [row], "OR REPLACE ")
        for statement in _AFRESH:
            into.execute(statement)
        into.execute(_GO_ON, {"seq": self._seq})
        for (url,) in into.execute("SELECT url FROM endpoints").fetchall():
            endpoints.refresh(into, url, self._now)

    def _retold(self, row: JobRow) -> Saved:
        events = list(_story(row, self._seq + 1))
        self._seq = events[-1].seq
        return fold(row, events), events

    def _write(self, saved: Saved, *, retold: bool) -> None:
        """Put the job, and what of its rows beside is sound on either side, in its old place."""
        row, events = saved
        beside = {table: self._beside(table, row.id) for table in BESIDE}
        deliveries = self._deliveries(beside["outbox"])
        self._into.execute(_SAME_KEY, (row.id, row.owner, row.idempotency_key))
        _insert(self._into, "jobs", [_with_sum(stored(row))])
        _insert(self._into, "events", [_with_sum(event_values(event)) for event in events])
        labels = [(name, value, row.id) for name, value in row.labels.items()]
        _insert(self._into, "labels", labels)
        self._see_to_request(row, beside["requests"])
        self._see_to_result(row, beside)
        for table in ("requests", "results", "artifacts"):
            _insert(self._into, table, beside[table].values())
        messages = list(self._messages(beside["outbox"], events, retold=retold))
        _insert(self._into, "outbox", [_with_sum(msgspec.structs.astuple(m)) for m in messages])
        sent = {message.id for message in messages}
        _insert(self._into, "deliveries", [each for each in deliveries if each[0] in sent])

    def _beside(self, table: str, job: JobId) -> Rows:
        """By their keys; of two, the salvaged one, which is the later."""
        query = f"SELECT * FROM {table} WHERE job = ?"
        found: Rows = {}
        for side in (self._into, self._salvaged):
            for row in side.execute(query, (job,)).fetchall():
                found[row[1] if table == "artifacts" else row[0]] = row
        return found

    def _deliveries(self, messages: Rows) -> list[Sequence[Any]]:
        query = "SELECT * FROM deliveries WHERE message = ?"
        found: Rows = {}
        for side in (self._into, self._salvaged):
            for message in messages:
                for row in side.execute(query, (message,)).fetchall():
                    found[row[:2]] = row
        return list(found.values())

    def _see_to_request(self, row: JobRow, requests: Rows) -> None:
        if row.job_class == "batch" and row.state not in ENDED and not requests:
            self.account.without_request += 1

    def _see_to_result(self, row: JobRow, beside: dict[str, Rows]) -> None:
        """An answer is there with what describes it, or neither is."""
        inline = {name for name, artifact in beside["artifacts"].items() if artifact[_INLINE]}
        if row.state is not State.DONE:
            beside["artifacts"].clear()
            beside["results"].clear()
            return
        if inline and not beside["results"]:
            for name in inline:
                del beside["artifacts"][name]
        if row.job_class == "batch" and not (beside["artifacts"] or beside["results"]):
            self.account.without_result += 1

    def _messages(self, found: Rows, events: Sequence[Event], *, retold: bool) -> Iterator[Message]:
        """Those that belong to an event, in lines: of each only the first that waits is due."""
        numbers = {event.seq for event in events}
        by_state = {event.state.value: event.seq for event in events} if retold else {}
        waiting: set[str] = set()
        kept: list[Message] = []
        for row in found.values():
            message = Message(*row[:-1])
            seq = message.seq
            if retold:
                kind: str = msgspec.json.decode(message.body)["type"]
                seq = by_state.get(kind.removeprefix("job."), 0)
            if seq in numbers:
                kept.append(msgspec.structs.replace(message, seq=seq))
            else:
                self.account.messages_lost += message.state == "pending"
        for message in sorted(kept, key=lambda each: each.seq):
            if message.state == "pending":
                first = message.endpoint not in waiting
                waiting.add(message.endpoint)
                due = (message.due_at or self._now) if first else None
                yield msgspec.structs.replace(message, due_at=due)
            else:
                yield message


def _log(connection: sqlite3.Connection, job: JobRow) -> dict[int, Event]:
    query = "SELECT * FROM events WHERE job = ?"
    rows = connection.execute(query, (job.id,)).fetchall()
    return {event.n: event for event in (read_event(row, job) for row in rows)}


def _whole(row: JobRow, log: dict[int, Event]) -> Saved | None:
    """The row with the events that make it, if they are all there."""
    events = [log[n] for n in range(1, row.version + 1) if n in log]
    return (row, events) if _linked(events) and fold(row, events) == row else None


def _further(kept: JobRow, log: dict[int, Event]) -> Saved | None:
    """The backup's row after the events that follow it without a gap, if there are any."""
    events: list[Event] = []
    while len(events) + 1 in log:
        events.append(log[len(events) + 1])
    if len(events) <= kept.version or not _linked(events):
        return None
    return fold(kept, events), events


def _linked(events: Sequence[Event]) -> bool:
    dense = [event.n for event in events] == list(range(1, len(events) + 1))
    return dense and [e.previous_seq for e in events] == [0, *(e.seq for e in events[:-1])]


def _story(row: JobRow, seq: int) -> Iterator[Event]:
    """The shortest log that ends as this row does; what had not ended waits again."""
    error = None
    if row.error_code is not None:
        error = Failure(FailureCode(row.error_code), row.error_message or "")
    steps: list[tuple[State, Microseconds | None, Detail]] = [
        (State.QUEUED, row.submitted_at, Detail())
    ]
    if row.state in ENDED and row.claimed_at is not None:
        steps.append((State.LOADING, row.claimed_at, Detail(resident=row.resident)))
        if row.working_at is not None:
            steps.append((State.WORKING, row.working_at, Detail(load_s=row.load_s)))
    if row.state in ENDED:
        end = Detail(
            tokens_in=row.tokens_in,
            tokens_out=row.tokens_out,
            incomplete=row.incomplete,
            error=error,
        )
        steps.append((row.state, row.finished_at, end))
    for n, (state, at, detail) in enumerate(steps, start=1):
        yield Event(
            seq=seq + n - 1,
            n=n,
            previous_seq=seq + n - 2 if n > 1 else 0,
            job=row.id,
            state=state,
            attempt=row.attempt,
            at=at or row.submitted_at,
            epoch=row.epoch,
            model=row.model,
            job_class=row.job_class,
            labels=row.labels,
            owner=row.owner,
            detail=detail,
        )


def _with_sum(values: Sequence[Any]) -> tuple[Any, ...]:
    return (*values, checksum(values))


def _insert(
    connection: sqlite3.Connection, table: str, rows: Iterable[Sequence[Any]], how: str = ""
) -> None:
    for row in rows:
        places = ", ".join("?" * len(row))
        connection.execute(f"INSERT {how}INTO {table} VALUES ({places})", row)


_INLINE = 6  # the column of `artifacts` that says so
_KNOWN = """SELECT id FROM jobs UNION SELECT job FROM events UNION SELECT job FROM requests
    UNION SELECT job FROM results ORDER BY 1"""
_SAME_KEY = "DELETE FROM jobs WHERE id = ? OR owner = ? AND idempotency_key = ?"
_GO_ON = """UPDATE store SET seq = max(seq, :seq, ifnull((SELECT max(seq) FROM events), 0)),
    queued = (SELECT ifnull(sum(queued), 0) FROM lanes)"""
_AFRESH = (
    "DELETE FROM lanes",
    """INSERT INTO lanes SELECT model_key, runner, count(*) FROM jobs
        WHERE state = 'queued' AND class = 'batch' GROUP BY model_key, runner""",
    """INSERT OR IGNORE INTO endpoints (url, pending, failures, held_until, lost)
        SELECT DISTINCT endpoint, 0, 0, 0, 0 FROM outbox""",
    """UPDATE endpoints SET pending =
        (SELECT count(*) FROM outbox WHERE endpoint = url AND state = 'pending')""",
)
