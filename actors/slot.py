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
from foreman.metrics import Metrics
from foreman.queue_view import RunningJob, shown
from foreman.reader import Reader
from foreman.residency import Residency
from foreman.rows import Artifact, Microseconds, Result
from foreman.scheduling import Limits, Rule
from foreman.target import Target
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


@dataclass(slots=True)
class Occupant:
    """The task in the slot, since when, and the scope that throws it out."""

    task: Task
    since: float
    scope: trio.CancelScope
    rule: Rule  # by which it was chosen
    load_s: float = 0.0
    over: bool = False  # nothing of it is left but to write down its end
    evicted: str = ""  # why it was thrown out

    def evict(self, why: str) -> None:
        """Throw it out: unless it is over, it ends as cancelled."""
        self.evicted = why
        self.scope.cancel(why)

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
        settlement, result, artifact = await _keep(task, settlement, ports)
        occupant.over = not isinstance(settlement, Again)
        await task.journal.end(settlement, result, artifact)
        if task.answer:
            ports.live.end(task.answer.output, complete=artifact is not None)
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
    task, journal = occupant.task, occupant.task.journal

    async def loaded(load_s: float | None) -> None:
        if load_s is not None and residency.loaded(task.admitted.fingerprint, load_s):
            occupant.load_s = load_s
            ports.metrics.loaded(task.admitted.model, load_s)
        if task.work.load is not None:
            await journal.start(load_s)

    async def sink(part: ResponsePart) -> None:
        await journal.confirm()  # no byte leaves before the claim is on disk
        await task.sink(part)

    with occupant.scope:
        try:
            outcome = await attempt(ports.target, task.work, sink, rules.silence, loaded)
            return settle(outcome, task.job_class, task.attempts, rules.max_attempts)
        except trio.BrokenResourceError:
            occupant.evicted = "the client hung up"  # nobody reads its answer any more
        except OutputTooLarge:
            return Fail(FailureCode.OUTPUT_TOO_LARGE, f"more than {rules.max_output} bytes")
    return Fail(FailureCode.CANCELLED, occupant.evicted)


async def _tell(task: Task, part: ResponsePart) -> None:
    with suppress(trio.BrokenResourceError):  # the client has gone
        await task.sink(part)
