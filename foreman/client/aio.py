"""`foreman.AsyncClient`: the same as foreman.Client, for programs on trio."""

from collections.abc import AsyncGenerator, Awaitable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack, overload

import httpx
import trio

from foreman.client import asking, fetching, following, http, mapping, requests, working
from foreman.client.answers import ChatResponse, EmbedResponse, GenerateResponse
from foreman.client.location import locate
from foreman.client.requests import (
    ChatParameters,
    EmbedParameters,
    GenerateParameters,
    JobFilter,
    JobOrId,
    JobParameters,
    MapParameters,
    Messages,
)
from foreman.client.suspending import TrioTransport
from foreman.client.transport import Request
from foreman.client.values import Artifact, Event, Job, Outcome, Record
from foreman.queue_view import QueueView

T = TypeVar("T")
Stream = AbstractAsyncContextManager[trio.abc.ReceiveChannel[T]]
"""To be used as `async with ... as items: async for item in items`."""


@trio.as_safe_channel
async def _stream(items: AsyncGenerator[T]) -> AsyncGenerator[T]:
    async with aclosing(items):
        async for item in items:
            yield item


class AsyncClient:
    """One daemon; see foreman.Client for what the parameters and methods mean, and raise.

    Two things differ. A deadline is the caller's, as in `with trio.fail_after(60)`. And whatever
    comes piece by piece is a context manager, which hangs up where it ends:

        async with AsyncClient() as client:
            job = await client.submit("/api/chat", {"model": "llama3.2", "messages": [...]})
            async with client.watch(job) as events:
                async for event in events:
                    print(event.type)
    """

    def __init__(
        self, url: str | None = None, token: str | None = None, *, patience: float = 60.0
    ) -> None:
        location = locate(url, token)
        self._http = httpx.AsyncClient(**http.settings(location))
        self._transport = TrioTransport(self._http, http.headers(location), patience)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Drop the connections."""
        await self._http.aclose()

    # Ollama's calls: the daemon queues them, and this call waits.

    @overload
    def chat(
        self,
        model: str,
        messages: Messages,
        *,
        stream: Literal[False] = False,
        **parameters: Unpack[ChatParameters],
    ) -> Awaitable[ChatResponse]: ...
    @overload
    def chat(
        self,
        model: str,
        messages: Messages,
        *,
        stream: Literal[True],
        **parameters: Unpack[ChatParameters],
    ) -> Stream[ChatResponse]: ...
    def chat(
        self,
        model: str,
        messages: Messages,
        *,
        stream: bool = False,
        **parameters: Unpack[ChatParameters],
    ) -> Awaitable[ChatResponse] | Stream[ChatResponse]:
        """`await` the answer, or go through its pieces as they come."""
        request = requests.chat(model, messages, parameters, stream=stream)
        return self._inference(request, ChatResponse, stream=stream)

    @overload
    def generate(
        self,
        model: str,
        prompt: str = "",
        *,
        stream: Literal[False] = False,
        **parameters: Unpack[GenerateParameters],
    ) -> Awaitable[GenerateResponse]: ...
    @overload
    def generate(
        self,
        model: str,
        prompt: str = "",
        *,
        stream: Literal[True],
        **parameters: Unpack[GenerateParameters],
    ) -> Stream[GenerateResponse]: ...
    def generate(
        self,
        model: str,
        prompt: str = "",
        *,
        stream: bool = False,
        **parameters: Unpack[GenerateParameters],
    ) -> Awaitable[GenerateResponse] | Stream[GenerateResponse]:
        """`await` the completion, or go through its pieces as they come."""
        request = requests.generate(model, prompt, parameters, stream=stream)
        return self._inference(request, GenerateResponse, stream=stream)

    async def embed(
        self,
        model: str,
        input: str | Sequence[str],  # noqa: A002  Ollama's word
        **parameters: Unpack[EmbedParameters],
    ) -> EmbedResponse:
        """One vector for each input."""
        request = requests.embed(model, input, parameters)
        return await asking.answer(self._transport, request, EmbedResponse)

    def _inference(
        self, request: Request, kind: type[T], *, stream: bool
    ) -> Awaitable[T] | Stream[T]:
        if stream:
            return _stream(asking.pieces(self._transport, request, kind))
        return asking.answer(self._transport, request, kind)

    # Jobs: they outlive the connection, this process, and the daemon's.

    async def submit(
        self,
        endpoint: str,
        request: Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        **how: Unpack[JobParameters],
    ) -> Job:
        """A durable job for any inference route; it is on the disk when this returns."""
        asked = requests.submit(endpoint, request, how, idempotency_key)
        return await asking.ask_for(self._transport, asked, Job)

    async def get(self, job: JobOrId) -> Job:
        """The job as it stands."""
        return await working.get(self._transport, job)

    async def wait(self, job: JobOrId) -> Job:
        """The job once it is done or failed."""
        return await working.wait(self._transport, job, None)

    @overload
    async def result(self, job: JobOrId, kind: type[T]) -> T: ...
    @overload
    async def result(self, job: JobOrId, kind: None = None) -> Any: ...
    async def result(self, job: JobOrId, kind: type[T] | None = None) -> Any:
        """Wait, and return the answer: a `kind`, else what its endpoint answers with."""
        return await working.result(self._transport, job, kind, None)

    async def cancel(self, job: JobOrId) -> Job:
        """The job, failed as cancelled or about to be."""
        return await working.cancel(self._transport, job)

    def jobs(self, **filters: Unpack[JobFilter]) -> Stream[Job]:
        """The jobs, the newest first; they are fetched as you go."""
        return _stream(working.listed(self._transport, filters))

    async def queue(self) -> QueueView:
        """What runs and what waits, in the order in which it will run."""
        return await asking.ask_for(self._transport, Request("GET", "/queue"), QueueView)

    # What happens while it happens.

    def output(self, job: JobOrId, start: int = 0) -> Stream[Record]:
        """What the job is answered, live, from record number `start` on."""
        return _stream(following.output(self._transport, job, start))

    @asynccontextmanager
    async def watch(
        self, job: JobOrId | None = None, *, after: int | None = None, **filters: Unpack[JobFilter]
    ) -> AsyncGenerator[trio.abc.ReceiveChannel[Event]]:
        """The events of a job up to its last, or those of all jobs from now on, without end."""
        if job is not None:
            log = following.watch_job(self._transport, job, after or 0)
        else:
            start = await following.head(self._transport) if after is None else after
            log = following.watch_all(self._transport, requests.query(filters), start)
        async with _stream(log) as events:
            yield events

    # What a job leaves behind.

    async def artifacts(self, job: JobOrId) -> tuple[Artifact, ...]:
        """What there is."""
        return await fetching.artifacts(self._transport, job)

    async def artifact(self, job: JobOrId, name: str | None = None) -> bytes:
        """The bytes of one, or of the first."""
        return await fetching.content(self._transport, job, name)

    async def download(self, job: JobOrId, path: str | Path, name: str | None = None) -> Artifact:
        """The same into a file, which is there only when it is whole."""
        return await fetching.save(self._transport, job, Path(path), name)

    # Many at once.

    @overload
    def map(
        self,
        requests: Iterable[Mapping[str, Any]],
        kind: type[T],
        **how: Unpack[MapParameters],
    ) -> Stream[Outcome[T]]: ...
    @overload
    def map(
        self,
        requests: Iterable[Mapping[str, Any]],
        kind: None = None,
        **how: Unpack[MapParameters],
    ) -> Stream[Outcome[Any]]: ...
    def map(
        self,
        requests: Iterable[Mapping[str, Any]],
        kind: type[Any] | None = None,
        **how: Unpack[MapParameters],
    ) -> Stream[Outcome[Any]]:
        """A job for each request, and what became of each, as they end or in the order given."""
        return _stream(mapping.outcomes(self._transport, requests, mapping.terms(kind, how)))
