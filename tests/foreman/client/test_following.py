from typing import Any

import pytest

from foreman.client import following
from foreman.client.errors import JobFailed, Refused, Resync, Unreachable
from foreman.client.following import BEYOND
from tests.fakes.transport import (
    Given,
    ScriptedTransport,
    away,
    event,
    everything,
    first,
    job,
    refuses,
    says,
    streams,
)

RESYNC = {"type": "resync", "reason": "expired", "after": 3, "first_seq": 10, "last_seq": 40}


async def seqs(transport: ScriptedTransport, after: int = 0) -> list[int]:
    return [each.seq for each in await everything(following.watch_job(transport, "J1", after))]


async def test_a_jobs_events_end_with_its_last() -> None:
    transport = ScriptedTransport(streams(event(1, "queued"), event(2), event(3, "done")))
    assert await seqs(transport) == [1, 2, 3]
    assert transport.paths == ["/jobs/J1/events?after=0"]


async def test_events_go_on_after_the_last_one_that_came() -> None:
    transport = ScriptedTransport(
        streams(event(1), event(2), broken=True),
        away(),
        streams(broken=True),
        streams(event(3), event(4, "failed")),
    )
    assert await seqs(transport) == [1, 2, 3, 4]
    assert [path.rpartition("=")[2] for path in transport.paths] == ["0", "2", "2", "2"]


async def test_a_log_that_ends_before_the_job_does_is_taken_up_again() -> None:
    transport = ScriptedTransport(
        streams(event(1)), says(job(state="working", last_seq=1)), streams(event(2, "done"))
    )
    assert await seqs(transport) == [1, 2]


async def test_a_job_that_had_ended_before_has_nothing_more_to_tell() -> None:
    transport = ScriptedTransport(streams(), says(job(last_seq=9)))
    assert await seqs(transport, 9) == []


async def test_a_subscriber_that_was_too_slow_reads_the_rest_from_the_log() -> None:
    transport = ScriptedTransport(
        streams(event(1), {"type": "slow", "last_seq": 1}), streams(event(2, "done"))
    )
    assert await seqs(transport) == [1, 2]
    assert transport.slept == []


async def test_a_log_that_cannot_go_on_says_from_where_it_can() -> None:
    with pytest.raises(Resync, match="expired") as caught:
        await seqs(ScriptedTransport(streams(RESYNC)), 3)
    resync = caught.value
    assert (resync.after, resync.first_seq, resync.last_seq) == (3, 10, 40)


async def test_everybodys_events_go_on_where_the_daemon_ended_them() -> None:
    transport = ScriptedTransport(streams(event(1, "done")), streams(event(2, "done")))
    watched = following.watch_all(transport, {"model": "m"}, 0)
    assert [each.seq for each in await first(watched, 2)] == [1, 2]
    assert transport.paths == ["/events?model=m&after=0", "/events?model=m&after=1"]
    assert transport.open_now == 0


async def test_an_idle_daemon_is_never_given_up() -> None:
    answers: list[Given] = [streams(broken=True) for _ in range(500)]
    transport = ScriptedTransport(*answers, streams(event(1, "done")), patience=1)
    assert await seqs(transport) == [1]


async def test_a_daemon_that_does_not_come_back_is_given_up() -> None:
    transport = ScriptedTransport(
        answer=lambda request: away() if transport.asked[1:] else streams(event(1), broken=True)
    )
    with pytest.raises(Unreachable):
        await seqs(transport)


async def test_the_head_is_where_the_log_ends() -> None:
    ahead = {**RESYNC, "reason": "ahead"}
    transport = ScriptedTransport(streams(ahead))
    assert await following.head(transport) == 40
    assert transport.paths == [f"/events?follow=0&after={BEYOND}"]


async def records(transport: ScriptedTransport, start: int = 0) -> list[tuple[str, int, Any]]:
    found = await everything(following.output(transport, "J1", start))
    return [(each.run, each.n, each.data) for each in found]


async def test_output_goes_on_with_the_record_after_the_last() -> None:
    transport = ScriptedTransport(
        streams("a", "b", broken=True, x_foreman_attempt="1.2"),
        away(),
        streams("c", x_foreman_attempt="1.2"),
    )
    assert await records(transport) == [("1.2", 0, "a"), ("1.2", 1, "b"), ("1.2", 2, "c")]
    assert transport.paths == [
        "/jobs/J1/output?from=0",
        "/jobs/J1/output?from=2&attempt=1.2",
        "/jobs/J1/output?from=2&attempt=1.2",
    ]


async def test_output_of_a_new_run_begins_again() -> None:
    transport = ScriptedTransport(
        streams("a", "b", broken=True, x_foreman_attempt="1.2"),
        refuses(409, "attempt_over"),
        streams("A", x_foreman_attempt="1.5"),
    )
    assert await records(transport) == [("1.2", 0, "a"), ("1.2", 1, "b"), ("1.5", 0, "A")]
    assert transport.paths[-1] == "/jobs/J1/output?from=0"


async def test_output_may_begin_in_the_middle() -> None:
    transport = ScriptedTransport(streams("c", x_foreman_attempt="1.2"))
    assert await records(transport, 2) == [("1.2", 2, "c")]


async def test_output_of_a_failed_job_ends_with_its_error() -> None:
    view = job(state="failed", error={"code": "truncated", "message": "broke off"})
    transport = ScriptedTransport(
        streams("a", broken=True, x_foreman_attempt="3"), refuses(409, "job_failed"), says(view)
    )
    output = following.output(transport, "J1", 0)
    assert (await anext(output)).data == "a"
    with pytest.raises(JobFailed, match="truncated"):
        await anext(output)


async def test_output_of_a_job_that_is_not_there_is_refused() -> None:
    with pytest.raises(Refused):
        await records(ScriptedTransport(refuses(404, "not_found")))
