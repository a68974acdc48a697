"""Spans: ids as W3C and OTLP have them, who is traced, and what it costs where nobody is."""

import re
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.semconv import attributes as stable
from opentelemetry.semconv._incubating import attributes as incubating

from foreman.config import load
from foreman.errors import ConfigError
from foreman.jobs import JobIds
from foreman.otlp import Export
from foreman.recording import MOST_LINKS, Recorded, Recording
from foreman.tracing import (
    NO_SPAN,
    NO_TRACER,
    Role,
    SpanContext,
    Value,
    birth_of_job,
    context_of_job,
    parse_traceparent,
    traceparent,
)

ROOT = Path(__file__).parents[2]
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CONTEXT = SpanContext(int(TRACE, 16), int(SPAN, 16))


def recording(sample: float = 1.0) -> Recording:
    return Recording(sample, lambda spans: None)


@pytest.mark.parametrize(
    ("header", "sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-03", True),
        (f" 00-{TRACE}-{SPAN}-01 ", True),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-brings", True),
    ],
)
def test_a_traceparent_is_understood(header: str, sampled: bool) -> None:
    assert parse_traceparent(header.encode()) == (CONTEXT, sampled)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"0x-{TRACE}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01.more",
    ],
)
def test_what_is_no_traceparent_begins_a_trace_of_its_own(header: str) -> None:
    assert parse_traceparent(header.encode()) is None
    span = recording().request(header.encode())
    assert isinstance(span, Recorded)
    assert span.parent_id == 0
    assert span.context.trace_id != CONTEXT.trace_id


@given(st.integers(1, (1 << 128) - 1), st.integers(1, (1 << 64) - 1))
def test_a_header_of_ours_says_what_it_was_made_of(trace_id: int, span_id: int) -> None:
    context = SpanContext(trace_id, span_id)
    assert parse_traceparent(traceparent(context)) == (context, True)


def test_a_caller_that_does_not_sample_is_followed() -> None:
    assert recording().request(f"00-{TRACE}-{SPAN}-00".encode()) is NO_SPAN
    assert recording(0.0).request(f"00-{TRACE}-{SPAN}-01".encode()) is not NO_SPAN


@pytest.mark.parametrize(("share", "least", "most"), [(0, 0, 0), (0.25, 350, 650), (1, 2000, 2000)])
def test_a_share_is_traced(share: float, least: int, most: int) -> None:
    tracer, ids = recording(share), JobIds()
    requests = sum(tracer.request(b"").context is not None for _ in range(2000))
    assert least <= requests <= most
    jobs = [tracer.job(JobIds().new()) is not None for _ in range(2000)]
    assert least <= sum(jobs) <= most
    job = ids.new()
    assert tracer.job(job) == recording(share).job(job)  # after a restart, too


def test_a_job_names_its_trace_and_when_it_began() -> None:
    job = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
    context = context_of_job(job)
    assert f"{context.trace_id:032x}" == "01563e3ab5d3d6764c61efb99302bd5b"
    assert f"{context.span_id:016x}" == "4c61efb99302bd5b"
    assert birth_of_job(job) == 1469922850259 * 1_000_000
    root = recording().job_ended("job", job)
    assert isinstance(root, Recorded)
    assert (root.context, root.began, root.parent_id) == (context, birth_of_job(job), 0)


def test_a_span_ends_once_and_not_before_it_began() -> None:
    tracer = recording()
    far = 1 << 62
    span = tracer.begin("a", CONTEXT, at=far)
    span.end()
    span.end()
    [kept] = tracer.take(10)
    assert (kept.began, kept.ended) == (far, far)


def test_a_span_has_so_many_links_and_no_more() -> None:
    span = recording().request(b"")
    for number in range(1, 1000):
        span.link(numbered(number))
    assert isinstance(span, Recorded)
    assert span.links == tuple(map(numbered, range(1, MOST_LINKS + 1)))


def numbered(number: int) -> SpanContext:
    return SpanContext(number, number)


def test_nothing_is_recorded_below_what_is_not_traced() -> None:
    assert recording().begin("a", None) is NO_SPAN
    assert NO_TRACER.begin("a", CONTEXT) is NO_SPAN
    assert NO_TRACER.request(f"00-{TRACE}-{SPAN}-01".encode()) is NO_SPAN
    assert NO_TRACER.job("01ARZ3NDEKTSV4RRFFQ69G5FAV") is None


def test_every_kind_of_value_keeps_its_kind() -> None:
    said: dict[str, Value] = {"i": 1, "b": True, "f": 1.0, "s": "1", "big": (1 << 63) - 1}
    for _ in range(2):  # what was encoded before is copied
        span = Recorded(recording(), "n", Role.CLIENT, CONTEXT, 7, 1, dict(said))
        span.ended = 2
        export = Export()
        export.add(span)
        sent = ExportTraceServiceRequest.FromString(export.body())
        [found] = sent.resource_spans[0].scope_spans[0].spans
        values = {each.key: each.value for each in found.attributes}
        kinds = {key: value.WhichOneof("value") for key, value in values.items()}
        assert kinds == {
            "i": "int_value",
            "b": "bool_value",
            "f": "double_value",
            "s": "string_value",
            "big": "int_value",
        }
        assert (found.name, found.parent_span_id) == ("n", (7).to_bytes(8, "big"))
        assert (found.start_time_unix_nano, found.end_time_unix_nano) == (1, 2)


def test_the_names_are_those_of_opentelemetrys_conventions() -> None:
    known = {
        value
        for package in (stable, incubating)
        for module in iter_modules(package.__path__, f"{package.__name__}.")
        for value in vars(import_module(module.name)).values()
        if isinstance(value, str)
    }
    shaped = re.compile(r'"((?:gen_ai|http|server|url|error|service|network)\.[a-z_.]+)"')
    files = ("run_spans", "otlp", "target", "api/traced")
    sources = [ROOT / f"foreman/{name}.py" for name in files] + [ROOT / "actors/webhooks.py"]
    used = {name for source in sources for name in shaped.findall(source.read_text())}
    assert len(used) > 12
    assert not used - known


@pytest.mark.parametrize("absent", ["opentelemetry", "opentelemetry.proto"])
def test_without_the_extra_the_setting_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, absent: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FOREMAN_TRACES", "http://127.0.0.1:4318")
    assert load().traces == "http://127.0.0.1:4318"
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(ConfigError) as refused:
        load()
    assert str(refused.value) == (
        "FOREMAN_TRACES=http://127.0.0.1:4318 (environment): "
        "traces need an extra: pip install 'foreman-ollama[otel]'"
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("TRACES", "127.0.0.1:4318"),
        ("TRACES", "http://user:pass-word@127.0.0.1"),
        ("TRACES_SHARE", "1.1"),
        ("TRACES_SHARE", "-0.1"),
        ("TRACES_SHARE", "nan"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, key: str, value: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(f"FOREMAN_{key}", value)
    with pytest.raises(ConfigError, match=f"FOREMAN_{key}") as refused:
        load()
    assert "word" not in str(refused.value)


@pytest.mark.parametrize("order", [(1, True, 1.0), (1.0, 1, True), (True, 1.0, 1)])
def test_one_name_may_have_values_that_are_equal_and_yet_of_other_kinds(
    order: tuple[Value, ...],
) -> None:
    export = Export()
    for value in order:
        span = Recorded(recording(), "n", Role.CLIENT, CONTEXT, attributes={"equal": value})
        span.ended = span.began
        export.add(span)
    sent = ExportTraceServiceRequest.FromString(export.body())
    kinds = [each.attributes[0].value for each in sent.resource_spans[0].scope_spans[0].spans]
    names = {int: "int_value", bool: "bool_value", float: "double_value"}
    assert [each.WhichOneof("value") for each in kinds] == [names[type(each)] for each in order]
