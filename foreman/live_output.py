"""The answer of the running durable job while it grows: the worker writes, anybody may follow.

There is one copy of it, a reader is a number of bytes. Nothing here waits for a reader, and when
an output has ended it lives as long as somebody still reads it.
"""

from typing import NamedTuple

import trio

from foreman.jobs import JobId, State
from foreman.rows import JobRow

BLOCK = 1 << 18  # bytes handed to a reader at once


class Abandoned(Exception):
    """This run will not become the job's result: it failed, broke off, or the daemon stops."""


class RunId(NamedTuple):
    """One run of a job. A restart repeats an attempt, so the number of its claim tells runs apart.

    As text `attempt.claim`: what the header X-Foreman-Attempt says and `?attempt=` takes.
    """

    attempt: int
    claim: int  # `n` of the event with which it began

    def __str__(self) -> str:
        return f"{self.attempt}.{self.claim}"

    def is_meant_by(self, text: str) -> bool:
        """Whether a reader who names an attempt, or exactly one run of it, means this one."""
        return text in (str(self), str(self.attempt))


_STEPS_SINCE_CLAIM = {State.QUEUED: -1, State.LOADING: 0, State.WORKING: 1, State.DONE: 2}


def run_of(row: JobRow) -> RunId:
    """The run that comes next, goes on, or gave the result; for any job that has not failed."""
    return RunId(row.attempt, row.version - _STEPS_SINCE_CLAIM[row.state])


class LiveOutput:
    """What one run has answered so far. `content_type` is known as soon as there is a byte."""

    def __init__(self, job: JobId, run: RunId) -> None:
        self.job = job
        self.run = run
        self.content_type = ""
        self._body = bytearray()
        self._complete: bool | None = None  # None while it goes on
        self._readers = trio.lowlevel.ParkingLot()

    def __len__(self) -> int:
        return len(self._body)

    def begin(self, content_type: str) -> None:
        """The head has come. Once, before the first byte."""
        self.content_type = content_type

    def append(self, chunk: bytes) -> None:
        """More has come."""
        self._body += chunk
        self._readers.unpark_all()

    def end(self, *, complete: bool) -> None:
        """Nothing more will come; `complete`: the result is this, and on disk. Only once."""
        if self._complete is None:
            self._complete = complete
            self._readers.unpark_all()

    def body(self) -> bytes:
        """All of it."""
        return bytes(self._body)

    async def more(self, seen: int) -> bytes:
        """What follows the first `seen` bytes, once there is some; nothing at the very end.

        Raises Abandoned when the run broke off; what had come by then can still be read.
        """
        while len(self._body) <= seen:
            if self._complete is not None:
                await trio.lowlevel.checkpoint()
                return self._rest()
            await self._readers.park()
        with memoryview(self._body) as body:
            return bytes(body[seen : seen + BLOCK])

    def _rest(self) -> bytes:
        if not self._complete:
            raise Abandoned
        return b""


class LiveOutputs:
    """The output of the job that runs now: there is at most one."""

    def __init__(self) -> None:
        self._current: LiveOutput | None = None
        self._closed = False

    def begin(self, job: JobId, run: RunId) -> LiveOutput:
        """A run begins."""
        output = LiveOutput(job, run)
        if self._closed:
            output.end(complete=False)
        self._current = output
        return output

    def end(self, output: LiveOutput, *, complete: bool) -> None:
        """It is over. Its readers keep it until they have read it; who comes now reads the disk."""
        output.end(complete=complete)
        if self._current is output:
            self._current = None

    def of(self, job: JobId, run: RunId) -> LiveOutput | None:
        """The output of this run, while it goes on."""
        current = self._current
        if current is None or self._closed or (current.job, current.run) != (job, run):
            return None
        return current

    def close(self) -> None:
        """The daemon stops: let go of all readers. The run itself may still come to its end."""
        self._closed = True
        if self._current is not None:
            self._current.end(complete=False)
