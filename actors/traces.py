"""The deliverer of traces: takes the spans that have ended to a collector, as OTLP over HTTP.

Inbox:  the hint Traced, and no other: the spans wait in the tracer.
Owns:   its connection to the collector, and what the collector has not taken yet.
Crash:  the spans in hand are lost, others are not. A trace that cannot be told never is a crash.
"""

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from actors.messages import Traced
from foreman import __version__
from foreman.errors import TargetError
from foreman.otlp import Export
from foreman.recording import Recorded, Recording
from foreman.target import Target
from foreman.wire import Request

log = logging.getLogger("foreman.traces")

EVERY = 1.0  # seconds that a span waits at most, unless the collector is away
AT_ONCE = 1024  # spans in a request: some 300 KB
SLICE = 32  # spans turned into bytes between two turns of the event loop: 0.2 ms
ANSWER = 10.0  # seconds that the collector has for its answer
ANSWER_BYTES = 1 << 20
AWAY_CAP = 30.0  # seconds between two tries at a collector that takes nothing
FAREWELL = 1.0  # seconds for what is left when the daemon stops
AGAIN = frozenset({429, 502, 503, 504})  # as OTLP says; any other refusal is final
PATH = b"/v1/traces"
HEADERS = (
    (b"content-type", b"application/x-protobuf"),
    (b"user-agent", f"foreman/{__version__}".encode()),
)


@dataclass(frozen=True, slots=True)
class Ports:
    """What it stands on. `counted(outcome, spans)` hears of what was exported or dropped."""

    recording: Recording
    collector: Target
    counted: Callable[[str, int], None]


@dataclass(slots=True)
class _State:
    due: trio.Event = field(default_factory=trio.Event)
    stopping: trio.Event = field(default_factory=trio.Event)
    body: bytes = b""  # a request that the collector has not taken yet
    spans: int = 0  # in it
    away: int = 0  # tries in a row that came to nothing
    complained: bool = False  # about this outage: one line is enough


async def run(
    hints: trio.MemoryReceiveChannel[Traced],
    ports: Ports,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Deliver until the channel is closed; then what is left, for at most FAREWELL seconds."""
    state = _State()
    with hints.clone() as traced:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_deliver, state, ports)
            task_status.started()
            async for _ in traced:
                state.due.set()
            state.stopping.set()
            state.due.set()
            nursery.cancel_scope.deadline = trio.current_time() + FAREWELL


async def _deliver(state: _State, ports: Ports) -> None:
    while True:
        await _pause(state)
        while state.body or ports.recording.waiting:
            if not state.body:
                await _pack(state, ports)
            if not await _post(state, ports):
                break
        if state.stopping.is_set():
            return


async def _pause(state: _State) -> None:
    if state.away:
        pause = min(AWAY_CAP, 2.0 ** min(state.away, 9)) * random.uniform(0.8, 1.0)
        with trio.move_on_after(pause):
            await state.stopping.wait()
        return
    with trio.move_on_after(EVERY):
        await state.due.wait()
    if not state.stopping.is_set():
        state.due = trio.Event()


async def _pack(state: _State, ports: Ports) -> None:
    """Take what waits, in slices: nobody's tokens wait for it."""
    export, packed = Export(), 0
    while packed < AT_ONCE and (spans := ports.recording.take(SLICE)):
        packed += sum(_added(span, export, ports) for span in spans)
        await trio.lowlevel.checkpoint()
    state.body, state.spans = export.body(), packed


def _added(span: Recorded, export: Export, ports: Ports) -> bool:
    try:
        export.add(span)
    except Exception:  # whatever is in a span, the work and the other spans go on
        log.exception("a span was dropped")
        ports.counted("dropped", 1)
        return False
    return True


async def _post(state: _State, ports: Ports) -> bool:
    """Send the request. False when it has to be sent again, later."""
    try:
        with trio.fail_after(ANSWER):
            request = Request(b"POST", PATH, HEADERS, state.body)
            answer, _ = await ports.collector.fetch(request, ANSWER_BYTES)
    except (TargetError, trio.TooSlowError) as error:
        return _failed(state, str(error) or "no answer in time")
    if answer.status in AGAIN:
        return _failed(state, f"it answered {answer.status}")
    taken = 200 <= answer.status < 300
    ports.counted("exported" if taken else "dropped", state.spans)
    if not taken:
        _complain(state, f"it answered {answer.status}")
    elif state.complained:
        log.info("the collector takes traces again")
        state.complained = False
    state.body, state.spans, state.away = b"", 0, 0
    return True


def _failed(state: _State, why: str) -> bool:
    state.away += 1
    _complain(state, why)
    return False


def _complain(state: _State, why: str) -> None:
    if not state.complained:
        state.complained = True
        log.warning("the collector takes no traces: %s; no more is said until it does", why)
