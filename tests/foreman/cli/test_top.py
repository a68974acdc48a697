import json
import signal
from typing import Any

import msgspec
import pytest

from foreman.cli import meter
from foreman.cli.connection import Daemon
from tests.foreman.cli.scripted import Reply, lines
from tests.foreman.cli.scripted_jobs import JOB, OTHER, ago, done, failed
from tests.foreman.cli.terminals import terminal
from tests.foreman.cli.test_queue import VIEW

HEALTH = {"status": "ok", "version": "1", "target": {"up": True, "models": 3}}


@pytest.fixture(autouse=True)
def _busy(daemon: Any) -> None:
    daemon.says("/healthz", HEALTH)
    daemon.answers["/queue"] = (200, msgspec.json.encode(VIEW))
    ended = [done(JOB, tokens_out=120, load_s=4.2), failed(OTHER) | {"finished_at": ago(1)}]
    daemon.says("/jobs", {"jobs": ended, "next": None})


def test_where_there_is_no_terminal_it_is_printed_once(foreman: Any, daemon: Any) -> None:
    ran = foreman("top")
    assert (ran.status, ran.err) == (0, "")
    facts, lanes, ended = ran.out.split("\n\n")
    assert "target   up, 3 models" in facts
    assert "01RUN" in facts
    assert len(lanes.splitlines()) == 4
    assert ended.splitlines()[1].split()[1:3] == [OTHER, "failed"]  # the last to end comes first
    assert next(line.split() for line in ended.splitlines() if JOB in line)[5:8] == [
        *("4.2s", "1m00s", "2.0")
    ]


def test_json_holds_all_three_answers(foreman: Any, daemon: Any) -> None:
    document = json.loads(foreman("top", "--json").out)
    assert document.keys() == {"health", "queue", "recent"}
    assert document["health"] == HEALTH


def test_on_a_terminal_it_lives_until_it_is_interrupted(foreman: Any, daemon: Any) -> None:
    with terminal("top") as top:
        screen = top.until(b"Ctrl-C ends").decode()
        top.process.send_signal(signal.SIGINT)
        left = top.rest()
        assert top.process.wait() == 130
    assert all(part in screen for part in ("01RUN", "2.0", OTHER, "gap_timeout"))
    assert "\x1b[?1049h" in screen
    assert b"\x1b[?1049l" in left  # the old screen is back


def test_a_job_that_is_answered_has_a_speed(daemon: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(meter, "CATCHING_UP", 0.0)
    daemon.replies(f"GET /jobs/{JOB}/output", Reply(lines(*[{"n": n} for n in range(10)])))
    speed = meter.Meter(Daemon(daemon.url))
    assert speed.shown() is None
    speed.follow(JOB)
    while not (shown := speed.shown()) or not shown.endswith("10 so far"):
        pass
    assert shown == "2.0 tokens/s, 10 so far"
    speed.follow(None)
    assert speed.shown() is None


def test_what_came_before_somebody_looked_does_not_count_as_speed(
    daemon: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(meter, "CATCHING_UP", 1000.0)
    daemon.replies(f"GET /jobs/{JOB}/output", Reply(lines(*[{"n": n} for n in range(10)])))
    speed = meter.Meter(Daemon(daemon.url))
    speed.follow(JOB)
    while not (shown := speed.shown()) or not shown.endswith("10 so far"):
        pass
    assert shown.startswith("0.0 tokens/s")
