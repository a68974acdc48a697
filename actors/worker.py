"""The worker: runs exactly one job at a time, in the order that foreman.scheduling decides.

Inbox:  WorkerMessage from the ingress; Wake hints on a channel of their own.
Owns:   the slot: nobody else claims, runs or finishes a job; the waiting calls; what is resident.
Crash:  batch jobs go back to the queue when the next incarnation starts; waiting clients are cut.
"""

import logging
import math
import random
import time
from dataclasses import dataclass, field
from typing import assert_never

import trio

from actors.journal import Journal, Submitted
from actors.mailbox import respond, write_later
from actors.messages import Call, Describe, Drain, Gone, Unloaded, Wake, WorkerMessage
from actors.slot import PUT_BACK_GRACE, Occupant, Ports, Rules, Task, occupy
from foreman import tables
from foreman.admission import Admitted, Refused
from foreman.attempt import Again, Fail, Finish, Settlement, Work, answers
from foreman.batch import BatchAnswer, read_batch_job
from foreman.errors import NoReply, StoreError
from foreman.jobs import FailureCode, Fingerprint, JobClass, JobId, Requeue
from foreman.lanes import CallLanes
from foreman.queue_view import QueueView, RunningJob, WaitingCall, WaitingLane
from foreman.residency import Residency
from foreman.scheduling import Idle, Lane, LaneKey, Run, Turn, WaitUntil, after, decide
from foreman.tables import LaneHead, NewJob
from foreman.wire import Request, ResponseFailed, Route

log = logging.getLogger("foreman.worker")

BUSY = "server busy, please try again.  maximum pending requests exceeded"
STOPPING = "foreman is shutting down"
RECONCILE = 5.0  # seconds between looks at the table that no hint asked for; jittered
BACK_OFF_CAP = 30.0  # seconds between looks at a target that is away
SERVED_KEPT = 4096  # lanes whose last service is remembered
MEAN_WEIGHT = 0.2  # of the newest job in the running mean of their lengths


@dataclass(slots=True)
class _Waiting:
    """A call in its lane. `journal` knows how much of it the store has been told."""

    call: Call
    arrived: float
    submitted: Submitted | None = None
    journal: Journal | None = None  # of its last attempt, once there was one

    @property
    def job(self) -> JobId:
        return self.call.job

    @property
    def fingerprint(self) -> Fingerprint:
        return self.call.admitted.fingerprint


@dataclass(slots=True)
class _State:
    calls: CallLanes[_Waiting] = field(default_factory=CallLanes[_Waiting])
    batch: tuple[LaneHead, ...] = ()
    residency: Residency = field(default_factory=Residency)
    turn: Turn | None = None
    served: dict[LaneKey, float] = field(default_factory=dict[LaneKey, float])
    interactive_end: tuple[Fingerprint, float] | None = None
    running: Occupant | None = None
    away: int = 0  # looks at the target, in a row, that found nobody
    draining: bool = False
    mean_seconds: float = 1.0  # of a job, running mean
    look: bool = True  # the table may have changed
    changed: trio.Event = field(default_factory=trio.Event)
    woken: trio.Event = field(default_factory=trio.Event)

    def is_running(self, job: JobId) -> bool:
        return self.running is not None and self.running.task.job == job


async def run(
    inbox: trio.MemoryReceiveChannel[WorkerMessage],
    hints: trio.MemoryReceiveChannel[Wake],
    ports: Ports,
    rules: Rules,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until the inbox is closed; then put the running job back and return."""
    state = _State()
    with inbox.clone() as messages, hints.clone() as wakes:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_work, state, ports, rules)
                nursery.start_soon(_heed, state, wakes)
                task_status.started()
                async for message in messages:
                    await _receive(state, ports, rules, message)
                nursery.cancel_scope.cancel("the worker's inbox was closed")
        finally:
            with trio.move_on_after(PUT_BACK_GRACE, shield=True):
                await _release_all(state, ports)


async def _heed(state: _State, wakes: trio.MemoryReceiveChannel[Wake]) -> None:
    async for _ in wakes:
        state.look = True
        state.woken.set()
        state.changed.set()


# ---------------------------------------------------------------- the mail


async def _receive(state: _State, ports: Ports, rules: Rules, message: WorkerMessage) -> None:
    match message:
        case Call():
            await _take(state, ports, rules, message)
        case Gone(job):
            await _drop(state, ports, job)
        case Unloaded(model):
            state.residency.forget(model)
        case Describe(reply):
            respond(reply, _view(state))
        case Drain():
            state.draining = True
            await _release_all(state, ports)
        case _:
            assert_never(message)


async def _take(state: _State, ports: Ports, rules: Rules, call: Call) -> None:
    """Queue a call. Its row is written now if it must wait, together with its claim if it need not."""
    if state.draining or len(state.calls) >= rules.max_waiting:
        respond(call.position, len(state.calls))
        text = STOPPING if state.draining else BUSY
        _refuse(call, ResponseFailed(503, text, retry_after=_retry_after(state)))
        return
    waiting = _Waiting(call, trio.current_time())
    state.residency.arrived(waiting.fingerprint)
    idle = state.running is None and not state.calls and not state.away
    state.calls.add(waiting)
    respond(call.position, _position(state, call.job))
    if not idle:
        new = _row(call)
        waiting.submitted = await write_later(ports.store, lambda tx: tables.submit(tx, new))
    state.changed.set()


def _row(call: Call) -> NewJob:
    return NewJob(
        call.job,
        JobClass.INTERACTIVE,
        call.route.path,
        call.admitted.model,
        call.admitted.fingerprint,
        streamed=call.admitted.streamed,
    )


async def _drop(state: _State, ports: Ports, job: JobId) -> None:
    """A client hung up: its job only, whether it waits or runs."""
    if state.running is not None and state.is_running(job):
        state.running.scope.cancel("the client hung up")
    elif waiting := state.calls.remove(job):
        waiting.call.parts.close()
        await _journal_loss(ports, waiting, FailureCode.CANCELLED, "the client hung up")


async def _release_all(state: _State, ports: Ports) -> None:
    """Let go of every call that waits: neither a crash nor a stop may leave a client hanging."""
    for lane in state.calls.order(None):
        for waiting in lane:
            if not state.is_running(waiting.job):
                state.calls.remove(waiting.job)
                _refuse(waiting.call, ResponseFailed(503, STOPPING, retry_after=5))
                await _journal_loss(ports, waiting, FailureCode.INTERRUPTED, STOPPING)


async def _journal_loss(
    ports: Ports, waiting: _Waiting, code: FailureCode, text: str
) -> None:
    if waiting.journal is None and waiting.submitted is None:
        return  # the store has never heard of it
    journal = waiting.journal or Journal(ports.store, submitted=waiting.submitted)
    try:
        await journal.end(Fail(code, text))
    except (StoreError, NoReply) as error:  # it was never stored
        log.warning("cannot journal that it left: %s", error, extra={"job": waiting.job})


def _refuse(call: Call, refusal: ResponseFailed) -> None:
    """Answer a call that has not begun: its channel has room, nothing was sent on it yet."""
    with call.parts:
        try:
            call.parts.send_nowait(refusal)
        except trio.BrokenResourceError:
            pass  # the client has gone too


def _position(state: _State, job: JobId) -> int:
    """How many jobs run before this one, as things stand."""
    running = state.running
    batch_runs = running is not None and running.task.job_class is JobClass.BATCH
    return state.calls.ahead_of(job, state.residency.resident) + batch_runs


def _retry_after(state: _State) -> int:
    """Seconds until a place is expected to be free: what is left of one mean job, at least 1."""
    spent = trio.current_time() - state.running.since if state.running else 0.0
    return max(1, math.ceil(state.mean_seconds - spent))


# ---------------------------------------------------------------- the slot


async def _work(state: _State, ports: Ports, rules: Rules) -> None:
    while True:
        if state.away and not await _is_back(state, ports):
            continue
        if state.look:
            await _look(state, ports)
        state.changed = trio.Event()
        decision = decide(
            _lanes(state),
            state.residency.resident,
            state.turn,
            state.residency.costs,
            trio.current_time(),
            rules.scheduling,
            _interactive_end(state),
        )
        match decision:
            case Run():
                await _perform(state, ports, rules, decision)
            case WaitUntil(at=at):
                state.turn = None
                with trio.move_on_at(at):
                    await state.changed.wait()
            case Idle():
                state.turn = None
                with trio.move_on_after(RECONCILE * random.uniform(0.8, 1.2)):
                    await state.changed.wait()
                state.look = True
            case _:
                assert_never(decision)


async def _is_back(state: _State, ports: Ports) -> bool:
    """While the target is away: look, else wait a little longer than the last time."""
    state.woken = trio.Event()
    if await answers(ports.target):
        state.away = 0
        return True
    pause = min(BACK_OFF_CAP, 0.5 * 2**state.away) * random.uniform(0.8, 1.0)
    state.away += 1
    with trio.move_on_after(pause):
        await state.woken.wait()
    return False


async def _look(state: _State, ports: Ports) -> None:
    """Read the heads of the durable lanes: the table is the truth, hints only say when to look."""
    state.look = False
    now = time.time_ns() // 1000
    heads = await ports.reader.read(lambda db: tables.lane_heads(db, now))
    state.batch = tuple(head for head in heads if head.not_before <= now)


def _lanes(state: _State) -> list[Lane]:
    lanes = [
        Lane(
            waiting.fingerprint,
            JobClass.INTERACTIVE,
            waiting.job,
            waiting.arrived,
            state.served.get((waiting.fingerprint, JobClass.INTERACTIVE)),
        )
        for waiting in state.calls.heads()
    ]
    wall, now = time.time_ns() // 1000, trio.current_time()
    for head in state.batch:
        key = (head.fingerprint, JobClass.BATCH)
        arrived = now - max(0, wall - head.arrived_at) / 1e6
        lanes.append(Lane(*key, head.job_id, arrived, state.served.get(key)))
    return lanes


def _interactive_end(state: _State) -> float | None:
    if state.interactive_end is None or state.interactive_end[0] != state.residency.resident:
        return None
    return state.interactive_end[1]


async def _perform(state: _State, ports: Ports, rules: Rules, run: Run) -> None:
    waiting = state.calls.find(run.lane.head)
    task = (
        await _batch_task(state, ports, rules, run)
        if waiting is None
        else _call_task(state, ports, waiting)
    )
    if task is None:
        return
    occupant = state.running = Occupant(task, trio.current_time(), trio.CancelScope())
    if waiting is not None:
        ports.metrics.waited(task.job_class, occupant.since - waiting.arrived)
    try:
        settlement = await occupy(occupant, ports, rules, state.residency)
    finally:
        state.running = None
    _conclude(state, ports, run, occupant, settlement)


def _call_task(state: _State, ports: Ports, waiting: _Waiting) -> Task:
    call = waiting.call
    new = None if waiting.submitted else _row(call)
    if waiting.journal is None:
        waiting.journal = Journal(ports.store, submitted=waiting.submitted, new=new)
    work = _work_for(state, call.request, call.route, call.admitted)
    return Task(
        call.job, JobClass.INTERACTIVE, call.admitted, work, call.parts.send, waiting.journal
    )


async def _batch_task(state: _State, ports: Ports, rules: Rules, run: Run) -> Task | None:
    state.look = True
    ref = next(head.ref for head in state.batch if head.job_id == run.lane.head)
    journal = Journal(ports.store, ref=ref)
    try:
        job = await ports.reader.read(lambda db: read_batch_job(db, ref.id))
    except Refused as refused:
        await journal.end(Fail(FailureCode.TARGET_REFUSED, refused.text))
        return None
    if job is None:
        return None
    answer = BatchAnswer(rules.max_output)
    work = _work_for(state, job.request, job.route, job.admitted)
    return Task(
        ref.id, JobClass.BATCH, job.admitted, work, answer, journal, job.row.attempt, answer
    )


def _work_for(state: _State, request: Request, route: Route, admitted: Admitted) -> Work:
    sure = state.residency.is_sure(admitted.fingerprint, trio.current_time())
    return Work(request, route.dialect, admitted.streamed, None if sure else admitted.load)


def _conclude(
    state: _State, ports: Ports, run: Run, occupant: Occupant, settlement: Settlement
) -> None:
    """Fold what happened into what the next decision looks at."""
    task, lane, now = occupant.task, run.lane, trio.current_time()
    spent = now - occupant.since
    if isinstance(settlement, Again) and settlement.reason is Requeue.TARGET_LOST:
        state.away = 1  # a call keeps its place; nothing runs before the target was seen again
        state.residency.forget()
    elif done := state.calls.remove(task.job):
        done.call.parts.close()
    if isinstance(settlement, Finish):
        state.residency.used(lane.fingerprint, now, task.admitted.keep_alive)
    state.turn = after(state.turn, run, occupant.load_s, spent - occupant.load_s)
    state.served[lane.key] = now
    while len(state.served) > SERVED_KEPT:
        del state.served[min(state.served, key=state.served.__getitem__)]
    if lane.job_class is JobClass.INTERACTIVE:
        state.interactive_end = (lane.fingerprint, now)
    state.mean_seconds += MEAN_WEIGHT * (spent - state.mean_seconds)
    ports.metrics.concluded(task.admitted.model, lane.job_class, settlement)


# ---------------------------------------------------------------- what it shows


def _view(state: _State) -> QueueView:
    now = trio.current_time()
    lanes = [
        [each for each in lane if not state.is_running(each.job)]
        for lane in state.calls.order(state.residency.resident)
    ]
    waiting = [each for lane in lanes for each in lane]
    return QueueView(
        running=_running_view(state.running, now) if state.running else None,
        resident=str(state.residency.resident) if state.residency.resident else None,
        lanes=tuple(_lane_view(lane, now) for lane in lanes if lane),
        calls=tuple(
            WaitingCall(each.job, each.call.admitted.model, place, now - each.arrived)
            for place, each in enumerate(waiting, start=1)
        ),
        loads=state.residency.loads,
        fcfs_loads=state.residency.fcfs_loads,
        target_away=state.away > 0,
    )


def _running_view(occupant: Occupant, now: float) -> RunningJob:
    task = occupant.task
    return RunningJob(
        task.job,
        task.admitted.model,
        str(task.admitted.fingerprint),
        task.job_class,
        task.journal.state,
        now - occupant.since,
    )


def _lane_view(lane: list[_Waiting], now: float) -> WaitingLane:
    return WaitingLane(
        str(lane[0].fingerprint),
        lane[0].call.admitted.model,
        JobClass.INTERACTIVE,
        len(lane),
        now - lane[0].arrived,
    )
