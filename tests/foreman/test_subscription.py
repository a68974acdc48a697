"""A reader's way from the database into the live tail: no gap, nothing twice, a typed end."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from foreman.event_log import SPAN, EventFilter, Page
from foreman.event_tail import EventTail
from foreman.jobs import JobClass, JobId, State
from foreman.rows import NOTHING, Event
from foreman.subscription import (
    BATCH,
    SLACK,
    Finished,
    GoingAway,
    Resync,
    Subscription,
    TooSlow,
)

A, B = JobId("A"), JobId("B")
EVERYTHING = EventFilter()
SMALL = 16  # events in memory


@dataclass(slots=True)
class Log:
    """The database and the tail of one daemon; `restart` empties the memory, as a new one has."""

    events: list[Event] = field(default_factory=list[Event])
    pruned: int = 0
    looks: int = 0
    tail: EventTail = field(default_factory=lambda: EventTail(size=SMALL))

    @property
    def last(self) -> int:
        return len(self.events)

    def commit(
        self, *jobs: JobId, state: State = State.QUEUED, published: bool = True
    ) -> Sequence[Event]:
        new = [_event(self.last + 1 + offset, job, state) for offset, job in enumerate(jobs)]
        self.events += new
        if published:
            self.tail.publish(new)
        return new

    def restart(self) -> None:
        self.tail = EventTail(self.last, size=SMALL)

    async def page(self, after: int, wanted: EventFilter) -> Page:
        await trio.lowlevel.checkpoint()
        self.looks += 1
        upto = min(after + SPAN, self.last)
        looked_at = self.events[max(after, self.pruned) : upto]
        found = [event for event in looked_at if wanted.matches(event)][:BATCH]
        return Page(found, found[-1].seq if len(found) == BATCH else upto, self.pruned, self.last)


def _event(seq: int, job: JobId, state: State) -> Event:
    return Event(
        seq=seq,
        n=1,
        previous_seq=0,
        job=job,
        state=state,
        attempt=1,
        at=0,
        epoch=1,
        model="m",
        job_class=JobClass.BATCH,
        labels={},
        owner="",
        detail=NOTHING,
    )


class Client:
    """Reads a batch for each permit it is given: a slow reader gets few."""

    def __init__(
        self,
        log: Log,
        after: int,
        wanted: EventFilter = EVERYTHING,
        *,
        until: int | None = None,
        to_end: bool = False,
    ) -> None:
        async def read(cursor: int) -> Page:
            return await log.page(cursor, wanted)

        self.got: list[Event] = []
        self.permits = trio.Semaphore(0)
        self.subscription = Subscription(log.tail, read, wanted, after, until=until, to_end=to_end)

    @property
    def seqs(self) -> list[int]:
        return [event.seq for event in self.got]

    async def run(self) -> None:
        while True:
            await self.permits.acquire()
            try:
                self.got += await anext(self.subscription)
            except StopAsyncIteration:
                return

    async def reads(self, batches: int = 100) -> None:
        """Return when it has read so many batches, or waits for the next, or has ended."""
        for _ in range(batches):
            self.permits.release()
        await wait_all_tasks_blocked()


async def test_a_replay_runs_on_into_the_live_stream(nursery: trio.Nursery) -> None:
    log = Log()
    log.commit(*[A] * 2000)
    client = Client(log, after=0)
    nursery.start_soon(client.run)
    await client.reads()
    log.commit(A, B)
    await client.reads()
    assert client.seqs == list(range(1, 2003))
    assert client.subscription.end is None
    nursery.cancel_scope.cancel("enough")


@pytest.mark.parametrize("after", [0, 1, 7, 15, 16, 17, 39, 40])
async def test_it_resumes_after_any_event(nursery: trio.Nursery, after: int) -> None:
    """C59: an exact continuation from each seq, with a restart in between or not."""
    log = Log()
    log.commit(*[A] * 20)
    log.restart()
    log.commit(*[A] * 20)
    client = Client(log, after)
    nursery.start_soon(client.run)
    await client.reads()
    log.commit(B)
    await client.reads()
    assert client.seqs == list(range(after + 1, 42))
    nursery.cancel_scope.cancel("enough")


async def test_a_cursor_ahead_of_the_log_is_told_so() -> None:
    """C59: ahead of the head."""
    log = Log()
    log.commit(A, A)
    client = Client(log, after=3)
    assert [batch async for batch in client.subscription] == []
    assert client.subscription.end == Resync("ahead", 3, first_seq=1, last_seq=2)


async def test_a_cursor_at_an_event_that_is_committed_but_not_yet_published_is_good(
    nursery: trio.Nursery,
) -> None:
    log = Log()
    log.commit(A)
    unpublished = log.commit(A, published=False)
    client = Client(log, after=2)
    nursery.start_soon(client.run)
    await client.reads()
    log.tail.publish(unpublished)
    log.commit(B)
    await client.reads()
    assert client.seqs == [3]
    nursery.cancel_scope.cancel("enough")


async def test_a_cursor_before_what_retention_left_is_told_so() -> None:
    """C59: expired."""
    log = Log()
    log.commit(*[A] * 30)
    log.pruned = 10
    client = Client(log, after=9)
    assert [batch async for batch in client.subscription] == []
    assert client.subscription.end == Resync("expired", 9, first_seq=11, last_seq=30)


async def test_retention_that_overtakes_a_replay_ends_it(nursery: trio.Nursery) -> None:
    log = Log()
    log.commit(*[A] * 1000)
    client = Client(log, after=0)
    nursery.start_soon(client.run)
    await client.reads(1)
    log.pruned = 600
    await client.reads()
    assert client.seqs == list(range(1, BATCH + 1))
    assert client.subscription.end == Resync("expired", BATCH, first_seq=601, last_seq=1000)


async def test_a_live_reader_that_falls_far_behind_is_told_where_to_resume(
    nursery: trio.Nursery,
) -> None:
    """C58: and nobody keeps a queue for it."""
    log = Log()
    client = Client(log, after=0)
    nursery.start_soon(client.run)
    await client.reads(1)
    log.commit(A)
    await wait_all_tasks_blocked()
    log.commit(*[A] * (SMALL + SLACK + 1))
    await client.reads()
    assert client.seqs == [1]
    assert client.subscription.end == TooSlow(last_seq=1)


async def test_a_live_reader_that_is_a_little_late_catches_up_from_the_database(
    nursery: trio.Nursery,
) -> None:
    log = Log()
    client = Client(log, after=0)
    nursery.start_soon(client.run)
    await client.reads(1)
    log.commit(A)
    await wait_all_tasks_blocked()
    log.commit(*[A] * (SMALL + SLACK))
    await client.reads()
    assert client.seqs == list(range(1, log.last + 1))
    nursery.cancel_scope.cancel("enough")


async def test_who_reads_one_job_is_not_slow_because_others_are_busy(
    nursery: trio.Nursery,
) -> None:
    log = Log()
    client = Client(log, 0, EventFilter(job=A))
    nursery.start_soon(client.run)
    await client.reads(1)
    log.commit(A)
    await wait_all_tasks_blocked()
    log.commit(*[B] * 10_000)
    log.commit(A)
    await client.reads()
    assert client.seqs == [1, log.last]
    nursery.cancel_scope.cancel("enough")


async def test_who_waits_for_one_job_does_not_read_what_others_did(
    nursery: trio.Nursery,
) -> None:
    log = Log()
    client = Client(log, 0, EventFilter(job=A))
    nursery.start_soon(client.run)
    await client.reads()
    for _ in range(10):
        log.commit(*[B] * SMALL)
    log.commit(A)
    await client.reads()
    assert client.seqs == [log.last]
    assert log.looks == 0
    nursery.cancel_scope.cancel("enough")


async def test_a_jobs_subscription_ends_with_the_job(nursery: trio.Nursery) -> None:
    log = Log()
    client = Client(log, 0, EventFilter(job=A), to_end=True)
    nursery.start_soon(client.run)
    log.commit(A, B)
    log.commit(B, state=State.DONE)
    await client.reads()
    assert client.subscription.end is None
    log.commit(A, state=State.FAILED)
    await client.reads()
    assert client.seqs == [1, 4]
    assert client.subscription.end == Finished()


async def test_a_jobs_subscription_ends_with_the_job_also_when_its_end_is_not_wanted() -> None:
    log = Log()
    client = Client(log, 0, EventFilter(job=A, states=frozenset({State.QUEUED})), to_end=True)
    log.commit(A)
    log.commit(A, state=State.DONE)
    assert [[event.seq for event in batch] async for batch in client.subscription] == [[1]]
    assert client.subscription.end == Finished()


async def test_without_following_it_ends_at_the_head_of_its_start() -> None:
    log = Log()
    log.commit(*[A] * 40)
    client = Client(log, after=0, until=40)
    assert [event.seq async for batch in client.subscription for event in batch][-1] == 40
    assert client.subscription.end == Finished()


async def test_a_stop_ends_it_whether_it_waits_or_reads(nursery: trio.Nursery) -> None:
    log = Log()
    log.commit(*[A] * 1000)
    reading, waiting = Client(log, after=0), Client(log, after=1000)
    nursery.start_soon(reading.run)
    nursery.start_soon(waiting.run)
    await reading.reads(1)
    await waiting.reads(1)
    log.tail.close()
    await reading.reads(1)
    await waiting.reads(1)
    assert reading.subscription.end == waiting.subscription.end == GoingAway()


@dataclass(frozen=True, slots=True)
class Commit:
    jobs: list[JobId]
    published: bool


@dataclass(frozen=True, slots=True)
class Prune:
    share: float


@dataclass(frozen=True, slots=True)
class Look:
    batches: int


JOBS = st.lists(st.sampled_from([A, B]), min_size=1, max_size=5) | st.integers(10, 3000).map(
    lambda count: [B] * count
)
STEPS = st.lists(
    st.builds(Commit, JOBS, st.sampled_from([True, True, True, False]))
    | st.builds(Prune, st.floats(0, 1))
    | st.builds(Look, st.integers(1, 20)),
    max_size=12,
)
FILTERS = st.sampled_from([EVERYTHING, EventFilter(job=A), EventFilter(job=B)])


@given(before=st.integers(0, 50), after=st.integers(0, 60), wanted=FILTERS, steps=STEPS)
async def test_whatever_happens_a_session_is_a_contiguous_run_with_a_typed_end(
    before: int, after: int, wanted: EventFilter, steps: list[Commit | Prune | Look]
) -> None:
    """I8, C59: commits, crashes before a publication, retention and slow readers, in any order."""
    log = Log()
    log.commit(*[A] * before)
    log.restart()
    client = Client(log, after, wanted)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.run)
        for step in steps:
            await take(log, client, step)
        log.commit(A, B)
        await client.reads(1000)
        nursery.cancel_scope.cancel("it has seen what there is")
    upto = log.last
    match client.subscription.end:
        case TooSlow(last_seq):
            upto = last_seq
        case Resync("ahead"):
            assert after > before
            upto = after
        case Resync("expired", after=cursor):
            assert cursor < log.pruned
            upto = cursor
        case end:
            assert end is None
    wanted_events = [event for event in log.events[after:upto] if wanted.matches(event)]
    assert client.got == wanted_events


async def take(log: Log, client: Client, step: Commit | Prune | Look) -> None:
    match step:
        case Commit(jobs, published):
            log.commit(*jobs, published=published)
            await wait_all_tasks_blocked()
        case Prune(share):
            log.pruned = max(log.pruned, int(share * log.last))
        case Look(batches):
            await client.reads(batches)
