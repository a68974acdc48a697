"""The worker: runs exactly one job at a time, in the order that foreman.scheduling decides.

Inbox:  WorkerMessage from the ingress; Wake hints on a channel of their own.
Owns:   the slot: nobody else claims, runs or finishes a job; the waiting calls; what is resident.
Crash:  batch jobs go back to the queue when the next incarnation starts; waiting clients are cut.
"""

import logging
import math
import random
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import assert_never

import trio

from actors.journal import Journal, take_over
from actors.mailbox import put, respond, write
from actors.messages import Call, Cancel, Describe, Drain, Gone, Unloaded, Wake, WorkerMessage
from actors.slot import PUT_BACK_GRACE, Occupant, Ports, Rules, Task, occupy
from actors.waiting import Waiting, refuse
from foreman import tables
from foreman.admission import Admitted, Refused
from foreman.attempt import Again, Fail, Finish, Settlement, Work, answers
from foreman.batch import BatchAnswer, Unreadable, read_batch_job
from foreman.batch_lanes import RECONCILE, BatchLanes
from foreman.errors import NoReply, StoreError
from foreman.jobs import FailureCode, JobClass, JobId, Requeue
from foreman.lanes import CallLanes
from foreman.live_output import RunId
from foreman.progress import Progress
from foreman.queue_view import QueueView, lanes_of_calls, shown, waiting_calls
from foreman.residency import Residency
from foreman.run_spans import queued
from foreman.scheduling import Idle, Lane, Run, WaitUntil, decide
from foreman.tracing import Span
from foreman.wire import Request, ResponseFailed, Route

log = logging.getLogger("foreman.worker")

BUSY = "server busy, please try again.  maximum pending requests exceeded"
STOPPING = "foreman is shutting down"
INTERRUPTED = "the request was interrupted, please try again"
PROBE_CAP = 2.5  # seconds between looks at a target that is away: its return is seen within 5
LOSSES = 3  # times in a row that a connection may break under one job while the target is there


@dataclass(slots=True)
class _State:
    batch: BatchLanes
    calls: CallLanes[Waiting] = field(default_factory=CallLanes[Waiting])
    residency: Residency = field(default_factory=Residency)
    progress: Progress = field(default_factory=Progress)
    running: Occupant | None = None
    away: int = 0  # looks at the target, in a row, that found nobody
    lost: dict[JobId, int] = field(default_factory=dict[JobId, int])  # how often in a row
    refuse_at: float = math.inf  # until then calls are taken
    draining: trio.Event = field(default_factory=trio.Event)
    closed: bool = False  # it is past `refuse_at`
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
    state = _State(BatchLanes(ports.now))
    await take_over(ports.store)
    with inbox.clone() as messages, hints.clone() as wakes:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_work, state, ports, rules)
                nursery.start_soon(_heed, state, wakes)
                nursery.start_soon(_expire, ports)
                nursery.start_soon(_close, state, ports)
                task_status.started()
                async for message in messages:
                    await _receive(state, ports, rules, message)
                nursery.cancel_scope.cancel("the worker's inbox was closed")
        finally:
            with trio.move_on_after(PUT_BACK_GRACE, shield=True):
                await _release_all(state, ports)


async def _heed(state: _State, wakes: trio.MemoryReceiveChannel[Wake]) -> None:
    async for _ in wakes:
        state.batch.stale = True
        state.woken.set()
        state.changed.set()


async def _expire(ports: Ports) -> None:
    """End what waits longer than it was given; at its claim each job is looked at once more."""
    while True:
        if await ports.reader.read(partial(tables.has_expired, now=ports.now())):
            with suppress(StoreError, NoReply):  # the next round tries again
                await write(ports.store, tables.expire)
        await trio.sleep(RECONCILE * random.uniform(1.0, 1.2))


async def _close(state: _State, ports: Ports) -> None:
    """Once the daemon stops: serve the calls while there is time, then refuse those left."""
    await state.draining.wait()
    if state.running is not None and state.running.task.job_class is JobClass.BATCH:
        state.running.give_back()
    state.changed.set()
    await trio.sleep_until(state.refuse_at)
    state.closed = True
    await _release_all(state, ports)


# ---------------------------------------------------------------- the mail


async def _receive(state: _State, ports: Ports, rules: Rules, message: WorkerMessage) -> None:
    match message:
        case Call():
            await _take(state, ports, rules, message)
        case Gone(job):
            await _drop(state, ports, job, "the client hung up")
        case Cancel(job, reply):
            respond(reply, await _drop(state, ports, job, tables.CANCELLED))
        case Unloaded(model):
            state.residency.forget(model)
        case Describe(reply):
            respond(reply, _view(state))
        case Drain(refuse_at):
            state.refuse_at = refuse_at
            state.draining.set()
        case _:
            assert_never(message)


async def _take(state: _State, ports: Ports, rules: Rules, call: Call) -> None:
    """Queue a call. Its row is written now if it must wait, or together with its claim."""
    if state.closed or len(state.calls) >= rules.max_waiting:
        respond(call.position, len(state.calls))
        text = STOPPING if state.closed else BUSY
        refuse(call, ResponseFailed(503, text, retry_after=_retry_after(state)))
        return
    waiting = Waiting(call, trio.current_time())
    state.residency.arrived(waiting.fingerprint)
    next_one = _is_free(state) and not state.away
    state.calls.add(waiting)
    position = _position(state, call.job)
    respond(call.position, position)
    waiting.span = _wait_span(ports, call)
    waiting.span.set({"foreman.queue.position": position})
    if not next_one:
        await waiting.submit(ports.store)
    state.changed.set()


def _wait_span(ports: Ports, call: Call) -> Span:
    trace = call.request.trace
    return queued(ports.tracer, trace, call.admitted, call.job, JobClass.INTERACTIVE)


def _is_free(state: _State) -> bool:
    """Whether a call that comes now waits for none but the last, and that only for its commit."""
    running = state.running
    if running is None:
        return not state.calls
    its_own = state.calls.find(running.task.job) is not None
    return running.over and len(state.calls) == its_own


async def _drop(state: _State, ports: Ports, job: JobId, why: str) -> bool:
    """End this job, if it runs or its client waits; only a row in the table is left alone."""
    if state.running is not None and state.is_running(job):
        state.running.evict(why)
    elif waiting := state.calls.remove(job):
        refuse(waiting.call, ResponseFailed(503, why))
        await waiting.leave(ports.store, FailureCode.CANCELLED, why)
    else:
        return False
    return True


async def _release_all(state: _State, ports: Ports) -> None:
    """Let go of every call that waits: neither a crash nor a stop may leave a client hanging."""
    text = STOPPING if state.draining.is_set() else INTERRUPTED
    waiting = [each for lane in state.calls.order(None) for each in lane]
    left = [each for each in waiting if not state.is_running(each.job)]
    for each in left:
        state.calls.remove(each.job)
        refuse(each.call, ResponseFailed(503, text, retry_after=5))
    for each in left:
        await each.leave(ports.store, FailureCode.INTERRUPTED, text)


def _position(state: _State, job: JobId) -> int:
    """How many jobs run before this one, as things stand."""
    running = state.running
    batch_runs = running is not None and running.task.job_class is JobClass.BATCH
    return state.calls.ahead_of(job, state.residency.resident) + batch_runs


def _retry_after(state: _State) -> int:
    """Seconds until a place is expected to be free: what is left of one mean job, at least 1."""
    spent = trio.current_time() - state.running.since if state.running else 0.0
    return max(1, math.ceil(state.progress.mean_seconds - spent))


# ---------------------------------------------------------------- the slot


async def _work(state: _State, ports: Ports, rules: Rules) -> None:
    while True:
        if state.away and not await _is_back(state, ports):
            continue
        await state.batch.refresh(ports.reader)
        state.changed = trio.Event()
        decision = decide(
            _lanes(state),
            state.residency.resident,
            state.progress.turn,
            state.residency.costs,
            trio.current_time(),
            rules.scheduling,
            state.progress.interactive_end(state.residency.resident),
        )
        match decision:
            case Run():
                await _perform(state, ports, rules, decision)
            case WaitUntil(at=at):
                state.progress.turn = None
                with trio.move_on_at(at):
                    await state.changed.wait()
            case Idle():
                state.progress.turn = None
                with trio.move_on_after(RECONCILE * random.uniform(1.0, 1.2)):
                    await state.changed.wait()
            case _:
                assert_never(decision)


async def _is_back(state: _State, ports: Ports) -> bool:
    """While the target is away: look, else wait a little longer than the last time."""
    state.woken = trio.Event()
    if await answers(ports.target):
        state.away = 0
        return True
    pause = min(PROBE_CAP, 0.5 * state.away) * random.uniform(0.8, 1.0)
    state.away += 1
    with trio.move_on_after(pause):
        await state.woken.wait()
    return False


def _lanes(state: _State) -> list[Lane]:
    served = state.progress.served
    lanes = [
        Lane(
            waiting.fingerprint,
            JobClass.INTERACTIVE,
            waiting.job,
            waiting.arrived,
            served.get((waiting.fingerprint, JobClass.INTERACTIVE)),
        )
        for waiting in state.calls.heads()
    ]
    return lanes if state.draining.is_set() else lanes + state.batch.lanes(served)


async def _perform(state: _State, ports: Ports, rules: Rules, run: Run) -> None:
    waiting = state.calls.find(run.lane.head)
    task = (
        await _batch_task(state, ports, rules, run)
        if waiting is None
        else _call_task(state, ports, waiting)
    )
    if task is None:
        return
    occupant = state.running = Occupant(task, trio.current_time(), trio.CancelScope(), run.rule)
    if waiting is None and state.draining.is_set():
        occupant.give_back()  # it was chosen just before
    if waiting is not None:
        waiting.span.set({"foreman.rule": run.rule.value})
        waiting.span.end()
    if task.waited is not None:
        ports.metrics.jobs.waited(task.admitted.model, task.job_class, task.waited)
    try:
        settlement = await occupy(occupant, ports, rules, state.residency)
    except BaseException:
        if waiting is not None:  # it is journalled, or left to the next incarnation
            state.calls.remove(task.job)
            refuse(waiting.call, ResponseFailed(503, INTERRUPTED, retry_after=5))
        raise
    finally:
        state.running = None
    if settlement is None:
        return  # somebody else was first
    _conclude(state, ports, run, occupant, settlement)
    if occupant.evicted and isinstance(settlement, Again):
        await _end_returned(state, ports, task, occupant.evicted)


async def _end_returned(state: _State, ports: Ports, task: Task, why: str) -> None:
    """It was to end, and was on its way back to the queue already."""
    if not await _drop(state, ports, task.job, why):
        await write(ports.store, partial(tables.cancel, job=task.job))


def _call_task(state: _State, ports: Ports, waiting: Waiting) -> Task:
    call = waiting.call
    work = _work_for(state, call.job, call.request, call.route, call.admitted)
    waited = trio.current_time() - waiting.arrived if waiting.journal is None else None
    journal = waiting.begin(ports.store)
    sink = partial(put, call.parts)
    return Task(call.job, JobClass.INTERACTIVE, call.admitted, work, sink, journal, waited=waited)


async def _batch_task(state: _State, ports: Ports, rules: Rules, run: Run) -> Task | None:
    state.batch.stale = True
    ref = state.batch.ref(run.lane.head)
    journal = Journal(ports.store, ref.id, ref=ref)
    try:
        job = await ports.reader.read(lambda db: read_batch_job(db, ref.id))
    except Refused as refused:
        await journal.end(Fail(FailureCode.TARGET_REFUSED, refused.text))
        return None
    except Unreadable as unreadable:
        await journal.end(Fail(FailureCode.DAMAGED, str(unreadable)))
        return None
    except StoreError as damaged:
        log.error("set aside, for good: %s", damaged, extra={"job": ref.id})
        await write(ports.store, partial(tables.set_aside, job=ref.id))
        return None
    if job is None:
        return None
    if job.row.expires_at is not None and job.row.expires_at <= ports.now():
        await journal.end(Fail(FailureCode.EXPIRED, tables.EXPIRED))
        return None
    request = replace(job.request, trace=ports.tracer.job(ref.id))
    since = 1000 * job.queued_at
    span = queued(ports.tracer, request.trace, job.admitted, ref.id, JobClass.BATCH, since)
    span.set({"foreman.rule": run.rule.value})
    span.end()
    run_id = RunId(job.row.attempt, ref.version + 1)
    answer = BatchAnswer(rules.max_output, ports.live.begin(ref.id, run_id))
    work = _work_for(state, ref.id, request, job.route, job.admitted)
    inline = -1 if job.row.artifacts == "fetch" else rules.inline_result
    waited = (ports.now() - job.row.submitted_at) / 1e6 if job.row.version == 1 else None
    return Task(
        ref.id,
        JobClass.BATCH,
        job.admitted,
        work,
        answer,
        journal,
        job.row.attempt,
        answer,
        inline,
        waited,
    )


def _work_for(
    state: _State, job: JobId, request: Request, route: Route, admitted: Admitted
) -> Work:
    sure = state.residency.is_sure(admitted.fingerprint, trio.current_time())
    load = None if sure else admitted.load
    last_try = state.lost.get(job, 0) >= LOSSES - 1
    return Work(request, route.dialect, admitted.streamed, load, last_try)


def _conclude(
    state: _State, ports: Ports, run: Run, occupant: Occupant, settlement: Settlement
) -> None:
    """Fold what happened into what the next decision looks at."""
    task, now = occupant.task, trio.current_time()
    if isinstance(settlement, Again) and settlement.reason is Requeue.TARGET_LOST:
        state.away = 1  # a call keeps its place; nothing runs before the target was seen again
        state.lost[task.job] = state.lost.get(task.job, 0) + 1
        if waiting := state.calls.find(task.job):
            waiting.span = _wait_span(ports, waiting.call)
        state.residency.forget()
    else:
        state.lost.pop(task.job, None)
        if done := state.calls.remove(task.job):
            done.call.parts.close()
    if isinstance(settlement, Finish):
        state.residency.used(run.lane.fingerprint, now, task.admitted.keep_alive)
    state.progress.concluded(run, occupant.load_s, now - occupant.since, now)
    model, work_s = task.admitted.model, occupant.work_s
    ports.metrics.jobs.concluded(model, task.job_class, settlement, work_s)


# ---------------------------------------------------------------- what it shows


def _view(state: _State) -> QueueView:
    now = trio.current_time()
    lanes = [
        [each for each in lane if not state.is_running(each.job)]
        for lane in state.calls.order(state.residency.resident)
    ]
    resident = state.residency.resident
    return QueueView(
        running=state.running.shown(now) if state.running else None,
        resident=shown(resident) if resident else None,
        lanes=lanes_of_calls(lanes, now),
        calls=waiting_calls(lanes, now),
        loads=state.residency.loads,
        fcfs_loads=state.residency.fcfs_loads,
        target_away=state.away > 0,
    )
