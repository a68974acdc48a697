"""A request as a durable job of a foreman: queued, followed, withdrawn."""

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from hashlib import sha256
from itertools import count
from statistics import fmean
from typing import Self

import anyio
import msgspec

from foreman.client import asking, following, requests, working
from foreman.client.errors import ClientError
from foreman.client.requests import JobParameters
from foreman.client.transport import Request as Asked
from foreman.client.values import Job, Record
from foreman.jobs import State
from foreman.llm.errors import CallError, StreamBroken, Unreachable
from foreman.llm.model import CLOSING
from foreman.llm.providers.answering import TAIL
from foreman.llm.providers.foreman_transport import AnyioTransport, translated
from foreman.llm.providers.http import Connection
from foreman.llm.providers.ollama_response import Reader
from foreman.llm.response import Event, Place
from foreman.names import InvalidName, key
from foreman.queue_view import QueueView

PATIENCE = 10.0  # seconds that a foreman may be away while it has a job of ours
LOOK = 1.0  # seconds between looks at a place in the queue
RECENT = 20  # jobs whose time tells how long the next will take


class Foreman:
    """The conversations with one foreman."""

    def __init__(self, connection: Connection) -> None:
        self.translated = partial(translated, connection)
        self.once = AnyioTransport(connection, patience=0)
        self.patient = AnyioTransport(connection, patience=PATIENCE)

    async def submit(self, request_id: str, body: Mapping[str, object], how: JobParameters) -> Job:
        """A job for this request: one that is there already, unless it has failed.

        The key tells apart what one request asks of different models, and the tries after failures.
        """
        digest = sha256(msgspec.json.encode(body)).hexdigest()[:16]
        for number in count():
            tried = f"{request_id}-{digest}-{number}"
            asked = requests.submit("/api/chat", body, how, tried)
            job = await asking.ask_for(self.once, asked, Job)
            if job.state is not State.FAILED:
                return job
        raise AssertionError  # count() does not end

    async def queue(self) -> QueueView:
        return await asking.ask_for(self.once, Asked("GET", "/queue"), QueueView)

    async def pace(self) -> float | None:
        """Seconds that a job has taken lately; None when there was none."""
        query = {"state": "done", "limit": str(RECENT)}
        page = await asking.ask_for(self.once, Asked("GET", "/jobs", query), _Page)
        took = [
            (job.finished_at - job.claimed_at).total_seconds()
            for job in page.jobs
            if job.finished_at and job.claimed_at
        ]
        return fmean(took) if took else None

    async def place(self, position: int) -> Place:
        """With so many jobs to run before, the running one among them."""
        if position == 0:
            return Place(0, 0.0)
        return Place(position, _starts_in(await self.queue(), position, await self.pace()))

    async def estimate(self, model: str) -> Place:
        """Where a job for the model would stand now."""
        view = await self.queue()
        before = sum(lane.jobs for lane in view.lanes if _runs_before(view, lane.model, model))
        position = before + (view.running is not None)
        return Place(position, _starts_in(view, position, await self.pace()))


class _Page(msgspec.Struct):
    jobs: list[Job]


def _starts_in(view: QueueView, position: int, pace: float | None) -> float | None:
    if view.target_away:
        return None
    if position == 0:
        return 0.0
    if pace is None:
        return None
    gone = min(pace, view.running.seconds) if view.running else 0.0
    return position * pace - gone


def _runs_before(view: QueueView, lane: str, model: str) -> bool:
    """Whoever asks for the loaded model does not wait for the others."""
    resident = (view.resident or "").partition(" ")[0]
    return not _same(resident, model) or _same(lane, model)


def _same(one: str, other: str) -> bool:
    try:
        return key(one) == key(other)
    except InvalidName:
        return False


class Submission:
    """One job, from the queue to its end; see foreman.llm.waiting."""

    def __init__(self, foreman: Foreman, job: Job, target: str) -> None:
        self._foreman = foreman
        self._job = job
        self._target = target
        self._answer: Answered | None = None

    def places(self) -> "AsyncIterator[Place]":
        return _Places(self._foreman, self._job, self._target)

    def events(self) -> "Answered":
        self._answer = self._answer or Answered(self._foreman, self._job, self._target)
        return self._answer

    async def withdraw(self) -> bool:
        """Whether it never begins. Raises CallError.

        A job that the worker takes between the look and the word is cancelled with its first
        tokens: it gives no answer either, so that somebody else can be asked.
        """
        with self._foreman.translated(self._target):
            job = await working.get(self._foreman.patient, self._job)
            if job.state is not State.QUEUED:
                return False
            await working.cancel(self._foreman.patient, job)
            return True

    async def leave(self) -> None:
        """Give it all back: the reading, and the job unless it is over."""
        if self._answer is not None:
            await self._answer.aclose()
        if self._answer is None or not self._answer.over:
            await self._cancel()

    async def _cancel(self) -> None:
        try:
            with self._foreman.translated(self._target):
                await working.cancel(self._foreman.once, self._job)
        except CallError:
            pass  # it is over, or nobody is there to be told


@asynccontextmanager
async def submitted(
    foreman: Foreman, request_id: str, body: Mapping[str, object], how: JobParameters, target: str
) -> AsyncGenerator[Submission]:
    """The request in the queue until the block is left."""
    with foreman.translated(target):
        job = await foreman.submit(request_id, body, how)
    submission = Submission(foreman, job, target)
    try:
        yield submission
    finally:
        with anyio.move_on_after(CLOSING, shield=True):
            await submission.leave()


class _Places:
    """Where a job stands, each time that it moves up, until it is its turn."""

    def __init__(self, foreman: Foreman, job: Job, target: str) -> None:
        self._foreman = foreman
        self._job = job
        self._target = target
        self._shown: int | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Place:
        with self._foreman.translated(self._target):
            while await self._waits():
                if self._job.position != self._shown:
                    self._shown = self._job.position
                    return await self._foreman.place(self._shown or 0)
        raise StopAsyncIteration

    async def _waits(self) -> bool:
        """Look where it stands: at once the first time, then when it is taken, or after a while."""
        if self._shown is not None:
            with anyio.move_on_after(LOOK):
                await self._taken()
        self._job = await working.get(self._foreman.patient, self._job)
        return self._job.state is State.QUEUED

    async def _taken(self) -> None:
        log = following.watch_job(self._foreman.patient, self._job, self._job.last_seq)
        async with aclosing(log) as events:
            async for event in events:
                if event.state is not State.QUEUED:
                    return


class Answered:
    """The events of a job's answer. A run that is given up before it said anything is no matter."""

    def __init__(self, foreman: Foreman, job: Job, target: str) -> None:
        self._foreman = foreman
        self._records: AsyncGenerator[Record] = following.output(foreman.patient, job, 0)
        self._target = target
        self._reader = Reader(target)
        self._run = ""
        self._begun = False
        self._ready: deque[Event] = deque()
        self.over = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._ready:
            if self.over:
                raise StopAsyncIteration
            self._ready.extend(self._read(await self._next()))
        event = self._ready.popleft()
        self._begun = True
        self.over = event.response is not None
        return event

    async def _next(self) -> Record:
        try:
            with self._foreman.translated(self._target):
                return await anext(self._records)
        except StopAsyncIteration:
            raise StreamBroken("it ended before the answer did", target=self._target) from None
        except Unreachable as error:
            if self._begun:
                raise StreamBroken(error.reason, target=self._target) from error.__cause__
            raise

    def _read(self, record: Record) -> list[Event]:
        if record.run != self._run:
            if self._begun:
                raise StreamBroken("the job began anew", target=self._target)
            self._run, self._reader = record.run, Reader(self._target)
        return list(self._reader.convert(record.data))

    async def aclose(self) -> None:
        """End the reading; a connection whose body has come to its end is kept."""
        if self.over:
            with anyio.move_on_after(TAIL), suppress(ClientError):
                await anext(self._records, None)
        await self._records.aclose()
