"""The rules of webhooks: schedule, answers, payloads."""

import json
import random
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreman.delivery import (
    FIRST_PAUSE,
    INLINE,
    LONGEST_PAUSE,
    LONGEST_WAIT,
    SCHEDULE,
    TRIPS_AT,
    Attempt,
    Verdict,
    delay,
    first_id,
    message_id,
    pause,
    payload,
    trial,
    wait_asked,
    with_gap,
)
from foreman.jobs import FailureCode, JobClass, JobId, State
from foreman.rows import Artifact, Detail, Event, Failure, microseconds

AT = datetime(2027, 1, 15, 8, 0, 0, 250_000, UTC)
NOW = microseconds(AT)


def event(seq: int = 7, state: State = State.DONE, detail: Detail | None = None) -> Event:
    return Event(
        seq=seq,
        n=4,
        previous_seq=5,
        job=JobId("01ARZ3NDEKTSV4RRFFQ69G5FAV"),
        state=state,
        attempt=1,
        at=NOW,
        epoch=1,
        model="small",
        job_class=JobClass.BATCH,
        labels={"run": "7"},
        owner="alice",
        detail=detail or Detail(),
    )


def middle(least: float, most: float) -> float:
    return (least + most) / 2


def document(body: bytes) -> Any:
    return json.loads(body)


def test_the_schedule_is_ten_attempts_over_some_76_hours() -> None:
    pauses = [delay(failed, middle) for failed in range(1, 11)]
    assert pauses == [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400, None]
    assert sum(SCHEDULE) == 75 * 3600 + 35 * 60 + 5


@given(st.integers(1, 9), st.integers())
def test_every_pause_is_within_a_fifth_of_the_schedule(failed: int, seed: int) -> None:
    found = delay(failed, random.Random(seed).uniform)
    assert found is not None
    assert 0.8 * SCHEDULE[failed] <= found <= 1.2 * SCHEDULE[failed]


def test_the_breaker_opens_at_the_fifth_failure_and_doubles_up_to_an_hour() -> None:
    assert [pause(failures, middle) for failures in range(TRIPS_AT)] == [0] * TRIPS_AT
    opened = [pause(TRIPS_AT + probes, middle) for probes in range(9)]
    assert opened == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]
    assert pause(100_000, middle) == LONGEST_PAUSE
    assert pause(TRIPS_AT, lambda least, most: most) == 1.2 * FIRST_PAUSE


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (200, Verdict.DELIVERED),
        (204, Verdict.DELIVERED),
        (299, Verdict.DELIVERED),
        (300, Verdict.RETRY),
        (301, Verdict.RETRY),
        (308, Verdict.RETRY),
        (400, Verdict.RETRY),
        (410, Verdict.GONE),
        (429, Verdict.RETRY),
        (500, Verdict.RETRY),
        (None, Verdict.RETRY),
    ],
)
def test_the_status_decides(status: int | None, verdict: Verdict) -> None:
    assert Attempt(NOW, 0.1, status, "the connection broke").verdict is verdict


def test_a_blocked_address_is_not_tried_again() -> None:
    assert Attempt(NOW, 0.1, blocked=True).verdict is Verdict.BLOCKED


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120),
        (" 7 ", 7),
        ("Fri, 15 Jan 2027 08:01:00 GMT", 59.75),
        ("Fri, 15 Jan 2027 08:01:00 -0000", 59.75),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 0),
        ("Fri, 15 Jan 2037 08:00:00 GMT", LONGEST_WAIT),
        ("999999999999999999999", LONGEST_WAIT),
        ("-5", 0),
        ("soon", 0),
        ("", 0),
        ("\N{SUPERSCRIPT TWO}", 0),
        ("Fri, 99 Jan 2027 08:00:00 GMT", 0),
    ],
)
def test_retry_after_is_read_in_both_forms_and_capped(text: str, seconds: float) -> None:
    assert wait_asked(text, NOW) == seconds


@given(st.text())
def test_no_retry_after_breaks_the_reader(text: str) -> None:
    assert 0 <= wait_asked(text, NOW) <= LONGEST_WAIT


def test_an_id_sorts_by_time_and_number_and_has_no_dot() -> None:
    first, second = message_id(event(7)), message_id(event(8))
    assert first < second
    assert first.startswith("msg_")
    assert "." not in first
    assert first_id(AT) <= first
    assert message_id(event(7)) == first


def test_a_payload_is_the_event_in_the_envelope_of_standard_webhooks() -> None:
    failed = Detail(error=Failure(FailureCode.TRUNCATED, "it broke off"))
    found = document(payload(event(state=State.FAILED, detail=failed)))
    assert list(found) == ["type", "timestamp", "data"]
    assert found["type"] == "job.failed"
    assert found["timestamp"] == "2027-01-15T08:00:00.250000Z"
    assert found["data"] == json.loads(event(state=State.FAILED, detail=failed).to_json())
    assert found["data"]["error"]["code"] == "truncated"


def test_artifacts_are_links() -> None:
    artifact = Artifact("result.json", 1, "application/json", 9, b"\x01" * 32, inline=True)
    [link] = document(payload(event(), [artifact]))["data"]["artifacts"]
    assert link == {
        "name": "result.json",
        "content_type": "application/json",
        "size": 9,
        "sha256": "01" * 32,
        "url": "/jobs/01ARZ3NDEKTSV4RRFFQ69G5FAV/artifacts/result.json",
    }


def test_a_small_result_travels_along_and_a_large_one_does_not() -> None:
    assert document(payload(event(), (), b'{"a": 1}'))["data"]["result"] == {"a": 1}
    large = b'"' + b"x" * (INLINE - 2) + b'"'
    assert "result" not in document(payload(event(), (), large))["data"]


def test_a_gap_is_said_inside_the_data() -> None:
    body = payload(event(), (), b'{"a":{}}')
    found = document(with_gap(body))
    assert found["data"].pop("gap") is True
    assert found == document(body)


def test_a_self_test_has_a_type_of_its_own() -> None:
    assert document(trial(NOW))["type"] == "foreman.test"
