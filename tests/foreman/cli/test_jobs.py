import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest


def job(identifier: str = "01JD0A000000000000000000AA", **fields: Any) -> dict[str, Any]:
    return {
        "id": identifier,
        "state": "queued",
        "class": "batch",
        "endpoint": "/api/chat",
        "model": "qwen3:8b",
        "attempt": 0,
        "priority": 0,
        "created_at": ago(183_000),
        "started_at": None,
        "finished_at": None,
        "tokens_in": None,
        "tokens_out": None,
        "error": None,
        "labels": {},
        **fields,
    }


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def shown(foreman: Any, daemon: Any, *jobs: dict[str, Any]) -> list[list[str]]:
    daemon.says("/jobs", {"jobs": list(jobs), "next": None})
    ran = foreman("jobs")
    assert ran.status == 0
    return [line.split(maxsplit=7) for line in ran.out.splitlines()]


def test_a_job_is_a_line_under_headings(foreman: Any, daemon: Any) -> None:
    heading, line = shown(foreman, daemon, job())
    assert heading == ["ID", "STATE", "CLASS", "MODEL", "AGE", "RAN", "TOKENS", "NOTE"]
    assert line[:4] == ["01JD0A000000000000000000AA", "queued", "batch", "qwen3:8b"]
    assert line[4:] == ["2d02h", "-", "-", "-"]


def test_a_finished_job_shows_how_long_it_ran_and_its_tokens(foreman: Any, daemon: Any) -> None:
    times = {"started_at": ago(300), "finished_at": ago(240)}
    done = job(state="done", attempt=2, tokens_in=None, tokens_out=1090, **times)
    _, line = shown(foreman, daemon, done)
    assert line[5:] == ["1m00s", "?/1090", "attempt 2"]


def test_a_failed_job_says_why(foreman: Any, daemon: Any) -> None:
    error = {"code": "gap_timeout", "message": "no sign of life"}
    _, line = shown(foreman, daemon, job(state="failed", attempt=3, error=error))
    assert line[7] == "gap_timeout: no sign of life"


def test_control_characters_do_not_reach_the_terminal(foreman: Any, daemon: Any) -> None:
    _, line = shown(foreman, daemon, job(model="x\x1b[2J\ny"))
    assert line[3] == "x\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}y"


def test_the_filters_are_the_daemons(foreman: Any, daemon: Any) -> None:
    daemon.says("/jobs", {"jobs": []})
    options = [
        "--state",
        "failed",
        "--class",
        "batch",
        "--model",
        "a/b:c",
        "--limit",
        "5",
        "--before",
        "01J",
    ]
    assert foreman("jobs", *options).status == 0
    asked = "/jobs?state=failed&class=batch&model=a%2Fb%3Ac&limit=5&before=01J"
    assert daemon.asked == [(asked, None)]


@pytest.mark.parametrize(
    "options", [["--state", "lost"], ["--class", "x"], ["--limit", "0"], ["--what"], ["extra"]]
)
def test_wrong_usage_is_exit_status_2_and_asks_nobody(
    foreman: Any, daemon: Any, options: list[str]
) -> None:
    assert foreman("jobs", *options).status == 2
    assert daemon.asked == []


def test_json_is_the_daemons_own_answer(foreman: Any, daemon: Any) -> None:
    document = {"jobs": [job(future_field=[1])], "next": "01J"}
    daemon.says("/jobs", document)
    ran = foreman("jobs", "--json")
    assert (json.loads(ran.out), ran.err) == (document, "")


def test_no_jobs_and_more_jobs_are_said_beside_the_output(foreman: Any, daemon: Any) -> None:
    daemon.says("/jobs", {"jobs": [], "next": None})
    ran = foreman("jobs")
    assert (ran.out, ran.err) == ("", "no jobs\n")
    daemon.says("/jobs", {"jobs": [job()], "next": "01JD"})
    assert foreman("jobs").err == "older: foreman jobs --before 01JD\n"
