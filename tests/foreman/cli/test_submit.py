import json
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.foreman.cli.scripted import Reply, lines
from tests.foreman.cli.scripted_jobs import JOB, done, failed, job


def accepting(daemon: Any) -> None:
    daemon.says("/jobs", job(), 202)


def test_a_prompt_becomes_a_chat_and_the_id_is_all_that_is_printed(
    foreman: Any, daemon: Any
) -> None:
    accepting(daemon)
    ran = foreman("submit", "qwen3:8b", "Why is the sky blue?")
    assert (ran.status, ran.out, ran.err) == (0, f"{JOB}\n", "")
    messages = [{"role": "user", "content": "Why is the sky blue?"}]
    assert daemon.requests[0].json == {
        "endpoint": "/api/chat",
        "request": {"model": "qwen3:8b", "messages": messages},
    }


@pytest.mark.parametrize(
    ("options", "endpoint", "request_"),
    [
        (["--generate"], "/api/generate", {"model": "m", "prompt": "x"}),
        (["--embed"], "/api/embed", {"model": "m", "input": "x"}),
        (["--endpoint", "/v1/responses"], "/v1/responses", {"model": "m", "input": "x"}),
    ],
)
def test_the_route_decides_the_shape_of_the_request(
    foreman: Any, daemon: Any, options: list[str], endpoint: str, request_: dict[str, str]
) -> None:
    accepting(daemon)
    assert foreman("submit", "m", "x", *options).status == 0
    assert daemon.requests[0].json == {"endpoint": endpoint, "request": request_}


def test_what_stands_beside_the_request_is_sent_as_the_api_wants_it(
    foreman: Any, daemon: Any
) -> None:
    accepting(daemon)
    options = ["--label", "a=b=c", "--label", "d=", "--priority", "-3", "--expires-in", "10m"]
    options += ["--webhook", "http://me/x", "--webhook-events", "done, job.failed,*"]
    assert foreman("submit", "m", "x", *options, "--artifacts", "fetch").status == 0
    sent = daemon.requests[0].json
    del sent["request"], sent["endpoint"]
    assert sent == {
        "labels": {"a": "b=c", "d": ""},
        "priority": -3,
        "webhook": {"url": "http://me/x", "events": ["job.done", "job.failed", "*"]},
        "artifacts": "fetch",
        "expires_in": 600.0,
    }


@pytest.mark.parametrize("prompt", [[], ["-"]])
def test_a_prompt_is_read_from_standard_input(foreman: Any, daemon: Any, prompt: list[str]) -> None:
    accepting(daemon)
    assert foreman("submit", "m", *prompt, stdin="two\nlines\n").status == 0
    assert daemon.requests[0].json["request"]["messages"][0]["content"] == "two\nlines\n"


@pytest.mark.parametrize("source", ["-", "request.json"])
def test_a_whole_request_comes_from_a_file_or_standard_input(
    foreman: Any, daemon: Any, source: str
) -> None:
    accepting(daemon)
    text = json.dumps({"model": "m", "prompt": "x", "options": {"seed": 1}})
    Path("request.json").write_text(text)
    assert foreman("submit", "--request", source, "--generate", stdin=text).status == 0
    assert daemon.requests[0].json["request"] == json.loads(text)
    assert foreman("submit", "other", "--request", "request.json").status == 0
    assert daemon.requests[1].json["request"]["model"] == "other"


@pytest.mark.parametrize(
    "arguments",
    [
        ["m", "x", "--generate", "--embed"],
        ["m", "x", "--request", "f"],
        ["--generate"],
        ["m", "x", "--label", "novalue"],
        ["m", "x", "--expires-in", "soon"],
        ["m", "x", "--priority", "101"],
        ["m", "x", "--webhook-events", "done"],
        ["m", "x", "--endpoint", "/v1/messages"],
        ["--request", "missing.json"],
        ["--file", "missing.ndjson"],
        ["--prompts", "p.txt"],
    ],
)
def test_wrong_usage_asks_nobody(foreman: Any, daemon: Any, arguments: list[str]) -> None:
    Path("p.txt").write_text("x\n")
    assert foreman("submit", *arguments).status == 2
    assert daemon.requests == []


def test_a_key_is_made_and_one_that_is_given_is_used(foreman: Any, daemon: Any) -> None:
    accepting(daemon)
    for options in ([], [], ["--key", "mine"]):
        foreman("submit", "m", "x", *options)
    keys = [asked.headers["idempotency-key"] for asked in daemon.requests]
    assert len(set(keys)) == 3
    assert keys[2] == "mine"


def test_a_lost_answer_is_asked_for_again_under_the_same_key(foreman: Any, daemon: Any) -> None:
    accepting(daemon)
    daemon.replies("POST /jobs", Reply((b'{"id"',), cut=True), Reply((b'{"id"',), cut=True))
    ran = foreman("submit", "m", "x")
    assert (ran.status, ran.out) == (0, f"{JOB}\n")
    assert len({asked.headers["idempotency-key"] for asked in daemon.requests}) == 1
    assert len(daemon.requests) == 3
    assert "Waiting for it to come back" in ran.err


def test_a_refusal_is_not_repeated_and_names_the_place(foreman: Any, daemon: Any) -> None:
    daemon.says("/jobs", {"detail": "too many labels", "field": "/labels"}, 400)
    ran = foreman("submit", "m", "x")
    assert (ran.status, ran.err) == (1, "foreman: too many labels (at /labels)\n")
    assert len(daemon.requests) == 1


def test_waiting_prints_the_answer_and_the_id_beside_it(foreman: Any, daemon: Any) -> None:
    accepting(daemon)
    daemon.says(f"/jobs/{JOB}/wait", done())
    ran = foreman("submit", "m", "x", "--wait")
    assert (ran.status, ran.out, ran.err) == (0, "Hello.\n", f"{JOB}\n")


def test_a_job_that_fails_while_it_is_waited_for_is_exit_status_5(
    foreman: Any, daemon: Any
) -> None:
    accepting(daemon)
    daemon.says(f"/jobs/{JOB}/wait", failed())
    ran = foreman("submit", "m", "x", "--wait")
    assert (ran.status, ran.out) == (5, "")
    assert "gap_timeout: no sign of life" in ran.err


def test_json_is_the_daemons_own_answer(foreman: Any, daemon: Any) -> None:
    accepting(daemon)
    assert json.loads(foreman("submit", "m", "x", "--json").out)["id"] == JOB


def test_many_jobs_come_from_a_file_with_what_the_options_add(foreman: Any, daemon: Any) -> None:
    Path("jobs.ndjson").write_text(
        '{"request": {"prompt": "a"}, "labels": {"own": "1"}}\n'
        "\n"
        '{"request": {"model": "b", "prompt": "b"}, "priority": 9, "idempotency_key": "k"}\n'
    )
    accepted = {"status": 202, "job": {"id": JOB, "state": "queued"}}
    daemon.replies("POST /jobs/bulk", Reply(lines(accepted | {"line": 1}, accepted | {"line": 2})))
    options = ["--file", "jobs.ndjson", "--generate", "--label", "x=y", "--priority", "1"]
    ran = foreman("submit", "m", *options, "--key", "K")
    assert (ran.status, ran.out) == (0, f"{JOB}\n{JOB}\n")
    assert ran.err == "2 accepted; 0 refused\n"
    first, second = map(json.loads, daemon.requests[0].body.splitlines())
    assert first == {
        "endpoint": "/api/generate",
        "request": {"model": "m", "prompt": "a"},
        "labels": {"x": "y", "own": "1"},
        "priority": 1,
        "idempotency_key": "K-1",
    }
    assert second["request"]["model"] == "b"
    assert (second["priority"], second["idempotency_key"]) == (9, "k")


def test_a_line_that_is_refused_fails_alone_and_is_named_by_its_number(
    foreman: Any, daemon: Any
) -> None:
    text = "one\n\ntwo\n"
    error = {"title": "Bad Request", "detail": "no such model"}
    answer = [
        {"line": 1, "status": 200, "job": {"id": JOB, "state": "done"}},
        {"line": 2, "status": 404, "error": error},
    ]
    daemon.replies("POST /jobs/bulk", Reply(lines(*answer)), Reply(lines(*answer)))
    ran = foreman("submit", "m", "--prompts", "-", stdin=text)
    assert (ran.status, ran.out) == (1, f"{JOB}\n")
    assert "line 3: 404 no such model\n" in ran.err
    assert "1 accepted, 1 of them were there already; 1 refused" in ran.err
    ran = foreman("submit", "m", "--prompts", "-", "--json", stdin=text)
    assert [json.loads(line)["line"] for line in ran.out.splitlines()] == [1, 3]


def test_a_batch_whose_answer_breaks_off_or_that_finds_a_busy_store_is_sent_again(
    foreman: Any, daemon: Any
) -> None:
    good = {"line": 1, "status": 202, "job": {"id": JOB, "state": "queued"}}
    busy = {"line": 2, "status": 503, "error": {"detail": "busy"}}
    whole = Reply(lines(good, good | {"line": 2}))
    half, crowded = Reply(lines(good), cut=True), Reply(lines(good, busy))
    daemon.replies("POST /jobs/bulk", half, crowded, whole)
    ran = foreman("submit", "m", "--prompts", "-", stdin="a\nb\n")
    assert (ran.status, ran.out) == (0, f"{JOB}\n{JOB}\n")
    assert len({asked.body for asked in daemon.requests}) == 1


def test_many_lines_go_in_batches_and_keep_their_order(
    foreman: Any, daemon: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("foreman.cli.bulk.BATCH_LINES", 2)

    def answer(*ids: str) -> Reply:
        made = enumerate(ids, start=1)
        return Reply(lines(*({"line": n, "status": 202, "job": {"id": each}} for n, each in made)))

    daemon.replies("POST /jobs/bulk", answer("A", "B"), answer("C", "D"), answer("E"))
    ran = foreman("submit", "m", "--prompts", "-", stdin="a\nb\nc\nd\ne\n")
    assert ran.out == "A\nB\nC\nD\nE\n"


def test_a_line_that_is_no_object_stops_before_it_is_sent(foreman: Any, daemon: Any) -> None:
    ran = foreman("submit", "--file", "-", stdin='{"request": {}}\nhello\n')
    assert ran.status == 2
    assert "line 2 is not a job" in ran.err


def test_an_answer_that_does_not_come_ends_with_the_key_that_makes_it_safe(
    foreman: Any, monkeypatch: Any
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("FOREMAN_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setattr("foreman.cli.connection.PATIENCE", 0.01)
        ran = foreman("submit", "m", "x", "--key", "mine")
    assert ran.status == 3
    assert "may have been accepted: the same again with --key mine is safe" in ran.err
