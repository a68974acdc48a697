"""One job in the slot: claimed, attempted, journalled to its end. The worker decides which."""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import trio

from actors.journal import Journal, put_back
from actors.mailbox import StoreInbox
from foreman import names
from foreman.admission import Admitted
from foreman.artifacts import ArtifactFiles, describe
from foreman.attempt import (
    Again,
    Fail,
    Finish,
    Settlement,
    SilenceLimits,
    Sink,
    Work,
    attempt,
    settle,
)
from foreman.batch import BatchAnswer, OutputTooLarge
from foreman.batch_lanes import wall_clock
from foreman.errors import NoReply, StaleJob, StoreError
from foreman.executor import Executor
from foreman.jobs import FailureCode, JobClass, JobId, Requeue
from foreman.live_output import LiveOutputs
from foreman.logs import about
from foreman.metrics.counts import Metrics
from foreman.queue_view import RunningJob, shown
from foreman.reader import Reader
from foreman.residency import Residency
from foreman.rows import Artifact, Microseconds, Result
from foreman.run_spans import RunSpans, job_span
from foreman.scheduling import Limits, Rule
from foreman.target import Target
from foreman.tracing import NO_TRACER, Tracer
from foreman.wire import ResponseFailed, ResponsePart

log = logging.getLogger("foreman.slot")

PUT_BACK_GRACE = 2.0  # seconds to journal a job on the way out; below the worker tier's grace
STORE_PAUSE = 1.0  # seconds before a job that the store refused may be tried again
FILE_PAUSE = 60.0  # seconds before one is answered anew because its answer could not be kept


@dataclass(frozen=True, slots=True)
class Ports:
    """What the worker stands on. `execute` runs what may block on the disk."""

    store: StoreInbox
    reader: Reader
    target: Target
    metrics: Metrics
    artifacts: ArtifactFiles
    live: LiveOutputs
    execute: Executor
    now: Callable[[], Microseconds] = wall_clock
    tracer: Tracer = NO_TRACER


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings that bind it; seconds and bytes."""

    scheduling: Limits
    silence: SilenceLimits
    max_attempts: int
    max_waiting: int
    max_output: int
    inline_result: int


@dataclass(frozen=True, slots=True)
class Task:
    """A job that is to run now.

    `answer` collects what a batch job's sink receives; more than `inline` bytes become a file.
    """

    job: JobId
    job_class: JobClass
    admitted: Admitted
    work: Work
    sink: Sink
    journal: Journal
    attempts: int = 1
    answer: BatchAnswer | None = None
    inline: int = 0
    waited: float | None = None  # seconds from its arrival; None where it has been tried before


@dataclass(slots=True)
class Occupant:
    """The task in the slot, since when, and the scope that throws it out."""

    task: Task
    since: float
    scope: trio.CancelScope
    rule: Rule  # by which it was chosen
    load_s: float = 0.0
    asked_at: float | None = None  # when, the model loaded, the target was asked
    heard: bool = False  # the target has begun to answer
    work_s: float = 0.0  # from `asked_at` to the end of the answer
    over: bool = False  # nothing of it is left but to write down its end
    evicted: str = ""  # why it was thrown out
    given_back: bool = False  # it was taken out of the slot, and is to be done another time

    def evict(self, why: str) -> None:
        """Throw it out: unless it is over, it ends as cancelled."""
        self.evicted = why
        self.scope.cancel(why)

    def give_back(self) -> None:
        """Take it out: unless it is over, it ends as it would when the daemon stops."""
        self.given_back = True
        self.scope.cancel("the daemon stops")

    def shown(self, now: float) -> RunningJob:
        """What /queue says of it."""
        task = self.task
        return RunningJob(
            task.job,
            names.display(task.admitted.key),
            shown(task.admitted.fingerprint),
            task.job_class,
            task.journal.state,
            now - self.since,
            self.rule,
        )


async def occupy(
    occupant: Occupant, ports: Ports, rules: Rules, residency: Residency
) -> Settlement | None:
    """Run the task to its end, whatever that is, and return it when it is on disk.

    None when it was no longer there to be claimed: cancelled, or expired, in the meantime.
    Cancelled from outside, it journals what `put_back` says within PUT_BACK_GRACE. After any other
    exception the row stays as it is: the worker's next incarnation counts that as a crash.
    """
    task = occupant.task
    with about(task.job):
        return await _occupy(task, occupant, ports, rules, residency)


async def _occupy(
    task: Task, occupant: Occupant, ports: Ports, rules: Rules, residency: Residency
) -> Settlement | None:
    try:
        await task.journal.claim(resident=task.work.load is None)
        settlement = await _attempt(occupant, ports, rules, residency)
        if occupant.asked_at is not None:
            occupant.work_s = trio.current_time() - occupant.asked_at
        settlement, result, artifact = await _keep(task, settlement, ports)
        occupant.over = not isinstance(settlement, Again)
        await task.journal.end(settlement, result, artifact)
        if task.answer:
            ports.live.end(task.answer.output, complete=artifact is not None)
            job_span(ports.tracer, task.job, task.admitted, task.attempts, settlement)
        return settlement
    except (StoreError, NoReply) as error:
        if isinstance(error, StaleJob) and task.job_class is JobClass.BATCH:
            return None
        return await _refused(task, error)
    except trio.Cancelled:
        with trio.move_on_after(PUT_BACK_GRACE, shield=True):
            await task.journal.end(put_back(task.job_class))
        raise
    finally:
        if task.answer:  # who reads it along learns now that it came to nothing
            ports.live.end(task.answer.output, complete=False)


async def _keep(
    task: Task, settlement: Settlement, ports: Ports
) -> tuple[Settlement, Result | None, Artifact | None]:
    """Put a batch job's answer where it will stay, before its row may say that it is there.

    When the disk has no room for it the job goes back, uncharged.
    """
    if task.answer is None or not isinstance(settlement, Finish):
        return settlement, None, None
    result = task.answer.result()
    if len(result.body) <= task.inline:
        return settlement, result, describe(result, task.attempts, inline=True)
    try:
        publish = partial(ports.artifacts.publish, task.job, task.attempts, result)
        return settlement, None, await ports.execute(publish)
    except StoreError as error:
        log.error("%s", error)
        return Again(Requeue.SHUTDOWN, FILE_PAUSE, str(error)), None, None


async def _refused(task: Task, error: Exception) -> Settlement:
    """The store would not take it: the client is told, and the row left as consistent as it can be.

    It takes a while, so that a job which comes back is not tried again without a pause.
    """
    log.error("the store refused it: %s", error)
    text = f"the job cannot be journalled: {error}"
    await _tell(task, ResponseFailed(507, text))
    settlement = put_back(task.job_class)
    with trio.move_on_after(PUT_BACK_GRACE):
        await task.journal.end(settlement)
    await trio.sleep(STORE_PAUSE if task.job_class is JobClass.BATCH else 0)
    return settlement


async def _attempt(
    occupant: Occupant, ports: Ports, rules: Rules, residency: Residency
) -> Settlement:
    task = occupant.task
    spans = RunSpans(ports.tracer, task.work, task.admitted, task.job, task.attempts)
    settlement = None
    try:
        settlement = await _traced(occupant, ports, rules, residency, spans)
        return settlement
    finally:
        spans.ended(settlement)


async def _traced(
    occupant: Occupant, ports: Ports, rules: Rules, residency: Residency, spans: RunSpans
) -> Settlement:
    task, journal = occupant.task, occupant.task.journal

    async def loaded(load_s: float | None) -> None:
        anew = load_s is not None and residency.loaded(task.admitted.fingerprint, load_s)
        if load_s is not None and anew:
            occupant.load_s = load_s
            ports.metrics.jobs.loaded(task.admitted.model, load_s)
        spans.loaded(load_s, anew=anew)
        if task.work.load is not None:
            await journal.start(load_s)
        occupant.asked_at = trio.current_time()

    async def sink(part: ResponsePart) -> None:
        if not occupant.heard and isinstance(part, bytes):
            _hear(occupant, ports)
        if spans.awaiting:
            spans.saw(part)
        await journal.confirm()  # no byte leaves before the claim is on disk
        await task.sink(part)

    with occupant.scope:
        try:
            outcome = await attempt(ports.target, spans.work, sink, rules.silence, loaded)
            return settle(outcome, task.job_class, task.attempts, rules.max_attempts)
        except trio.BrokenResourceError:
            occupant.evicted = "the client hung up"  # nobody reads its answer any more
        except OutputTooLarge:
            return Fail(FailureCode.OUTPUT_TOO_LARGE, f"more than {rules.max_output} bytes")
    if occupant.given_back and not occupant.evicted:
        return put_back(task.job_class)
    return Fail(FailureCode.CANCELLED, occupant.evicted)


def _hear(occupant: Occupant, ports: Ports) -> None:
    occupant.heard = True
    work, since = occupant.task.work, occupant.asked_at
    if work.streamed and since is not None:
        model = occupant.task.admitted.model
        ports.metrics.jobs.answering(model, trio.current_time() - since)


async def _tell(task: Task, part: ResponsePart) -> None:
    with suppress(trio.BrokenResourceError):  # the client has gone
        await task.sink(part)
