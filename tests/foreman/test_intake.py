"""What a submission may say, and how each mistake is named."""

import hashlib
from typing import Any

import msgspec
import pytest

from foreman.admission import Refused
from foreman.intake import EVENT_TYPES, LAST_EVENTS, Invalid, idempotency_key, read
from foreman.jobs import JobClass, JobId
from foreman.rows import Idempotency

CHAT = {"model": "m", "messages": [{"role": "user", "content": "x"}]}


def body(**fields: Any) -> bytes:
    return msgspec.json.encode({"request": CHAT} | fields)


def test_a_submission_becomes_a_batch_job_with_the_very_bytes_of_its_request() -> None:
    request = b'{"model" : "m",  "messages":[], "options":{"num_ctx":8}}'
    whole = b'{"request":%s,"endpoint":"/api/chat","priority":-3,"labels":{"a":"b"}}' % request
    job = read(whole).new_job(JobId("X"), "ann", "key", 1_000_000)
    assert job.job_class is JobClass.BATCH
    assert (job.request, job.model, job.fingerprint.runner) == (request, "m", '{"num_ctx":8}')
    assert (job.priority, job.labels, job.owner, job.streamed) == (-3, {"a": "b"}, "ann", True)
    assert job.idempotency == Idempotency("key", hashlib.sha256(whole).digest())


def test_what_is_left_out_has_the_stated_defaults() -> None:
    job = read(body()).new_job(JobId("X"), "", None, 0)
    assert (job.endpoint, job.priority, job.labels) == ("/api/chat", 0, {})
    assert (job.webhook, job.artifacts, job.expires_at, job.idempotency) == (None,) * 4


def test_a_time_to_live_is_counted_from_the_submission() -> None:
    assert read(body(expires_in=1.5)).new_job(JobId("X"), "", None, 7).expires_at == 1_500_007


@pytest.mark.parametrize(
    ("events", "stored"),
    [
        (None, LAST_EVENTS),
        (["*"], EVENT_TYPES),
        (["job.done", "*"], EVENT_TYPES),
        (["job.working", "job.done", "job.working"], ("job.working", "job.done")),
    ],
)
def test_the_wanted_events_are_stored_in_full(
    events: list[str] | None, stored: tuple[str, ...]
) -> None:
    webhook = {"url": "http://x/"} | ({} if events is None else {"events": events})
    job = read(body(webhook=webhook)).new_job(JobId("X"), "", None, 0)
    assert job.webhook is not None
    assert msgspec.json.decode(job.webhook) == {"url": "http://x/", "events": list(stored)}


@pytest.mark.parametrize(
    ("wrong", "field", "text"),
    [
        (b"", "", "not JSON"),
        (b"nope", "", "not JSON"),
        (b'{"request":{}', "", "not JSON"),
        (b'{"request":' + b"[" * 100_000, "", "nested too deeply"),
        (b"[]", "", "expected `object`, got `array`"),
        (b"{}", "/request", "the field 'request' is missing"),
        (body(prio=1), "/prio", "did you mean 'priority'?"),
        (body(zzz=1), "/zzz", "write one of request, endpoint"),
        (body(priority=1.5), "/priority", "expected `int`, got `float`"),
        (body(priority=101), "/priority", "expected `int` <= 100"),
        (body(priority=-101), "/priority", "expected `int` >= -100"),
        (body(labels={"a": 1}), "/labels", "expected `str`, got `int`"),
        (body(labels={"": "x"}), "/labels", "length >= 1"),
        (body(labels={"a:b": "x"}), "/labels", "matching regex"),
        (body(labels={"a": "x" * 257}), "/labels", "length <= 256"),
        (body(labels={str(n): "" for n in range(33)}), "/labels", "length <= 32"),
        (body(artifacts="keep"), "/artifacts", "invalid enum value 'keep'"),
        (body(expires_in=0), "/expires_in", "expected `float` > 0.0"),
        (body(webhook={}), "/webhook/url", "the field 'url' is missing"),
        (body(webhook={"url": "u", "event": []}), "/webhook/event", "did you mean 'events'?"),
        (body(webhook={"url": "u", "events": []}), "/webhook/events", "length >= 1"),
        (body(webhook={"url": "u", "events": [1]}), "/webhook/events/0", "expected `str`"),
        (
            body(webhook={"url": "u", "events": ["*", "done"]}),
            "/webhook/events/1",
            "did you mean 'job.done'?",
        ),
        (body(endpoint="/api/chats"), "/endpoint", "did you mean '/api/chat'?"),
        (body(endpoint="/api/tags"), "/endpoint", "is not an endpoint for jobs"),
        (body(endpoint="/v1/audio/transcriptions"), "/endpoint", "is not an endpoint"),
        (body(request=[]), "/request", "write the JSON object"),
        (body(request="x"), "/request", "write the JSON object"),
    ],
)
def test_a_mistake_is_named_with_its_place(wrong: bytes, field: str, text: str) -> None:
    with pytest.raises(Invalid) as caught:
        read(wrong)
    assert caught.value.field == field
    assert text in caught.value.text


def test_what_ollama_would_refuse_is_refused_in_its_words() -> None:
    with pytest.raises(Refused, match="model is required"):
        read(body(request={"messages": []}))


@pytest.mark.parametrize(
    ("header", "named", "key"),
    [(b"", None, None), (b"k-1", None, "k-1"), (b"", "k", "k"), (b"k", "k", "k")],
)
def test_an_idempotency_key_comes_in_the_header_or_in_the_line(
    header: bytes, named: str | None, key: str | None
) -> None:
    assert idempotency_key(header, named) == key


@pytest.mark.parametrize(
    ("header", "named", "field"),
    [
        (b"a b", None, "Idempotency-Key"),
        (b"\xe4", None, "Idempotency-Key"),
        (b"x" * 256, None, "Idempotency-Key"),
        (b"", "", "Idempotency-Key"),
        (b"a", "b", "/idempotency_key"),
    ],
)
def test_a_bad_idempotency_key_is_refused(header: bytes, named: str | None, field: str) -> None:
    with pytest.raises(Invalid) as caught:
        idempotency_key(header, named)
    assert caught.value.field == field
