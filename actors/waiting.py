"""A client's call in the worker's hands: its row, its journal, and how it ends unanswered."""

from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import trio

from actors.journal import Journal, Submitted
from actors.mailbox import StoreInbox, writing
from actors.messages import Call
from foreman import tables
from foreman.attempt import Fail
from foreman.jobs import FailureCode, Fingerprint, JobClass, JobId
from foreman.tables import NewJob
from foreman.tracing import NO_SPAN, Span
from foreman.wire import ResponseFailed


@dataclass(slots=True)
class Waiting:
    """A call in its lane. `submitted` and `journal` know how much of it the store has been told."""

    call: Call
    arrived: float  # seconds on the monotonic clock
    submitted: Submitted | None = None
    journal: Journal | None = None  # of its last attempt, once there was one
    span: Span = NO_SPAN  # of its wait

    @property
    def job(self) -> JobId:
        return self.call.job

    @property
    def fingerprint(self) -> Fingerprint:
        return self.call.admitted.fingerprint

    async def submit(self, store: StoreInbox) -> None:
        """Send its row to the store: it will wait a while."""
        # `submitted` is set before the first await: by its end the call may have its attempt.
        message, self.submitted = writing(partial(tables.submit, job=_row(self.call)))
        try:
            await store.send(message)
        except BaseException:
            message.reply.close()
            raise

    def begin(self, store: StoreInbox) -> Journal:
        """Its journal, for an attempt; what was not submitted yet is so with its claim."""
        if self.journal is None:
            new = None if self.submitted else _row(self.call)
            self.journal = Journal(store, self.job, submitted=self.submitted, new=new)
        return self.journal

    async def leave(self, store: StoreInbox, code: FailureCode, text: str) -> None:
        """Journal that it leaves the queue unanswered, if the store has ever heard of it."""
        self.span.fail(code.value)
        self.span.end()
        if self.journal is not None or self.submitted is not None:
            await self.begin(store).end(Fail(code, text))


def refuse(call: Call, refusal: ResponseFailed) -> None:
    """End a call that will not be answered: in words where there is room, as there is at first."""
    with call.parts, suppress(trio.WouldBlock, trio.BrokenResourceError):
        call.parts.send_nowait(refusal)


def _row(call: Call) -> NewJob:
    return NewJob(
        call.job,
        JobClass.INTERACTIVE,
        call.route.path,
        call.admitted.model,
        call.admitted.fingerprint,
        streamed=call.admitted.streamed,
        owner=call.owner,
    )
