import json
from typing import Any

from tests.foreman.cli.scripted_jobs import JOB, ago, done, failed, job


def facts(foreman: Any, daemon: Any, document: dict[str, Any]) -> str:
    """What is shown, a fact a line, with one space between its name and its value."""
    daemon.says(f"/jobs/{JOB}", document)
    ran = foreman("show", JOB)
    assert (ran.status, ran.err) == (0, "")
    return "\n".join(" ".join(line.split()) for line in ran.out.splitlines())


def test_a_waiting_job_shows_its_place_and_its_terms(foreman: Any, daemon: Any) -> None:
    webhook = {"url": "http://me/x", "events": ["job.done"]}
    waiting = job(position=3, priority=2, labels={"a": "b"}, webhook=webhook, reason="restart")
    text = facts(foreman, daemon, waiting)
    for part in ("queued, 3 ahead of it", "a=b", "http://me/x (job.done)", "queued again: restart"):
        assert part in text


def test_a_finished_job_shows_its_answer_below_the_facts(foreman: Any, daemon: Any) -> None:
    artifact = {"name": "result.json", "content_type": "x", "size": 1234, "sha256": "0"}
    daemon.says(f"/jobs/{JOB}", done(tokens_in=3, tokens_out=40, artifacts=[artifact]))
    ran = foreman("show", JOB)
    head, _, answer = ran.out.partition("\n\n")
    assert answer == "Hello.\n"
    assert "3/40" in head
    assert "result.json (1,234 bytes)" in head
    assert "1m00s" in head


def test_a_failed_or_incomplete_job_says_so(foreman: Any, daemon: Any) -> None:
    assert "gap_timeout: no sign of life" in facts(foreman, daemon, failed())
    assert "never said that it had finished" in facts(foreman, daemon, done(incomplete=True))


def test_times_that_are_to_come_are_told_as_such(foreman: Any, daemon: Any) -> None:
    waiting = job(expires_at=ago(-3700), not_before=ago(-70))
    text = facts(foreman, daemon, waiting)
    assert "(in 1h01m)" in text
    assert "(in 1m" in text


def test_json_is_the_daemons_own_answer(foreman: Any, daemon: Any) -> None:
    daemon.says(f"/jobs/{JOB}", done(future_field=1))
    assert json.loads(foreman("show", JOB, "--json").out)["future_field"] == 1
