"""The running job's transitions on their way to the store: sent in order, awaited where it matters.

Each step costs a commit, and only two of them must be waited for: the first byte goes to a client
no earlier than the claim is on disk, and the slot is free again only when the end is. What lies
between travels in the same order on the store's queue.
"""

import logging

import outcome
import trio

from actors.mailbox import Pending, StoreInbox, write, write_later
from foreman import tables
from foreman.attempt import Again, Fail, Finish, Settlement
from foreman.errors import NoReply, StaleJob, StoreError
from foreman.jobs import FailureCode, JobClass, Requeue, State
from foreman.tables import JobRef, NewJob, Result, Transaction

log = logging.getLogger("foreman.journal")

RETRY_FIRST = 0.25  # seconds between tries to write a job's end; doubles
RETRY_CAP = 5.0

Submitted = Pending[outcome.Maybe[JobRef]]


class Journal:
    """One job's way through its states.

    It begins with the row's `ref`, with a submission that is on its way, or with a `new` job of
    which no row exists yet. `state` is what was last sent.
    """

    def __init__(
        self,
        store: StoreInbox,
        *,
        ref: JobRef | None = None,
        submitted: Submitted | None = None,
        new: NewJob | None = None,
    ) -> None:
        self._store = store
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
            here = tables.submit(tx, new) if new else queued
            assert here is not None
            claimed = tables.claim(tx, here, resident=resident)
            return tables.start(tx, claimed, load_s=None) if resident else claimed

        self._new = None
        self.state = State.WORKING if resident else State.LOADING
        self._pending = await write_later(self._store, step)

    async def confirm(self) -> JobRef:
        """Wait until what was sent is on disk. Raises StoreError or NoReply when it is not."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            self._ref = (await pending.answer()).unwrap()
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

    async def end(self, settlement: Settlement, result: Result | None = None) -> None:
        """Write how it ended, again and again until it is on disk: nothing stays `working`.

        Raises StoreError or NoReply only if the claim itself never got there.
        """
        ref = await self.confirm()
        pause = RETRY_FIRST
        while True:
            try:
                self._ref = await write(self._store, lambda tx: _end(tx, ref, settlement, result))
                return
            except StaleJob:
                log.exception("it was moved on by someone else", extra={"job": ref.id})
                return
            except (StoreError, NoReply) as error:
                log.warning("cannot record its end yet: %s", error, extra={"job": ref.id})
            await trio.sleep(pause)
            pause = min(RETRY_CAP, 2 * pause)


def _end(tx: Transaction, ref: JobRef, settlement: Settlement, result: Result | None) -> JobRef:
    match settlement:
        case Finish(verdict, incomplete):
            return tables.finish(
                tx,
                ref,
                result=result,
                tokens_in=verdict.tokens_in,
                tokens_out=verdict.tokens_out,
                incomplete=incomplete,
            )
        case Fail(code, text):
            return tables.fail(tx, ref, code, text)
        case Again(reason, delay, text):
            due = tx.now + round(delay * 1e6) if delay else None
            return tables.requeue(tx, ref, reason, not_before_us=due, message=text or None)


def put_back(job_class: JobClass) -> Settlement:
    """What becomes of the running job when the daemon stops: uncharged, or its client is cut."""
    if job_class is JobClass.BATCH:
        return Again(Requeue.SHUTDOWN, 0.0)
    return Fail(FailureCode.INTERRUPTED, "the daemon stopped while it ran")
