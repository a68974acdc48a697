import json
from pathlib import Path
from typing import Any

from tests.foreman.cli.scripted import Reply, lines
from tests.foreman.cli.scripted_jobs import JOB, OTHER, done, event, failed, job

RECORDS = [{"message": {"content": word}, "done": False} for word in ("one", " two", " three")]
RESYNC = {"type": "resync", "after": 9, "first_seq": 4, "last_seq": 7}


def down(times: int) -> list[Reply]:
    """What a proxy says while the daemon restarts."""
    return [Reply(status=503)] * times


def test_wait_polls_until_the_job_has_ended(foreman: Any, daemon: Any) -> None:
    still = Reply(lines(job()))
    daemon.replies(f"GET /jobs/{JOB}/wait", still, still, Reply(lines(done())))
    ran = foreman("wait", JOB)
    assert ran.status == 0
    assert ran.out.splitlines()[1].split()[:2] == [JOB, "done"]
    assert daemon.requests[0].path.endswith("/wait?timeout=30.000")


def test_wait_takes_ids_from_standard_input_and_tells_of_failures(
    foreman: Any, daemon: Any
) -> None:
    daemon.says(f"/jobs/{JOB}/wait", done())
    daemon.says(f"/jobs/{OTHER}/wait", failed(OTHER))
    ran = foreman("wait", "-", "--json", stdin=f"{JOB}\n{OTHER}\n\n{JOB}\n")
    assert ran.status == 5
    assert [json.loads(line)["id"] for line in ran.out.splitlines()] == [JOB, OTHER]
    assert ran.err == "foreman: 1 of 2 failed\n"


def test_wait_gives_up_when_its_time_is_over(foreman: Any, daemon: Any) -> None:
    daemon.says(f"/jobs/{JOB}/wait", job())
    ran = foreman("wait", JOB, "--timeout", "0")
    assert (ran.status, ran.out) == (6, "")
    assert "it goes on" in ran.err


def test_wait_survives_a_restart_and_says_so_once(foreman: Any, daemon: Any) -> None:
    broken = Reply((b"{",), cut=True)
    daemon.replies(f"GET /jobs/{JOB}/wait", broken, *down(3), Reply(lines(done())))
    ran = foreman("wait", JOB)
    assert ran.status == 0
    assert ran.err.count("Waiting for it to come back") == 1
    assert ran.err.endswith("foreman: it is back\n")


def test_wait_for_a_job_that_is_not_there_ends_at_once(foreman: Any, daemon: Any) -> None:
    daemon.says(f"/jobs/{JOB}/wait", {"detail": "there is no job"}, 404)
    assert foreman("wait", JOB).status == 1
    assert len(daemon.requests) == 1


def test_ctrl_c_leaves_the_job_running_and_says_so(foreman: Any, monkeypatch: Any) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("foreman.cli.following._polled", interrupt)
    ran = foreman("wait", JOB)
    assert ran.status == 130
    assert "the jobs go on" in ran.err
    monkeypatch.setattr("foreman.cli.following.head", interrupt)
    ran = foreman("watch")
    assert (ran.status, "the jobs go on" in ran.err) == (130, True)


def test_output_prints_the_words_and_json_the_records(foreman: Any, daemon: Any) -> None:
    daemon.says(f"/jobs/{JOB}", job())
    whole = Reply(lines(*RECORDS))
    daemon.replies(f"GET /jobs/{JOB}/output", whole, whole)
    assert foreman("output", JOB).out == "one two three\n"
    ran = foreman("output", JOB, "--json", "--from", "7")
    assert [json.loads(line) for line in ran.out.splitlines()] == RECORDS
    assert daemon.requests[-1].path.endswith("/output?from=7")


def test_output_goes_on_where_the_connection_broke(foreman: Any, daemon: Any) -> None:
    daemon.says(f"/jobs/{JOB}", job())
    run = {"X-Foreman-Attempt": "2.1"}
    daemon.replies(
        f"GET /jobs/{JOB}/output",
        Reply(lines(*RECORDS[:2]), headers=run, cut=True),
        Reply(lines(RECORDS[2]), headers=run),
    )
    ran = foreman("output", JOB)
    assert (ran.status, ran.out, ran.err) == (0, "one two three\n", "")
    assert daemon.requests[-1].path.endswith("/output?from=2&attempt=2.1")


def test_output_starts_over_when_the_job_is_tried_anew(foreman: Any, daemon: Any) -> None:
    daemon.says(f"/jobs/{JOB}", job())
    over = json.dumps({"detail": "run 1 is over", "code": "attempt_over"}).encode()
    daemon.replies(
        f"GET /jobs/{JOB}/output",
        Reply(lines(RECORDS[0]), headers={"X-Foreman-Attempt": "1"}, cut=True),
        Reply((over,), 409),
        Reply(lines(*RECORDS), headers={"X-Foreman-Attempt": "2"}),
    )
    ran = foreman("output", JOB, "--json")
    assert ran.status == 0
    assert len(ran.out.splitlines()) == 4
    assert "the answer restarts" in ran.err
    assert daemon.requests[-1].path.endswith("/output?from=0")


def test_output_of_a_failed_job_is_exit_status_5(foreman: Any, daemon: Any) -> None:
    daemon.says(f"/jobs/{JOB}", job())
    document = {"detail": "gap_timeout: silence", "code": "job_failed"}
    daemon.says(f"/jobs/{JOB}/output", document, 409)
    ran = foreman("output", JOB)
    assert (ran.status, ran.out) == (5, "")
    assert f"{JOB} failed: gap_timeout: silence\n" in ran.err


def test_outputs_are_written_as_texts_and_a_failed_job_spares_the_others(
    foreman: Any, daemon: Any
) -> None:
    for each in (JOB, OTHER):
        daemon.says(f"/jobs/{each}", job(each))
    document = {"detail": "gap_timeout: silence", "code": "job_failed"}
    daemon.says(f"/jobs/{OTHER}/output", document, 409)
    over = Reply((b'{"detail": "over", "code": "attempt_over"}',), 409)
    cut, whole = Reply(lines(RECORDS[0]), cut=True), Reply(lines(*RECORDS))
    daemon.replies(f"GET /jobs/{JOB}/output", cut, over, whole)
    ran = foreman("output", OTHER, "-", "--to", "texts", stdin=JOB)
    path = Path("texts") / f"{JOB}.txt"
    assert (ran.status, ran.out) == (5, f"{path}\n")
    assert path.read_text() == "one two three\n"
    assert foreman("output", JOB, "--to", "texts", "--json").status == 2


def test_watching_a_job_ends_with_it(foreman: Any, daemon: Any) -> None:
    daemon.replies(
        f"GET /jobs/{JOB}/events",
        Reply(
            lines(
                event(1, "queued"),
                event(2, "loading", resident=False),
                event(3, "working", load_s=3.21),
                event(4, "queued", reason="target_lost", message="gone"),
                event(5, "done", tokens_out=12, attempt=2, incomplete=True),
            )
        ),
    )
    ran = foreman("watch", JOB)
    assert (ran.status, ran.err) == (0, "")
    told = [line.split(maxsplit=4)[3:] for line in ran.out.splitlines()]
    assert told == [
        ["queued"],
        ["loading", "the model has to be loaded"],
        ["working", "loaded in 3.2s"],
        ["queued", "again: target_lost (gone)"],
        ["done", "12 tokens, incomplete, attempt 2"],
    ]


def test_watching_a_job_that_fails_is_exit_status_5(foreman: Any, daemon: Any) -> None:
    last = event(2, "failed", error={"code": "expired", "message": "too late"})
    daemon.replies(f"GET /jobs/{JOB}/events", Reply(lines(last)))
    ran = foreman("watch", JOB, "--json")
    assert ran.status == 5
    assert json.loads(ran.out) == last
    assert "expired: too late" in ran.err


def test_watching_everything_starts_at_the_head_and_resumes_after_a_restart(
    foreman: Any, daemon: Any
) -> None:
    daemon.replies(
        "GET /events",
        Reply(lines({"type": "resync", "reason": "ahead", "after": 10**18 - 1, "last_seq": 5})),
        Reply(lines(event(6, "queued")), cut=True),
        *down(2),
        Reply(lines(event(7, "loading"))),
        Reply(status=401),
    )
    ran = foreman("watch", "--label", "batch=x", "--state", "queued", "--json")
    assert [json.loads(line)["seq"] for line in ran.out.splitlines()] == [6, 7]
    assert [asked.path.rpartition("after=")[2] for asked in daemon.requests] == [
        f"{10**18 - 1}&follow=0",
        *("5", "6", "6", "6"),
        "7",
    ]
    assert "state=queued&label=batch%3Ax" in daemon.requests[1].path
    assert "foreman: it is back\n" in ran.err
    assert ran.status == 1


def test_events_that_are_missing_are_told_of(foreman: Any, daemon: Any) -> None:
    daemon.replies(
        f"GET /jobs/{JOB}/events",
        Reply(lines(RESYNC | {"reason": "expired"})),
        Reply(lines(event(4, "loading"), {"type": "slow", "last_seq": 4})),
        Reply(lines(RESYNC | {"reason": "ahead"})),
        Reply(lines(event(8, "done"))),
    )
    ran = foreman("watch", JOB, "--json")
    assert ran.status == 0
    assert [json.loads(line)["seq"] for line in ran.out.splitlines()] == [4, 8]
    assert [asked.path.rpartition("=")[2] for asked in daemon.requests] == ["0", "3", "4", "7"]
    assert "events before 4 were deleted" in ran.err
    assert "another database?" in ran.err


def test_watching_ends_with_the_job_also_where_the_filters_leave_its_end_out(
    foreman: Any, daemon: Any
) -> None:
    daemon.replies(f"GET /jobs/{JOB}/events", *[Reply(lines(event(1, "queued")))] * 2)
    daemon.replies(f"GET /jobs/{JOB}", Reply(lines(job())), Reply(lines(done())))
    ran = foreman("watch", JOB, "--state", "queued", "--json")
    assert (ran.status, ran.err) == (0, "")
    assert len(ran.out.splitlines()) == 2
