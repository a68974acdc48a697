"""The event log in the database: which events follow a cursor, and which of them are wanted."""

import logging
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from foreman import names
from foreman.errors import StoreError
from foreman.jobs import JobClass, JobId, State
from foreman.queries import get_job, read_event
from foreman.rows import Event, JobRow

log = logging.getLogger("foreman.store")

SPAN = 1024  # events looked at in one question, however few of them are wanted
_COLUMNS = "seq, job, n, previous_seq, epoch, state, attempt, at, detail, sum"
_EVENT = ", ".join(f"events.{column}" for column in _COLUMNS.split(", "))


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events a reader wants: those that match every term that is set.

    `model` is a normalised name (`foreman.names.key`), `owner` the name of the client's token.
    """

    job: JobId | None = None
    states: frozenset[State] | None = None
    model: str | None = None
    label: tuple[str, str] | None = None
    job_class: JobClass | None = None
    owner: str | None = None

    def matches(self, event: Event) -> bool:
        """The decision for an event in memory."""
        return (
            self.job in (None, event.job)
            and (self.states is None or event.state in self.states)
            and self.owner in (None, event.owner)
            and self.job_class in (None, event.job_class)
            and (self.label is None or event.labels.get(self.label[0]) == self.label[1])
            and (self.model is None or names.key(event.model) == self.model)
        )

    def terms(self) -> dict[str, Sequence[object]]:
        """The same decision as terms of a WHERE over events and jobs, each with its values."""
        wanted = {
            "events.job = ?": self.job,
            "jobs.owner = ?": self.owner,
            "jobs.class = ?": self.job_class and self.job_class.value,
            "jobs.model_key = ?": self.model,
        }
        terms: dict[str, Sequence[object]]
        terms = {term: (value,) for term, value in wanted.items() if value is not None}
        if self.label is not None:
            terms[_LABELLED] = self.label
        if self.states is not None:
            marks = ", ".join("?" * len(self.states))
            terms[f"events.state IN ({marks})"] = [state.value for state in self.states]
        return terms


@dataclass(frozen=True, slots=True)
class Page:
    """What one look at the log found: the wanted events up to and including `upto`.

    The log is complete after `pruned_seq` and ends, so far, with `last_seq`.
    """

    events: Sequence[Event]
    upto: int
    pruned_seq: int
    last_seq: int


def bounds(connection: sqlite3.Connection) -> tuple[int, int]:
    """The largest seq that retention took away, and the last one given out."""
    [(pruned, last)] = connection.execute("SELECT pruned_seq, seq FROM store").fetchall()
    return int(pruned), int(last)


def events_after(
    connection: sqlite3.Connection,
    after: int,
    *,
    limit: int,
    wanted: EventFilter | None = None,
    upto: int | None = None,
) -> list[Event]:
    """The wanted events after `after`, in order, none beyond `upto`.

    Those that are damaged, or whose job is, are left out: whoever reads on sees by `previous_seq`
    that one is missing, and the log of the daemon names it.
    """
    return _sound(connection, _found(connection, after, limit, wanted, upto))


def _found(
    connection: sqlite3.Connection,
    after: int,
    limit: int,
    wanted: EventFilter | None,
    upto: int | None,
) -> Sequence[Sequence[Any]]:
    """The rows of these events, unread."""
    terms = {"events.seq > ?": (after,), **(wanted or EventFilter()).terms()}
    if upto is not None:
        terms["events.seq <= ?"] = (upto,)
    # The outer loop must be over events: sorting all events of a model would take for ever.
    query = f"""SELECT {_EVENT} FROM events CROSS JOIN jobs ON jobs.id = events.job
        WHERE {" AND ".join(terms)} ORDER BY {_order(wanted)} LIMIT ?"""
    values = [value for each in terms.values() for value in each]
    return connection.execute(query, (*values, limit)).fetchall()


def page_after(
    connection: sqlite3.Connection, after: int, *, limit: int, wanted: EventFilter
) -> Page:
    """The next page of the log. It looks at SPAN events at most, so it may well be empty."""
    pruned, last = bounds(connection)
    upto = last if wanted.job else min(after + SPAN, last)
    found = _found(connection, after, limit, wanted, upto)
    upto = found[-1][0] if len(found) == limit else upto
    return Page(_sound(connection, found), upto, pruned, last)


def page_of_job(connection: sqlite3.Connection, job: JobId, after: int, *, limit: int) -> Page:
    """The next page of one job's log, of which retention leaves all or nothing.

    A cursor from before the last restore that is no event of this job may be one of a future that
    was lost with it: then, too, what followed is gone.
    """
    page = page_after(connection, after, limit=limit, wanted=EventFilter(job=job))
    gone = not page.events and get_job(connection, job) is None
    if not gone and 0 < after < page.pruned_seq and not _is_of(connection, after, job):
        return page
    return replace(page, pruned_seq=page.last_seq + 1 if gone else 0)


def _is_of(connection: sqlite3.Connection, seq: int, job: JobId) -> bool:
    query = "SELECT 1 FROM events WHERE seq = ? AND job = ?"
    return bool(connection.execute(query, (seq, job)).fetchall())


_LABELLED = """EXISTS (SELECT 1 FROM labels
    WHERE labels.name = ? AND labels.value = ? AND labels.job = events.job)"""


def _order(wanted: EventFilter | None) -> str:
    """A job's own numbers have an index that knows the job; the order is the same."""
    return "events.n" if wanted and wanted.job else "events.seq"


def _sound(connection: sqlite3.Connection, found: Sequence[Sequence[Any]]) -> list[Event]:
    """The events of these rows, without what is damaged."""
    jobs: dict[JobId, JobRow] = {}
    events: list[Event] = []
    for values in found:
        try:
            job = jobs.get(values[1]) or get_job(connection, values[1])
            if job is not None:  # its foreign key says it is there
                jobs[job.id] = job
                events.append(read_event(values, job))
        except StoreError as damage:
            log.error("left out of what a subscriber reads: event %d: %s", values[0], damage)
    return events
