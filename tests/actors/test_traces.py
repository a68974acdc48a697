"""The deliverer of traces: in time, bounded, and quiet while the collector is away."""

import logging
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from trio.testing import MockClock

from actors import traces
from actors.mailbox import nudge
from actors.messages import Traced
from actors.supervisor import Child, RestartBudget, keep_running
from foreman.recording import DUE, LIMIT, Recording
from foreman.target import Answer
from foreman.wire import Request
from tests.fakes.target import FakeTarget, Says

OK = Says([b""])
PATH = "/v1/traces"


class Sink(FakeTarget):
    """A collector that keeps the names of the spans it said yes to."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.sizes: list[int] = []

    async def fetch(self, request: Request, limit: int = 64 << 20) -> tuple[Answer, bytes]:
        answer, body = await super().fetch(Request(request.method, request.path), limit)
        if answer.status == 200:
            sent = ExportTraceServiceRequest.FromString(request.body)
            [group] = sent.resource_spans
            [scope] = group.scope_spans
            self.names += [span.name for span in scope.spans]
            self.sizes.append(len(scope.spans))
        return answer, body


@dataclass
class Outlet:
    recording: Recording
    collector: Sink
    counts: Counter[str] = field(default_factory=Counter[str])

    def spans(self, *names: str) -> None:
        """Requests that have ended."""
        for name in names:
            span = self.recording.request(b"")
            span.name = name
            span.end()


@asynccontextmanager
async def delivering(*answers: Says) -> AsyncGenerator[Outlet]:
    """Until the block ends; then what is left is delivered."""
    hint, hints = trio.open_memory_channel[Traced](1)
    counts = Counter[str]()

    def count(outcome: str, spans: int) -> None:
        counts[outcome] += spans

    recording = Recording(1.0, lambda n: count("dropped", n), lambda: nudge(hint, Traced()))
    collector = Sink()
    collector.plays(PATH, *(answers or [OK]))
    ports = traces.Ports(recording, collector, count)
    with hints:
        async with trio.open_nursery() as nursery:
            run = Child(
                "traces", lambda task_status: traces.run(hints, ports, task_status=task_status)
            )
            await nursery.start(keep_running, run, RestartBudget(0, 60), 0.5)
            yield Outlet(recording, collector, counts)
            hint.close()


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.message for each in caplog.records if each.levelno >= logging.WARNING]


async def test_a_span_waits_a_second_at_most(autojump_clock: MockClock) -> None:
    async with delivering() as outlet:
        await trio.sleep(0.5)
        outlet.spans("a", "b")
        await trio.sleep(1.2)
        assert outlet.collector.names == ["a", "b"]
        assert outlet.counts == {"exported": 2}
    assert outlet.collector.asked(PATH) == [1.0]  # nothing is sent where nothing is to be said


async def test_many_spans_are_delivered_at_once_and_in_bounded_requests(
    autojump_clock: MockClock,
) -> None:
    async with delivering() as outlet:
        outlet.spans(*map(str, range(DUE)))
        await trio.testing.wait_all_tasks_blocked()
        assert (trio.current_time(), outlet.counts["exported"]) == (0.0, DUE)
        outlet.spans(*map(str, range(2500)))
        await trio.sleep(0.1)
        assert outlet.collector.sizes == [DUE, 1024, 1024, 452]


async def test_while_the_collector_is_away_one_line_is_enough(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with delivering() as outlet:
        outlet.collector.up = False
        for number in range(600):
            outlet.spans(str(number))
            await trio.sleep(1)
        assert len(complaints(caplog)) == 1
        assert not outlet.collector.names
        outlet.collector.up = True
        await trio.sleep(31)
        assert outlet.collector.names == list(map(str, range(600)))
        assert outlet.counts == {"exported": 600}
    assert len(complaints(caplog)) == 1
    assert caplog.messages[-1] == "the collector takes traces again"


async def test_what_finds_no_room_is_dropped_and_counted(autojump_clock: MockClock) -> None:
    async with delivering() as outlet:
        outlet.collector.up = False
        outlet.spans("first")
        await trio.sleep(1.5)  # it is in hand now
        outlet.spans(*map(str, range(LIMIT + 7)))
        assert outlet.recording.waiting == LIMIT
        assert outlet.counts == {"dropped": 7}
        outlet.collector.up = True
        await trio.sleep(31)
        assert outlet.collector.names == ["first", *map(str, range(LIMIT))]


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_what_the_collector_wants_later_is_sent_again(
    autojump_clock: MockClock, status: int
) -> None:
    async with delivering(Says([b""], status=status), OK) as outlet:
        outlet.spans("a")
        await trio.sleep(5)
        assert outlet.collector.names == ["a"]
        assert len(outlet.collector.asked(PATH)) == 2


async def test_what_the_collector_refuses_is_dropped(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    no = Says([b"no"], status=400)
    async with delivering(no, no, OK) as outlet:
        for name in "abc":
            outlet.spans(name)
            await trio.sleep(2)
        assert outlet.collector.names == ["c"]
        assert outlet.counts == {"dropped": 2, "exported": 1}
    assert len(complaints(caplog)) == 1


async def test_a_span_that_cannot_be_told_is_left_out_and_no_other(
    autojump_clock: MockClock,
) -> None:
    async with delivering() as outlet:
        outlet.spans("a", "bad\ud800", "b")
        await trio.sleep(2)
        assert outlet.counts == {"dropped": 1, "exported": 2}
        assert outlet.collector.names == ["a", "b"]


async def test_a_stop_delivers_what_is_left(autojump_clock: MockClock) -> None:
    async with delivering() as outlet:
        await trio.sleep(0.2)
        outlet.spans("a")
    assert (outlet.collector.names, trio.current_time()) == (["a"], 0.2)


async def test_a_stop_waits_a_second_for_a_collector_that_hangs(autojump_clock: MockClock) -> None:
    async with delivering(Says(before=[1000])) as outlet:
        outlet.spans("a")
        await trio.sleep(2)
    assert trio.current_time() == 3


async def test_a_stop_tries_a_collector_that_was_away_once_more(autojump_clock: MockClock) -> None:
    async with delivering() as outlet:
        outlet.collector.up = False
        outlet.spans("a")
        await trio.sleep(100)
        outlet.collector.up = True
    assert outlet.collector.names == ["a"]
    assert trio.current_time() == 100
