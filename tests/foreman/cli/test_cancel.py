import json
from typing import Any

from tests.foreman.cli.scripted_jobs import JOB, OTHER, failed, job


def test_a_job_is_cancelled_or_will_be(foreman: Any, daemon: Any) -> None:
    daemon.says(f"/jobs/{JOB}", failed(JOB, "cancelled"))
    daemon.says(f"/jobs/{OTHER}", job(OTHER, state="working"), 202)
    ran = foreman("cancel", JOB, OTHER)
    assert ran.status == 0
    assert ran.out == f"{JOB} is cancelled\n{OTHER} is being cancelled\n"
    assert [asked.method for asked in daemon.requests] == ["DELETE", "DELETE"]
    told = foreman("cancel", JOB, OTHER, "--json").out.splitlines()
    assert [json.loads(line)["id"] for line in told] == [JOB, OTHER]


def test_one_that_is_done_is_told_and_does_not_spare_the_others(foreman: Any, daemon: Any) -> None:
    daemon.says(f"/jobs/{JOB}", {"detail": "the job is done already"}, 409)
    daemon.says(f"/jobs/{OTHER}", failed(OTHER))
    ran = foreman("cancel", JOB, OTHER)
    assert ran.status == 1
    assert ran.out == f"{OTHER} is cancelled\n"
    assert ran.err == f"foreman: {JOB}: the job is done already\n"


def test_one_that_ended_in_the_meantime_is_not_called_cancelled(foreman: Any, daemon: Any) -> None:
    daemon.says(f"/jobs/{JOB}", job(JOB, state="done"))
    assert foreman("cancel", JOB).out == f"{JOB} was done before it could be cancelled\n"
