import json
from typing import Any

import msgspec

from foreman.jobs import JobClass, JobId, State
from foreman.queue_view import QueueView, RunningJob, WaitingCall, WaitingLane
from tests.foreman.cli.scripted_jobs import JOB, OTHER, ago, job

VIEW = QueueView(
    RunningJob(JobId("01RUN"), "big:1", "big:1", JobClass.BATCH, State.WORKING, 3.0),
    "big:1",
    (
        WaitingLane("qwen3:8b", "qwen3:8b", JobClass.INTERACTIVE, 1, 14.0),
        WaitingLane("big:1", "big:1", JobClass.BATCH, 1, 60.0),
        WaitingLane("qwen3:8b", "qwen3:8b", JobClass.BATCH, 2, 90.0),
    ),
    (WaitingCall(JobId("01CALL"), "qwen3:8b", 1, 14.0),),
    loads=3,
    fcfs_loads=11,
    target_away=False,
)


def test_everybody_has_a_place_lane_after_lane_by_priority_then_age(
    foreman: Any, daemon: Any
) -> None:
    daemon.answers["/queue"] = (200, msgspec.json.encode(VIEW))
    waiting = [
        job("01Z", fingerprint="big:1", model="big:1", created_at=ago(60)),
        job(OTHER, created_at=ago(89), priority=5),
        job(JOB, created_at=ago(90)),
    ]
    daemon.says("/jobs", {"jobs": waiting, "next": None})
    ran = foreman("queue")
    assert (ran.status, ran.err) == (0, "running: 01RUN  big:1  batch, working for 3.0s\n")
    lanes, _, entries = ran.out.partition("\n\n")
    assert [line.split() for line in lanes.splitlines()[1:]] == [
        ["1", "qwen3:8b", "interactive", "1", "14s"],
        ["2", "big:1", "batch", "1", "1m00s"],
        ["3-4", "qwen3:8b", "batch", "2", "1m30s"],
    ]
    assert [line.split()[:2] for line in entries.splitlines()[1:]] == [
        *(["1", "01CALL"], ["2", "01Z"], ["3", OTHER], ["4", JOB])
    ]


def test_a_queue_that_fills_more_than_a_page_is_shown_by_lanes_alone(
    foreman: Any, daemon: Any
) -> None:
    daemon.answers["/queue"] = (200, msgspec.json.encode(VIEW))
    daemon.says("/jobs", {"jobs": [job()], "next": JOB})
    ran = foreman("queue")
    assert JOB not in ran.out
    assert "3 batch jobs wait; `foreman why JOB`" in ran.err


def test_an_empty_queue_asks_for_no_jobs(foreman: Any, daemon: Any) -> None:
    empty = msgspec.structs.replace(VIEW, lanes=(), calls=(), running=None)
    daemon.answers["/queue"] = (200, msgspec.json.encode(empty))
    ran = foreman("queue")
    assert (ran.out, ran.err) == ("", "running: nothing\nnobody waits\n")
    assert len(daemon.requests) == 1


def test_json_is_the_daemons_own_answer(foreman: Any, daemon: Any) -> None:
    daemon.answers["/queue"] = (200, msgspec.json.encode(VIEW))
    assert json.loads(foreman("queue", "--json").out)["loads"] == 3
