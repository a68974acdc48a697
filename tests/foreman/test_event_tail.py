"""The tail of the log in memory: what it holds, whom it wakes, and how it stops."""

from collections.abc import Sequence

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from foreman.event_tail import ABREAST, EventTail
from foreman.jobs import JobClass, JobId, State
from foreman.rows import NOTHING, Event

A, B = JobId("A"), JobId("B")


def event(seq: int, job: JobId = A) -> Event:
    return Event(
        seq=seq,
        n=1,
        previous_seq=0,
        job=job,
        state=State.QUEUED,
        attempt=1,
        at=0,
        epoch=1,
        model="m",
        job_class=JobClass.BATCH,
        labels={},
        owner="",
        detail=NOTHING,
    )


def seqs(events: Sequence[Event] | None) -> list[int] | None:
    return None if events is None else [each.seq for each in events]


def test_a_reader_gets_what_follows_its_cursor() -> None:
    tail = EventTail(head=10)
    tail.publish([event(11), event(12), event(13)])
    assert (tail.head, tail.oldest) == (13, 11)
    assert seqs(tail.after(10, 100)) == [11, 12, 13]
    assert seqs(tail.after(11, 1)) == [12]
    assert seqs(tail.after(13, 100)) == []


def test_what_memory_no_longer_holds_is_said_to_be_elsewhere() -> None:
    tail = EventTail(size=3)
    tail.publish([event(seq) for seq in range(1, 6)])
    assert tail.after(1, 100) is None
    assert seqs(tail.after(2, 100)) == [3, 4, 5]


def test_an_empty_memory_holds_nothing_but_its_head() -> None:
    tail = EventTail(head=7)
    assert seqs(tail.after(7, 100)) == []
    assert tail.after(6, 100) is None


def test_after_a_gap_only_the_database_knows() -> None:
    tail = EventTail()
    tail.publish([event(1), event(2)])
    tail.publish([event(5)])
    assert tail.after(2, 100) is None
    assert seqs(tail.after(4, 100)) == [5]


def test_an_event_is_encoded_once_as_long_as_it_is_held() -> None:
    tail = EventTail(size=1)
    first, second = event(1), event(2)
    tail.publish([first])
    assert tail.json(first) is tail.json(first)
    assert tail.json(first) == first.to_json()
    tail.publish([second])
    assert tail.json(first) is not tail.json(first)


async def one_turn() -> None:
    """Return after whoever can run now has run once: trio takes those of a turn in any order."""
    await trio.lowlevel.checkpoint()
    await trio.lowlevel.checkpoint()


class Waiting:
    """Readers that wait, and where each was told to read on."""

    def __init__(self, tail: EventTail) -> None:
        self.tail = tail
        self.woken: dict[str, int | None] = {}

    async def wait(self, name: str, seq: int, job: JobId | None) -> None:
        self.woken[name] = await self.tail.moved(seq, job)


async def test_an_event_wakes_those_of_its_job_and_those_of_all_jobs(
    nursery: trio.Nursery,
) -> None:
    waiting = Waiting(EventTail())
    for name, job in (("a", A), ("also a", A), ("b", B), ("all", None)):
        nursery.start_soon(waiting.wait, name, 0, job)
    await wait_all_tasks_blocked()
    waiting.tail.publish([event(1, A)])
    await wait_all_tasks_blocked()
    assert waiting.woken == {"a": 0, "also a": 0, "all": 0}
    nursery.cancel_scope.cancel("b waits for nothing more")


async def test_all_are_woken_however_many_they_are(nursery: trio.Nursery) -> None:
    """C57."""
    waiting = Waiting(EventTail())
    for number in range(10 * ABREAST):
        nursery.start_soon(waiting.wait, str(number), 0, None)
    await wait_all_tasks_blocked()
    waiting.tail.publish([event(1)])
    await one_turn()
    assert 0 < len(waiting.woken) < 10 * ABREAST  # others had their turn in between
    await wait_all_tasks_blocked()
    assert len(waiting.woken) == 10 * ABREAST


async def test_who_waits_for_a_job_reads_on_where_its_event_is(nursery: trio.Nursery) -> None:
    tail = EventTail(size=2)
    waiting = Waiting(tail)
    nursery.start_soon(waiting.wait, "b", 0, B)
    await wait_all_tasks_blocked()
    for seq in range(1, 10):
        tail.publish([event(seq, A)])
    tail.publish([event(10, B)])
    await wait_all_tasks_blocked()
    assert waiting.woken == {"b": 9}
    assert seqs(tail.after(9, 100)) == [10]


async def test_who_is_woken_late_reads_on_from_the_event_that_woke_it(
    nursery: trio.Nursery,
) -> None:
    tail = EventTail()
    waiting = Waiting(tail)
    for number in range(3 * ABREAST):
        nursery.start_soon(waiting.wait, str(number), 0, B)
    await wait_all_tasks_blocked()
    tail.publish([event(1, A)])
    tail.publish([event(2, B)])
    tail.publish([event(3, A), event(4, B)])  # before any of them had its turn
    await one_turn()
    tail.publish([event(5, B)])  # and before the last had
    await wait_all_tasks_blocked()
    assert set(waiting.woken.values()) == {1}
    assert len(waiting.woken) == 3 * ABREAST


async def test_who_waits_longest_is_woken_first(nursery: trio.Nursery) -> None:
    tail = EventTail()
    turns: list[int] = []

    async def follow(number: int) -> None:
        seq = 0
        while await tail.moved(seq) is not None:
            turns.append(number)
            seq = tail.head

    readers = 3 * ABREAST
    for number in range(readers):
        nursery.start_soon(follow, number)
        await wait_all_tasks_blocked()
    tail.publish([event(1)])
    await one_turn()
    tail.publish([event(2)])  # the first have read on already; the last have not begun
    await wait_all_tasks_blocked()
    assert set(turns[:readers]) == set(range(readers))
    tail.close()


async def test_a_gap_wakes_everybody_for_nobody_knows_whose_events_are_missing(
    nursery: trio.Nursery,
) -> None:
    waiting = Waiting(EventTail(head=3))
    nursery.start_soon(waiting.wait, "b", 3, B)
    await wait_all_tasks_blocked()
    waiting.tail.publish([event(6, A)])
    await wait_all_tasks_blocked()
    assert waiting.woken == {"b": 3}


async def test_what_came_before_the_wait_is_not_waited_for() -> None:
    tail = EventTail()
    tail.publish([event(1, A), event(2, B)])
    with assert_checkpoints():
        assert await tail.moved(0) == 0
    assert await tail.moved(0, A) == 0
    assert await tail.moved(1, B) == 1


async def test_an_older_event_of_the_job_is_nothing_new(nursery: trio.Nursery) -> None:
    tail = EventTail()
    waiting = Waiting(tail)
    tail.publish([event(1, A), event(2, B)])
    nursery.start_soon(waiting.wait, "a", 1, A)
    await wait_all_tasks_blocked()
    assert waiting.woken == {}
    tail.publish([event(3, A)])
    await wait_all_tasks_blocked()
    assert waiting.woken == {"a": 2}


async def test_a_stop_wakes_everybody_with_nothing(nursery: trio.Nursery) -> None:
    waiting = Waiting(EventTail())
    nursery.start_soon(waiting.wait, "a", 0, A)
    nursery.start_soon(waiting.wait, "all", 0, None)
    await wait_all_tasks_blocked()
    waiting.tail.close()
    await wait_all_tasks_blocked()
    assert waiting.woken == {"a": None, "all": None}
    assert await waiting.tail.moved(0) is None


async def test_after_a_stop_what_is_there_is_still_read() -> None:
    tail = EventTail()
    tail.publish([event(1)])
    tail.close()
    assert await tail.moved(0) == 0
    tail.publish([event(2)])
    assert seqs(tail.after(1, 100)) == [2]


@pytest.mark.parametrize("job", [A, None])
async def test_who_gives_up_waiting_leaves_nothing_behind(job: JobId | None) -> None:
    tail = EventTail()
    with trio.move_on_after(0):
        await tail.moved(0, job)
    assert not tail._waiting  # pyright: ignore[reportPrivateUsage]  nothing else shows it
