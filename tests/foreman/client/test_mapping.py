"""A map over a daemon of a few lines, whose jobs end when the test says so."""

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec
import pytest

from foreman.client import mapping
from foreman.client.errors import JobFailed, Refused, Unreachable
from foreman.client.following import BEYOND
from foreman.client.mapping import BATCH, Terms
from foreman.client.requests import MapParameters
from foreman.client.transport import Request
from foreman.client.values import Outcome, Progress
from tests.fakes.transport import (
    Given,
    Says,
    ScriptedTransport,
    away,
    bodies,
    event,
    everything,
    first,
    job,
    says,
    streams,
)


@dataclass
class Books:
    """Takes jobs, and ends those of them that are told about when somebody watches."""

    order: Callable[[list[str]], list[str]] = list
    room: int = 10**6
    failing: set[int] = field(default_factory=set[int])
    bad: set[int] = field(default_factory=set[int])
    lost: int = 0  # bulk answers that break off after the jobs were taken
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    keys: dict[str, str] = field(default_factory=dict[str, str])
    log: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    most: int = 0  # jobs under way at once
    resyncs: int = 0

    def answer(self, request: Request) -> Given:
        """What a daemon would say."""
        match request.path.split("/"):
            case [_, "jobs", "bulk"]:
                lines = [self._take(each) for each in (request.body or b"").splitlines()]
                self.lost -= 1
                return away(sent=True) if self.lost >= 0 else streams(*lines)
            case [_, "events"]:
                return self._events(int(request.query["after"]))
            case [_, "jobs", name]:
                return says(self.jobs[name])
            case _:
                raise AssertionError(request.path)

    @property
    def live(self) -> list[str]:
        return [name for name, each in self.jobs.items() if each["state"] == "queued"]

    def _take(self, line: bytes) -> dict[str, Any]:
        asked = msgspec.json.decode(line)
        key, number = asked["idempotency_key"], asked["request"]["n"]
        if key in self.keys:
            return {"line": 1, "status": 200, "job": {"id": self.keys[key], "state": "queued"}}
        if number in self.bad:
            return {"line": 1, "status": 400, "error": {"code": "bad_body", "detail": "no model"}}
        if len(self.live) >= self.room:
            return {"line": 1, "status": 429, "error": {"code": "queue_full", "detail": "full"}}
        name = f"J{len(self.jobs)}"
        self.keys[key] = name
        self.jobs[name] = job(name, "queued", endpoint="/x", result=number, labels=asked["labels"])
        self.most = max(self.most, len(self.live))
        return {"line": 1, "status": 202, "job": {"id": name, "state": "queued"}}

    def _events(self, after: int) -> Says:
        known = len(self.log)
        place = {"type": "resync", "reason": "ahead", "after": after, "last_seq": known}
        if after == BEYOND:
            self._end(self.live)  # after the look, before anybody listens
            return streams({**place, "first_seq": 0})
        if self.resyncs > 0:
            self.resyncs -= 1
            self.log.append(event(known + 1, "done", "another"))
            return streams({**place, "first_seq": 0})
        if self.live:
            self._end(self.order(self.live)[:1])
        return streams(*self.log[after:], broken=known % 3 == 0)

    def _end(self, names: Iterable[str]) -> None:
        for name in names:
            number = self.jobs[name]["result"]
            state = "failed" if number in self.failing else "done"
            self.jobs[name]["state"] = state
            if state == "failed":
                self.jobs[name]["error"] = {"code": "truncated", "message": "broke off"}
            self.log.append(event(len(self.log) + 1, state, name))


def run(
    books: Books, count: int, *, patience: float = 60, **terms: Any
) -> tuple[AsyncGenerator[Outcome[Any]], ScriptedTransport]:
    transport = ScriptedTransport(answer=books.answer, patience=patience)
    requests = ({"n": number} for number in range(count))
    wanted: Terms[Any] = mapping.terms(None, cast(MapParameters, {"endpoint": "/x", **terms}))
    return mapping.outcomes(transport, requests, wanted), transport


async def values(books: Books, count: int, **terms: Any) -> list[Any]:
    return [each.result() for each in await everything(run(books, count, **terms)[0])]


async def test_every_input_comes_to_one_outcome() -> None:
    books = Books()
    assert sorted(await values(books, 10)) == list(range(10))
    assert len(books.jobs) == 10


async def test_nothing_to_do_is_nothing_done() -> None:
    assert await values(Books(), 0) == []


async def test_outcomes_come_as_they_end() -> None:
    assert await values(Books(order=lambda live: live[::-1]), 4) == [3, 2, 1, 0]


async def test_outcomes_come_in_order_if_wanted() -> None:
    books = Books(order=lambda live: live[::-1])
    assert await values(books, 7, ordered=True, window=3) == list(range(7))


@pytest.mark.parametrize("ordered", [True, False])
async def test_no_more_than_the_window_is_under_way(ordered: bool) -> None:
    books = Books()
    assert await values(books, 20, window=4, ordered=ordered) == list(range(20))
    assert books.most == 4


async def test_inputs_are_taken_only_as_far_as_they_are_needed() -> None:
    books = Books()
    outcomes, _ = run(books, 10**9, window=5)
    assert len(await first(outcomes, 3)) == 3
    assert len(books.jobs) <= 8


async def test_outcomes_that_wait_for_their_turn_count_as_under_way() -> None:
    books = Books(order=lambda live: live[::-1])
    outcomes, _ = run(books, 10**9, window=3, ordered=True)
    assert [each.index for each in await first(outcomes, 1)] == [0]
    assert len(books.jobs) == 3


async def test_large_windows_are_filled_in_batches() -> None:
    books = Books()
    outcomes, transport = run(books, 2 * BATCH + 1)
    await first(outcomes, 1)
    bulks = [each for each in transport.asked if each.path == "/jobs/bulk"]
    sizes = [len((each.body or b"").splitlines()) for each in bulks]
    assert sizes == [BATCH, BATCH, 1]


async def test_a_failed_job_is_an_outcome_with_an_error() -> None:
    outcomes = await everything(run(Books(failing={1}), 3)[0])
    failed = outcomes[1]
    assert isinstance(failed.error, JobFailed)
    assert failed.job is not None
    with pytest.raises(JobFailed, match="truncated"):
        failed.result()
    assert [each.value for each in outcomes] == [0, None, 2]


async def test_an_input_that_is_refused_is_an_outcome_and_stops_nobody() -> None:
    books = Books(bad={0, 1, 2, 5})
    outcomes = await everything(run(books, 8, window=2)[0])
    refused = {each.index for each in outcomes if each.job is None}
    assert refused == books.bad
    assert all(isinstance(each.error, Refused) for each in outcomes if each.job is None)
    assert {each.value for each in outcomes if each.job is not None} == {3, 4, 6, 7}


async def test_a_full_queue_is_filled_as_it_empties() -> None:
    books = Books(room=2)
    assert sorted(await values(books, 9)) == list(range(9))
    assert books.most == 2


async def test_a_queue_that_stays_full_of_others_work_is_an_error() -> None:
    outcomes, transport = run(Books(room=0), 3, patience=2)
    with pytest.raises(Refused, match="full") as caught:
        await everything(outcomes)
    assert caught.value.code == "queue_full"
    assert 0 < sum(transport.slept) <= 2


async def test_a_submission_whose_answer_was_lost_makes_no_second_job() -> None:
    books = Books(lost=3)
    assert sorted(await values(books, 5)) == list(range(5))
    assert len(books.jobs) == 5


async def test_a_log_that_was_lost_is_made_up_for_by_looking() -> None:
    outcomes, transport = run(Books(resyncs=1), 8, window=5)
    assert sorted(each.result() for each in await everything(outcomes)) == list(range(8))
    afters = [each.query["after"] for each in transport.asked if each.path == "/events"]
    assert afters[:4] == [str(BEYOND), "0", str(BEYOND), "1"]


async def test_a_daemon_that_does_not_come_back_is_an_error() -> None:
    books = Books()
    outcomes, transport = run(books, 5, patience=1)
    async with aclosing(outcomes):
        await anext(outcomes)
        transport._answer = lambda request: away()
        with pytest.raises(Unreachable):
            await everything(outcomes)


async def test_jobs_carry_their_parameters_and_one_label() -> None:
    labels = {"who": "me"}
    outcomes, transport = run(Books(), 2, priority=3, labels=labels, webhook="http://x")
    await everything(outcomes)
    body = next(each.body or b"" for each in transport.asked if each.path == "/jobs/bulk")
    lines = [msgspec.json.decode(line) for line in body.splitlines()]
    assert [line["priority"] for line in lines] == [3, 3]
    assert lines[0]["webhook"] == {"url": "http://x"}
    assert {line["labels"]["who"] for line in lines} == {"me"}
    assert len({line["labels"]["map"] for line in lines}) == 1
    assert len({line["idempotency_key"] for line in lines}) == 2


async def test_progress_is_told() -> None:
    told: list[Progress] = []
    await everything(run(Books(failing={1}), 3, window=2, progress=told.append)[0])
    assert told[0] == Progress(submitted=2, done=0, failed=0)
    assert told[-1] == Progress(submitted=3, done=2, failed=1)


async def test_a_request_that_is_not_json_is_an_error_of_the_caller() -> None:
    transport = ScriptedTransport(answer=Books().answer)
    with pytest.raises(TypeError, match="of type object"):
        await everything(
            mapping.outcomes(transport, [{"n": object()}], mapping.terms(None, MapParameters()))
        )
    assert bodies(transport.asked) == []


def test_a_window_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="window=0"):
        mapping.terms(None, MapParameters(window=0))
