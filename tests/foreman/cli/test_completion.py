import os
import socket
import subprocess
import sys
from typing import Any

import pytest

from tests.foreman.cli.scripted_jobs import JOB, OTHER, job


def offered(*words: str) -> list[str]:
    """What bash would offer after these words; the last is the one that is being typed."""
    program = "from foreman.cli.app import app; app(prog_name='foreman')"
    environment = os.environ | {
        "_FOREMAN_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(("foreman", *words)),
        "COMP_CWORD": str(len(words)),
    }
    command = [sys.executable, "-c", program]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.stderr == ""
    return ran.stdout.split()


@pytest.mark.parametrize("command", ["show", "cancel", "watch"])
def test_job_ids_are_offered(daemon: Any, command: str) -> None:
    daemon.says("/jobs", {"jobs": [job(JOB), job(OTHER)], "next": None})
    assert offered(command, JOB[:-2]) == [JOB, OTHER]
    assert offered(command, OTHER[:-1]) == [OTHER]


def test_models_and_states_are_offered(daemon: Any) -> None:
    daemon.says("/api/tags", {"models": [{"name": "small:latest"}, {"name": "big:1"}]})
    assert offered("submit", "sm") == ["small:latest"]
    assert offered("jobs", "--model", "b") == ["big:1"]
    assert offered("jobs", "--state", "q") == ["queued"]


@pytest.mark.parametrize("answer", [(401, b"{}"), (200, b"<html>"), (200, b'{"jobs": [1]}')])
def test_a_daemon_that_will_not_say_offers_nothing(daemon: Any, answer: tuple[int, bytes]) -> None:
    daemon.answers["/jobs"] = answer
    assert offered("show", "") == []


def test_a_daemon_that_hangs_or_is_not_there_offers_nothing(foreman: Any, monkeypatch: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("FOREMAN_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert offered("show", "") == []
    assert offered("show", "") == []
    monkeypatch.setenv("FOREMAN_URL", "nonsense")
    assert offered("show", "") == []
