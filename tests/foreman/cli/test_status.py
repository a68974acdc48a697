import json
import time
from typing import Any

import msgspec
import pytest

from foreman.jobs import JobClass, JobId, State
from foreman.queue_view import QueueView, RunningJob, WaitingCall, WaitingLane

QWEN = "registry.ollama.ai/library/qwen3:8b"
GEMMA = 'registry.ollama.ai/library/gemma3:12b {"num_ctx":8192}'
IDLE = QueueView(None, None, (), (), loads=0, fcfs_loads=0, target_away=False)
BUSY = QueueView(
    RunningJob(JobId("01JA"), "qwen3:8b", QWEN, JobClass.INTERACTIVE, State.WORKING, 12.3),
    QWEN,
    (
        WaitingLane(QWEN, "qwen3:8b", JobClass.INTERACTIVE, 2, 14.0),
        WaitingLane(GEMMA, "gemma3:12b", JobClass.BATCH, 120, 5400.0),
    ),
    (WaitingCall(JobId("01JB"), "qwen3:8b", 1, 14.0),),
    loads=3,
    fcfs_loads=11,
    target_away=False,
)


def healthy(daemon: Any, *, up: bool = True, reason: str = "") -> None:
    target = {"up": up, "reason": reason, "models": 5, "polled_at": time.time() - 4000}
    document = {"status": "ok" if up else "degraded", "version": "0.1.0", "target": target}
    daemon.says("/healthz", document)


def shown(foreman: Any, daemon: Any, view: QueueView) -> str:
    daemon.answers["/queue"] = (200, msgspec.json.encode(view))
    ran = foreman("status")
    assert (ran.status, ran.err) == (0, "")
    return str(ran.out).replace(daemon.url, "http://box")


def test_a_busy_daemon_shows_what_runs_and_who_is_next(foreman: Any, daemon: Any) -> None:
    healthy(daemon)
    assert shown(foreman, daemon, BUSY).splitlines() == [
        "foreman  0.1.0 at http://box",
        "target   up, 5 models, seen 1h06m ago",
        "loaded   qwen3:8b",
        "running  01JA  qwen3:8b  interactive, working for 12s",
        "waiting  122 jobs, 1 of them clients' calls",
        "loads    3 (first come, first served: 11)",
        "",
        "TURN  MODEL                        CLASS        JOBS  OLDEST",
        "1     qwen3:8b                     interactive  2     14s",
        '2     gemma3:12b {"num_ctx":8192}  batch        120   1h30m',
        "",
        "PLACE  MODEL     WAITED  CLIENT'S JOB",
        "1      qwen3:8b  14s     01JB",
    ]


def test_an_idle_daemon_shows_no_empty_tables(foreman: Any, daemon: Any) -> None:
    healthy(daemon)
    lines = shown(foreman, daemon, IDLE).splitlines()
    assert len(lines) == 6
    assert lines[2:4] == ["loaded   nothing, as far as is known", "running  nothing"]


def test_a_target_that_is_away_is_said_with_the_reason(foreman: Any, daemon: Any) -> None:
    healthy(daemon, up=False, reason="connection refused")
    away = msgspec.structs.replace(IDLE, target_away=True)
    lines = shown(foreman, daemon, away).splitlines()
    assert lines[1] == "target   away: connection refused; 5 models, seen 1h06m ago"
    assert lines[3] == "running  nothing: the target is away, jobs wait for it"


def test_json_holds_both_answers_as_they_came(foreman: Any, daemon: Any) -> None:
    healthy(daemon)
    daemon.answers["/queue"] = (200, msgspec.json.encode(BUSY))
    document = json.loads(foreman("status", "--json").out)
    assert document["health"]["target"]["models"] == 5
    assert document["queue"] == json.loads(msgspec.json.encode(BUSY))


@pytest.mark.parametrize("path", ["/healthz", "/queue"])
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_half_an_answer_is_none(foreman: Any, daemon: Any, path: str, options: list[str]) -> None:
    healthy(daemon)
    daemon.answers["/queue"] = (200, msgspec.json.encode(BUSY))
    daemon.answers[path] = (200, b'{"status": ')
    ran = foreman("status", *options)
    assert (ran.status, ran.out) == (1, "")
