"""Many inputs, one call: submitted in bounded numbers, handed back as they end.

The jobs carry a label that only they have, and what ends is read from the event log from before
the first of them on. So nothing that happens to a connection, or to the daemon, loses one.
"""

from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

import msgspec

from foreman.client import following, requests, working
from foreman.client.asking import Patience, ask, decode
from foreman.client.errors import ClientError, Damaged, JobFailed, Refused, Resync
from foreman.client.requests import JobParameters, MapParameters
from foreman.client.transport import Request, Transport
from foreman.client.values import Job, Outcome, Progress

T = TypeVar("T")

LABEL = "map"
WINDOW = 1000  # inputs under way
BATCH = 100  # jobs in one submission


@dataclass(frozen=True, slots=True)
class Terms(Generic[T]):
    """What the outcomes are, and how the map is to go."""

    kind: type[T] | None
    endpoint: str
    window: int
    ordered: bool
    progress: Callable[[Progress], object]
    how: JobParameters


def terms(kind: type[T] | None, given: MapParameters) -> Terms[T]:
    """The parameters, and what stands for those that are not given. Raises ValueError."""
    rest = given.copy()
    window = rest.pop("window", WINDOW)
    if window < 1:
        raise ValueError(f"window={window}: a map needs room for one input or more")
    return Terms(
        kind,
        rest.pop("endpoint", "/api/chat"),
        window,
        rest.pop("ordered", False),
        rest.pop("progress", lambda progress: None),
        cast(JobParameters, rest),
    )


@dataclass(frozen=True, slots=True)
class _Input:
    index: int
    request: Mapping[str, Any]
    key: str = field(default_factory=requests.new_key)


class _Accepted(msgspec.Struct):
    id: str


class _Problem(msgspec.Struct):
    detail: str = ""
    code: str = ""
    field: str | None = None


class _Line(msgspec.Struct):
    """The answer to one line of a bulk submission."""

    line: int
    status: int
    job: _Accepted | None = None
    error: _Problem | None = None


async def outcomes(
    transport: Transport, inputs: Iterable[Mapping[str, Any]], terms: Terms[T]
) -> AsyncGenerator[Outcome[T]]:
    """What becomes of each input. Raises Unreachable and Refused when the daemon takes no more."""
    mapped = _Map(transport, inputs, terms)
    async with aclosing(mapped.endings(await following.head(transport))) as endings:
        while not mapped.over:
            await mapped.submit()
            for outcome in mapped.due():
                yield outcome
            if mapped.running:
                await mapped.settle(await anext(endings))


class _Map(Generic[T]):
    """What is still to be sent, what is under way, what has ended and is not handed out."""

    def __init__(
        self, transport: Transport, inputs: Iterable[Mapping[str, Any]], terms: Terms[T]
    ) -> None:
        self._transport = transport
        self._terms = terms
        self._name = requests.new_key()
        self._inputs = (_Input(index, each) for index, each in enumerate(inputs))
        self._drained = False
        self._postponed: deque[_Input] = deque()  # the daemon had no room for them
        self.running: dict[str, _Input] = {}
        self._ended: dict[int, Outcome[T]] = {}
        self._next = 0  # the index that is handed out next, if in order
        self._counts = {"submitted": 0, "done": 0, "failed": 0}

    @property
    def over(self) -> bool:
        """Whether every input has been handed out."""
        return self._drained and not (self.running or self._postponed or self._ended)

    async def endings(self, after: int) -> AsyncGenerator[str]:
        """The jobs of this map as they end; where the log was lost, those that have."""
        query = {"label": f"{LABEL}:{self._name}", "state": "done,failed"}
        while True:
            try:
                async with aclosing(following.watch_all(self._transport, query, after)) as events:
                    async for event in events:
                        yield event.job
            except Resync:
                after = await following.head(self._transport)
                for job in tuple(self.running):
                    if (await working.get(self._transport, job)).ended:
                        yield job

    async def submit(self) -> None:
        """Fill the window. Raises Refused when there is no room though none of ours takes any."""
        patience = Patience(self._transport)
        while batch := self._batch():
            refusal = await self._send(batch)
            if refusal is not None:
                if self.running:
                    return  # there is room when one of them has ended
                await patience.wait(refusal)

    def _batch(self) -> list[_Input]:
        """As many inputs as fit into the window, at most BATCH."""
        room = min(BATCH, self._terms.window - len(self.running) - len(self._ended))
        batch: list[_Input] = []
        while len(batch) < room:
            if self._postponed:
                batch.append(self._postponed.popleft())
            elif (fresh := next(self._inputs, None)) is not None:
                batch.append(fresh)
            else:
                self._drained = True
                break
        return batch

    async def _send(self, batch: list[_Input]) -> Refused | None:
        """Submit them, and return the refusal that is only for now, if there was one."""
        body = b"".join(requests.encode(self._line(each)) + b"\n" for each in batch)
        headers = {"content-type": "application/x-ndjson"}
        request = Request("POST", "/jobs/bulk", body=body, headers=headers)
        answered = (await ask(self._transport, request)).splitlines()
        if len(answered) != len(batch):
            raise Damaged(f"{len(batch)} jobs were sent and {len(answered)} answered")
        refusal = None
        for each, line in zip(batch, answered, strict=True):
            refusal = self._accepted(each, decode(line, _Line)) or refusal
        self._report()
        return refusal

    def _line(self, each: _Input) -> dict[str, Any]:
        how = self._terms.how.copy()
        how["labels"] = {**how.get("labels", {}), LABEL: self._name}
        body = requests.submission(self._terms.endpoint, each.request, how)
        return {**body, "idempotency_key": each.key}

    def _accepted(self, each: _Input, answer: _Line) -> Refused | None:
        if answer.job is not None:
            self.running[answer.job.id] = each
            self._counts["submitted"] += 1
            return None
        said = answer.error or _Problem()
        refusal = Refused(answer.status, said.detail, code=said.code, field=said.field)
        if refusal.for_now:
            self._postponed.append(each)
            return refusal
        self._end(each, None, None, refusal)
        return None

    async def settle(self, job: str) -> None:
        """Take in what became of a job that has ended. Raises Unreachable."""
        if (each := self.running.get(job)) is None:
            return
        found = value = error = None
        try:
            found = await working.get(self._transport, job)
            value = await working.result_of(self._transport, found, self._terms.kind)
        except (Refused, Damaged, JobFailed) as problem:
            error = problem
        del self.running[job]
        self._end(each, found, value, error)
        self._report()

    def due(self) -> Iterator[Outcome[T]]:
        """What can be handed out now."""
        if self._terms.ordered:
            while self._next in self._ended:
                yield self._ended.pop(self._next)
                self._next += 1
        else:
            while self._ended:
                yield self._ended.pop(next(iter(self._ended)))

    def _end(self, each: _Input, job: Job | None, value: Any, error: ClientError | None) -> None:
        self._ended[each.index] = Outcome(each.index, each.request, job, value, error)
        self._counts["failed" if error else "done"] += 1

    def _report(self) -> None:
        self._terms.progress(Progress(**self._counts))
