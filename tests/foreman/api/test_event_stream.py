"""Subscriptions on the raw ASGI messages: what is sent, and with which end."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from foreman import names
from foreman.api.event_stream import EventStreams
from foreman.api.exchange import Exchange, Message
from foreman.api.ports import Desk
from foreman.api.websocket import Handshake
from foreman.event_tail import EventTail
from foreman.jobs import FailureCode, Fingerprint, JobClass, JobId
from foreman.migrations import apply
from foreman.rows import JobRef, NewJob
from foreman.schema import MIGRATIONS
from foreman.submitting import submit
from foreman.tables import Transaction, fail

T = TypeVar("T")


class Store:
    """The part of the desk that subscriptions use, with a database in memory."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect(":memory:", isolation_level=None)
        apply(self._connection, MIGRATIONS)
        self.tail = EventTail()

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        await trio.lowlevel.checkpoint()
        return query(self._connection)

    def commit(self, do: Callable[[Transaction], T]) -> T:
        tx = Transaction(self._connection, 1_800_000_000_000_000, 1)
        answer = do(tx)
        self.tail.publish(tx.events)
        return answer

    def submit(self, number: int, model: str = "m", owner: str = "") -> JobRef:
        job = NewJob(
            id=JobId(f"{number:026d}"),
            job_class=JobClass.BATCH,
            endpoint="/api/chat",
            model=model,
            fingerprint=Fingerprint(names.key(model)),
            owner=owner,
        )
        return self.commit(lambda tx: submit(tx, job))

    def cancel(self, ref: JobRef) -> None:
        self.commit(lambda tx: fail(tx, ref, FailureCode.CANCELLED, "not wanted"))

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store()
    yield store
    store.close()


def serving(store: Store, most: int = 10) -> EventStreams:
    return EventStreams(cast(Desk, store), most)


class Visit:
    """One request, and what it was told."""

    def __init__(self, store: Store, streams: EventStreams | None = None) -> None:
        self._streams = streams or serving(store)
        self._told: list[Message] = []

    async def lines(self, target: str, owner: str | None = None) -> None:
        """GET it as NDJSON."""
        messages = iter([{"type": "http.request", "body": b"", "more_body": False}])
        await self._visit("http", target, messages, owner)

    async def websocket(self, target: str, owner: str | None = None) -> None:
        """GET it as a websocket."""
        await self._visit("websocket", target, iter([{"type": "websocket.connect"}]), owner)

    async def _visit(
        self, kind: str, target: str, messages: Iterator[Message], owner: str | None
    ) -> None:
        async def receive() -> Message:
            await trio.lowlevel.checkpoint()
            return next(messages)

        async def send(message: Message) -> None:
            await trio.lowlevel.checkpoint()
            self._told.append(message)

        path, _, query = target.partition("?")
        scope: Message = {"type": kind, "path": path, "query_string": query.encode(), "headers": []}
        if kind == "http":
            exchange = Exchange(scope | {"method": "GET"}, receive, send)
        else:
            exchange = Handshake(scope, receive, send)
        await self._streams.handle(exchange, owner)

    @property
    def types(self) -> list[str]:
        return [message["type"] for message in self._told]

    @property
    def last(self) -> Message:
        return self._told[-1]

    @property
    def texts(self) -> list[Any]:
        """The websocket's messages, decoded."""
        return [json.loads(each["text"]) for each in self._told if "text" in each]

    @property
    def more(self) -> list[bool]:
        """Of each of the websocket's messages, whether it may wait for the next."""
        return [each["more"] for each in self._told if "text" in each]

    @property
    def body(self) -> bytes:
        return b"".join(each.get("body", b"") for each in self._told)

    @property
    def records(self) -> list[Any]:
        """The lines, decoded."""
        return [json.loads(line) for line in self.body.splitlines()]

    @property
    def problem(self) -> tuple[int, Any]:
        """The status and the body of a refusal."""
        return self._told[0]["status"], json.loads(self.body)


async def test_a_websocket_carries_each_event_as_one_message(
    store: Store, nursery: trio.Nursery
) -> None:
    visit = Visit(store)
    nursery.start_soon(visit.websocket, "/events")
    await wait_all_tasks_blocked()
    assert visit.types == ["websocket.accept"]
    store.cancel(store.submit(1))
    await wait_all_tasks_blocked()
    assert [(text["seq"], text["state"]) for text in visit.texts] == [(1, "queued"), (2, "failed")]
    assert visit.texts[0] == json.loads(store.tail.json(store.tail.after(0, 1)[0]))  # type: ignore[index]
    nursery.cancel_scope.cancel("enough")


async def test_lines_carry_the_same_events_and_the_head_goes_out_first(
    store: Store, nursery: trio.Nursery
) -> None:
    store.submit(1)
    visit = Visit(store)
    nursery.start_soon(visit.lines, "/events")
    await wait_all_tasks_blocked()
    assert (visit.types[0], visit.body) == ("http.response.start", b"")
    store.submit(2)
    await wait_all_tasks_blocked()
    assert [record["seq"] for record in visit.records] == [2]
    nursery.cancel_scope.cancel("enough")


async def test_of_events_that_come_together_all_but_the_last_say_that_there_is_more(
    store: Store, nursery: trio.Nursery
) -> None:
    for number in range(3):
        store.submit(number)
    visit = Visit(store)
    nursery.start_soon(visit.websocket, "/events?after=0")
    await wait_all_tasks_blocked()
    assert visit.more == [True, True, False]
    nursery.cancel_scope.cancel("enough")


async def test_without_following_the_lines_end_at_the_head(store: Store) -> None:
    store.submit(1)
    store.submit(2)
    visit = Visit(store)
    await visit.lines("/events?after=0&follow=0")
    assert [record["seq"] for record in visit.records] == [1, 2]
    assert visit.last["more_body"] is False


async def test_filters_leave_out_the_rest(store: Store) -> None:
    store.submit(1, "other")
    ref = store.submit(2, "m")
    store.cancel(ref)
    visit = Visit(store)
    await visit.lines("/events?after=0&follow=0&model=M:latest&state=done,failed")
    assert [record["seq"] for record in visit.records] == [3]


async def test_a_jobs_events_come_from_its_first_and_end_with_its_last(
    store: Store, nursery: trio.Nursery
) -> None:
    store.submit(1)
    ref = store.submit(2)
    lines, websocket = Visit(store), Visit(store)
    nursery.start_soon(lines.lines, f"/jobs/{ref.id}/events")
    nursery.start_soon(websocket.websocket, f"/jobs/{ref.id}/events")
    await wait_all_tasks_blocked()
    store.submit(3)
    store.cancel(ref)
    await wait_all_tasks_blocked()
    assert [record["seq"] for record in lines.records] == [2, 4]
    assert lines.last["more_body"] is False
    assert [text["seq"] for text in websocket.texts] == [2, 4]
    assert (websocket.last["type"], websocket.last["code"]) == ("websocket.close", 1000)


async def test_the_events_of_a_job_that_has_ended_end_at_once(store: Store) -> None:
    ref = store.submit(1)
    store.cancel(ref)
    visit = Visit(store)
    await visit.lines(f"/jobs/{ref.id}/events?after=1")
    assert [record["seq"] for record in visit.records] == [2]
    again = Visit(store)
    await again.lines(f"/jobs/{ref.id}/events?after=2")
    assert again.records == []


@pytest.mark.parametrize("kind", ["lines", "websocket"])
async def test_an_unknown_job_and_another_owners_are_both_absent(store: Store, kind: str) -> None:
    ref = store.submit(1, owner="ann")
    for job, owner in ((JobId("X"), None), (ref.id, "bob")):
        visit = Visit(store)
        await getattr(visit, kind)(f"/jobs/{job}/events", owner)
        status, problem = visit.problem
        assert (status, problem["code"]) == (404, "job_not_found")


async def test_each_owner_sees_its_own_events(store: Store) -> None:
    store.submit(1, owner="ann")
    store.submit(2, owner="bob")
    visit = Visit(store)
    await visit.lines("/events?after=0&follow=0", "bob")
    assert [record["seq"] for record in visit.records] == [2]


async def test_a_cursor_ahead_of_the_log_gets_a_resync_and_nothing_else(store: Store) -> None:
    """C59: ahead of the head."""
    store.submit(1)
    resync = {"type": "resync", "reason": "ahead", "after": 9, "first_seq": 1, "last_seq": 1}
    lines, websocket = Visit(store), Visit(store)
    await lines.lines("/events?after=9")
    await websocket.websocket("/events?after=9")
    assert lines.records == [resync]
    assert websocket.texts == [resync]
    assert (websocket.last["type"], websocket.last["code"]) == ("websocket.close", 4409)


async def test_who_is_too_slow_is_told_where_to_resume(store: Store) -> None:
    """C58: on either transport."""
    lines, websocket = Visit(store), Visit(store)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lines.lines, "/events")
        nursery.start_soon(websocket.websocket, "/events")
        await wait_all_tasks_blocked()
        for number in range(4096 + 1024 + 2):
            store.submit(number)  # neither runs meanwhile
    assert lines.records == [{"type": "slow", "last_seq": 0}]
    assert websocket.last["code"] == 1013
    assert websocket.last["reason"] == "too slow: resume with after=0"


async def test_a_stop_closes_the_one_and_ends_the_other(store: Store) -> None:
    lines, websocket = Visit(store), Visit(store)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lines.lines, "/events")
        nursery.start_soon(websocket.websocket, "/events")
        await wait_all_tasks_blocked()
        store.tail.close()
    assert lines.last["more_body"] is False
    assert websocket.last["code"] == 1001


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("after=x", "after"),
        ("after=-1", "after"),
        ("after=" + "9" * 30, "after"),
        ("state=done,lost", "state"),
        ("class=night", "class"),
        ("model=a:b:c:d//", "model"),
        ("label=a", "label"),
        ("follow=yes", "follow"),
        ("sate=done", "sate"),
        ("after=1&after=2", "after"),
    ],
)
@pytest.mark.parametrize("kind", ["lines", "websocket"])
async def test_a_wrong_parameter_is_named_before_anything_is_accepted(
    store: Store, kind: str, query: str, field: str
) -> None:
    """C59: not a number."""
    visit = Visit(store)
    await getattr(visit, kind)(f"/events?{query}")
    status, problem = visit.problem
    assert (status, problem["code"], problem["field"]) == (400, "bad_parameter", field)
    assert "websocket.accept" not in visit.types


async def test_a_misspelt_parameter_is_answered_with_the_nearest(store: Store) -> None:
    visit = Visit(store)
    await visit.lines("/events?sate=done")
    assert "did you mean state?" in visit.problem[1]["detail"]


async def test_a_jobs_own_stream_takes_no_other_job(store: Store) -> None:
    ref = store.submit(1)
    visit = Visit(store)
    await visit.lines(f"/jobs/{ref.id}/events?job=X")
    assert visit.problem[1]["field"] == "job"


async def test_beyond_the_limit_the_next_is_refused_until_one_leaves(
    store: Store, nursery: trio.Nursery
) -> None:
    streams = serving(store, most=1)
    first = trio.CancelScope()

    async def stay() -> None:
        with first:
            await Visit(store, streams).lines("/events")

    nursery.start_soon(stay)
    await wait_all_tasks_blocked()
    refused, again = Visit(store, streams), Visit(store, streams)
    await refused.websocket("/events")
    status, problem = refused.problem
    assert (status, problem["code"]) == (503, "too_many_subscribers")
    first.cancel("it leaves")
    await wait_all_tasks_blocked()
    nursery.start_soon(again.websocket, "/events")
    await wait_all_tasks_blocked()
    assert again.types == ["websocket.accept"]
    nursery.cancel_scope.cancel("enough")
