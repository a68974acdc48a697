import json
from typing import Any

import pytest

from tests.foreman.cli.scripted import Reply
from tests.foreman.cli.scripted_jobs import ago, job


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
        "--label",
        "batch=a:b",
    ]
    assert foreman("jobs", *options).status == 0
    asked = "/jobs?state=failed&class=batch&model=a%2Fb%3Ac&label=batch%3Aa%3Ab&limit=5&before=01J"
    assert daemon.asked == [(asked, None)]


@pytest.mark.parametrize(
    "options",
    [
        ["--state", "lost"],
        ["--class", "x"],
        ["--limit", "0"],
        ["--what"],
        ["extra"],
        ["--label", "x"],
    ],
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


def pages(daemon: Any, *pages: list[str]) -> None:
    """GET /jobs answers with these ids, page after page."""
    for number, ids in enumerate(pages, start=1):
        following = ids[-1] if number < len(pages) else None
        document = {"jobs": [job(each) for each in ids], "next": following}
        daemon.replies("GET /jobs", Reply((json.dumps(document).encode(),)))


def test_all_follows_every_page(foreman: Any, daemon: Any) -> None:
    pages(daemon, ["D", "C"], ["B", "A"])
    ran = foreman("jobs", "--all", "--state", "queued")
    assert [line.split()[0] for line in ran.out.splitlines()] == ["ID", "D", "C", "B", "A"]
    assert [path for path, _ in daemon.asked] == [
        "/jobs?state=queued&limit=500",
        "/jobs?state=queued&limit=500&before=C",
    ]


def test_all_of_a_long_list_has_one_heading(foreman: Any, daemon: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("foreman.cli.jobs.SCREENFUL", 1)
    pages(daemon, ["B", "A"])
    assert [line.split()[0] for line in foreman("jobs", "--all").out.splitlines()] == [
        "ID",
        "B",
        "A",
    ]


def test_all_as_json_is_a_job_a_line(foreman: Any, daemon: Any) -> None:
    pages(daemon, ["B"], ["A"])
    ran = foreman("jobs", "--all", "--json")
    assert [json.loads(line)["id"] for line in ran.out.splitlines()] == ["B", "A"]


def test_the_ids_alone_are_for_other_commands(foreman: Any, daemon: Any) -> None:
    pages(daemon, ["B"], ["A"])
    assert foreman("jobs", "--ids", "--all").out == "B\nA\n"
    pages(daemon, ["B"], ["A"])
    assert foreman("jobs", "--ids").out == "B\n"


def test_no_jobs_at_all_is_said_beside_the_output(foreman: Any, daemon: Any) -> None:
    pages(daemon, [])
    ran = foreman("jobs", "--all")
    assert (ran.out, ran.err) == ("", "no jobs\n")
