"""The running job's transitions on their way to the store: sent in order, awaited where it matters.

Each step costs a commit, and only two of them must be waited for: the first byte goes to a client
no earlier than the claim is on disk, and the slot is free again only when the end is. What lies
between travels in the same order on the store's queue.
"""

import logging
from functools import partial

import outcome
import trio

from actors.mailbox import Pending, StoreInbox, write, write_later
from foreman import tables
from foreman.attempt import Again, Fail, Finish, Settlement
from foreman.errors import NoReply, StaleJob, StoreError
from foreman.jobs import LIVE, FailureCode, JobClass, JobId, Requeue, State
from foreman.tables import Artifact, JobRef, NewJob, Result, Transaction

log = logging.getLogger("foreman.journal")

RETRY_FIRST = 0.25  # seconds between tries to write a job's end; doubles
RETRY_CAP = 5.0

Submitted = Pending[outcome.Maybe[JobRef]]


class Journal:
    """One job's way through its states.

    `job` begins with its row's `ref`, with a submission that is on its way, or as a `new` job of
    which no row exists yet. `state` is what was last sent.
    """

    def __init__(
        self,
        store: StoreInbox,
        job: JobId,
        *,
        ref: JobRef | None = None,
        submitted: Submitted | None = None,
        new: NewJob | None = None,
    ) -> None:
        self._store = store
        self._job = job
        self._ref = ref
        self._pending = submitted
        self._new = new
        self.state = State.QUEUED

    async def claim(self, *, resident: bool) -> None:
        """Send the claim, with the submission before it where that is still to be done.

        A resident model is working at once, so all of it is one write.
        """
        queued, new = None, self._new
        if new is None:
            queued = await self.confirm()

        def step(tx: Transaction) -> JobRef:
            if new and resident:
                return tables.submit_running(tx, new)
            here = tables.submit(tx, new) if new else queued
            assert here is not None
            if resident:
                return tables.claim_resident(tx, here)
            return tables.claim(tx, here, resident=False)

        self._new = None
        self.state = State.WORKING if resident else State.LOADING
        self._pending = await write_later(self._store, step)

    async def confirm(self) -> JobRef:
        """Wait until what was sent is on disk. Raises StoreError when it never will be.

        Raises NoReply when nobody knows: the store crashed with it in hand.
        """
        if self._pending is not None:
            answer = await self._pending.answer()  # cancelled here, the next call waits again
            self._pending.slot.close()
            self._pending = None
            self._ref = answer.unwrap()
        if self._ref is None:
            raise NoReply
        return self._ref

    async def start(self, load_s: float | None) -> None:
        """Send the step from loading to working, once the claim is on disk."""
        claimed = await self.confirm()
        self.state = State.WORKING
        self._pending = await write_later(
            self._store, lambda tx: tables.start(tx, claimed, load_s=load_s)
        )

    async def end(
        self,
        settlement: Settlement,
        result: Result | None = None,
        artifact: Artifact | None = None,
    ) -> None:
        """Write how it ended, again and again until it is on disk: nothing stays `working`.

        `artifact` describes a durable job's answer, `result` holds it unless a file does. What the
        store refused before is as if it had never been sent. A job that was put back can be claimed
        again.
        """
        ref = await self._whereabouts()
        pause = RETRY_FIRST

        def step(tx: Transaction) -> JobRef | None:
            here = ref or _found(tx, self._job)
            return here and _end(tx, here, settlement, result, artifact)

        while True:
            try:
                self._ref = await write(self._store, step)
                self.state = self._ref.state if self._ref else self.state
                return
            except StaleJob:
                log.warning("its row had moved on already", extra={"job": self._job})
                return
            except (StoreError, NoReply) as error:
                log.warning("cannot record its end yet: %s", error, extra={"job": self._job})
            await trio.sleep(pause)
            pause = min(RETRY_CAP, 2 * pause)

    async def _whereabouts(self) -> JobRef | None:
        """The row as it was last seen on disk; None when only the row itself can tell."""
        try:
            return await self.confirm()
        except StoreError:
            return self._ref
        except NoReply:
            return None


def _found(tx: Transaction, job: JobId) -> JobRef | None:
    """The row of a job that is still alive."""
    row = tables.get_job(tx.connection, job)
    return row.ref if row is not None and row.state in LIVE else None


def _end(
    tx: Transaction,
    ref: JobRef,
    settlement: Settlement,
    result: Result | None,
    artifact: Artifact | None,
) -> JobRef:
    match settlement:
        case Finish(verdict, incomplete):
            return tables.finish(
                tx,
                ref,
                result=result,
                artifact=artifact,
                tokens_in=verdict.tokens_in,
                tokens_out=verdict.tokens_out,
                incomplete=incomplete,
            )
        case Fail(code, text):
            return tables.fail(tx, ref, code, text)
        case Again() if ref.state is State.QUEUED:
            return ref  # it never left
        case Again(reason, delay, text):
            due = tx.now + round(delay * 1e6) if delay else None
            return tables.requeue(tx, ref, reason, not_before_us=due, message=text or None)


async def take_over(store: StoreInbox) -> None:
    """Settle what a crashed worker left live; for one that begins and owns no job yet.

    Comes back when that is on disk, however long the store is in trouble.
    """
    while True:
        try:
            found = await write(store, partial(tables.recover, this_boot=True))
        except (StoreError, NoReply) as error:
            log.warning("cannot begin yet: %s", error)
            await trio.sleep(RETRY_CAP)
        else:
            if found != tables.Recovered():
                log.warning("took over from a crashed worker: %s", found)
            return


def put_back(job_class: JobClass) -> Settlement:
    """What becomes of the running job when the daemon stops: uncharged, or its client is cut."""
    if job_class is JobClass.BATCH:
        return Again(Requeue.SHUTDOWN, 0.0)
    return Fail(FailureCode.INTERRUPTED, "the daemon stopped while it ran")
