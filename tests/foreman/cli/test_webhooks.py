import json
from typing import Any

import pytest

from tests.foreman.cli.scripted_jobs import JOB, ago

DELIVERY = {
    "id": "msg_1",
    "endpoint": "http://me/x",
    "job": JOB,
    "seq": 3,
    "type": "job.done",
    "state": "pending",
    "attempts": [
        {"n": 1, "at": "2026-05-01T06:00:00Z", "seconds": 0.1, "status": 500, "error": None}
    ],
    "due_at": None,
    "created_at": "2026-05-01T06:00:00Z",
    "settled_at": None,
}


def ledger(daemon: Any, *deliveries: dict[str, Any], following: str | None = None) -> None:
    daemon.says("/webhooks/deliveries", {"deliveries": deliveries, "next": following})


def test_the_ledger_is_a_line_a_delivery(foreman: Any, daemon: Any) -> None:
    refused = {"attempts": [{"n": 1, "status": None, "error": "connection refused"}]}
    pending = DELIVERY | {"due_at": ago(-7230)}
    ledger(daemon, pending, DELIVERY | refused | {"state": "dead"}, following="msg_0")
    ran = foreman("webhooks", "deliveries")
    first, second = [line.split("  ") for line in ran.out.splitlines()[1:]]
    assert [each.strip() for each in first if each][:8] == [
        *("msg_1", "pending", "job.done", JOB, "1", "in 2h00m", "500", "http://me/x")
    ]
    assert "connection refused" in str(second)
    assert "in " not in " ".join(second)
    assert ran.err == "older: add --before msg_0\n"
    assert len(json.loads(foreman("webhooks", "deliveries", "--json").out)["deliveries"]) == 2


def test_the_filters_are_the_daemons_and_dead_is_one_of_them(foreman: Any, daemon: Any) -> None:
    ledger(daemon)
    options = ["--job", JOB, "--endpoint", "http://me/x", "--limit", "5", "--before", "msg_9"]
    assert foreman("webhooks", "dead", *options).err == "no deliveries\n"
    query = f"state=dead&job={JOB}&endpoint=http%3A%2F%2Fme%2Fx&limit=5&before=msg_9"
    assert daemon.requests[0].path == f"/webhooks/deliveries?{query}"


@pytest.mark.parametrize(
    ("arguments", "bodies"),
    [
        (["msg_1", "msg_2"], [{"id": "msg_1"}, {"id": "msg_2"}]),
        (["--job", JOB], [{"job": JOB}]),
        (
            ["--after", "2026-05-01T00:00:00Z", "--before", "2026-05-02T00:00:00Z"],
            [{"after": "2026-05-01T00:00:00Z", "before": "2026-05-02T00:00:00Z"}],
        ),
        (
            ["--after", "A", "--before", "B", "--state", "dead"],
            [{"after": "A", "before": "B", "state": "dead"}],
        ),
    ],
)
def test_replay_sends_again_what_is_named(
    foreman: Any, daemon: Any, arguments: list[str], bodies: list[dict[str, str]]
) -> None:
    daemon.says("/webhooks/deliveries/replay", {"replayed": 3}, 202)
    ran = foreman("webhooks", "replay", *arguments)
    assert (ran.status, ran.out) == (0, f"{3 * len(bodies)} will be sent again\n")
    assert [asked.json for asked in daemon.requests] == bodies


@pytest.mark.parametrize(
    "arguments", [[], ["msg_1", "--job", JOB], ["--after", "A"], ["--state", "dead"]]
)
def test_replay_wants_to_know_what_exactly(foreman: Any, daemon: Any, arguments: list[str]) -> None:
    assert foreman("webhooks", "replay", *arguments).status == 2
    assert daemon.requests == []


def test_a_receiver_is_tried(foreman: Any, daemon: Any) -> None:
    good = {"status": 204, "seconds": 0.05, "error": None, "signed": True}
    daemon.says("/webhooks/test", good)
    ran = foreman("webhooks", "test", "http://me/x")
    assert (ran.status, ran.out) == (0, "answered 204 after 0.1s, signed\n")
    assert daemon.requests[0].json == {"url": "http://me/x"}
    assert json.loads(foreman("webhooks", "test", "http://me/x", "--json").out) == good


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"status": 500, "seconds": 1.0, "signed": False}, "answered 500 after 1.0s, unsigned"),
        ({"status": None, "error": "connection refused"}, "connection refused, unsigned"),
    ],
)
def test_a_receiver_that_refuses_is_exit_status_1(
    foreman: Any, daemon: Any, answer: dict[str, Any], said: str
) -> None:
    daemon.says("/webhooks/test", answer)
    ran = foreman("webhooks", "test", "http://me/x")
    assert ran.status == 1
    assert ran.out.startswith(said)
    assert "did not accept" in ran.err


def test_receivers_are_listed_and_enabled(foreman: Any, daemon: Any) -> None:
    endpoint = {
        "url": "http://me/x",
        "state": "disabled",
        "reason": "410 Gone",
        "pending": 2,
        "dead": 1,
        "last_success_at": ago(5430),
        "retry_in": 30.0,
    }
    daemon.says("/webhooks/endpoints", {"endpoints": [endpoint]})
    line = foreman("webhooks", "endpoints").out.splitlines()[1]
    assert line.split() == [
        *("disabled", "2", "1", "1h30m", "ago"),
        *("410", "Gone,", "tried", "again", "in", "30s", "http://me/x"),
    ]
    daemon.says("/webhooks/endpoints/enable", endpoint | {"state": "ok"})
    assert foreman("webhooks", "enable", "http://me/x").err == "http://me/x is enabled\n"
    daemon.says("/webhooks/endpoints", {"endpoints": []})
    assert foreman("webhooks", "endpoints").err == "no endpoints\n"
