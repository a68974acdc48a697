"""`foreman.Client`: what the daemon does, in plain blocking calls."""

from collections.abc import Generator, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack, overload

import httpx

from foreman.client import asking, fetching, following, http, mapping, requests, working
from foreman.client.answers import ChatResponse, EmbedResponse, GenerateResponse
from foreman.client.blocking import BlockingTransport, iterate, run
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
from foreman.client.transport import Request
from foreman.client.values import Artifact, Event, Job, Outcome, Record
from foreman.queue_view import QueueView

T = TypeVar("T")
Stream = Generator[T, None, None]


class Client:
    """One daemon. Its methods may be called from several threads.

    `url` and `token` default to FOREMAN_URL and FOREMAN_TOKEN. For `patience` seconds a daemon
    that is away (it restarts) or busy (503, 429) is asked again, with growing pauses; then the
    error comes. Raises ConfigError; every method Unreachable and Refused.

        with Client() as client:
            job = client.submit("/api/chat", {"model": "llama3.2", "messages": [...]})
            print(client.result(job).message.content)
    """

    def __init__(
        self, url: str | None = None, token: str | None = None, *, patience: float = 60.0
    ) -> None:
        self._http = httpx.Client(**http.settings(locate(url, token)))
        self._transport = BlockingTransport(self._http, patience)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drop the connections."""
        self._http.close()

    # Ollama's calls: the daemon queues them, and this call waits.

    @overload
    def chat(
        self,
        model: str,
        messages: Messages,
        *,
        stream: Literal[False] = False,
        **parameters: Unpack[ChatParameters],
    ) -> ChatResponse: ...
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
    ) -> ChatResponse | Stream[ChatResponse]:
        """An answer, or its pieces as they come.

        Not repeated once it was sent: what must survive a restart is a job. Raises Damaged.
        """
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
    ) -> GenerateResponse: ...
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
    ) -> GenerateResponse | Stream[GenerateResponse]:
        """A completion, or its pieces as they come; see `chat`."""
        request = requests.generate(model, prompt, parameters, stream=stream)
        return self._inference(request, GenerateResponse, stream=stream)

    def embed(
        self,
        model: str,
        input: str | Sequence[str],  # noqa: A002  Ollama's word
        **parameters: Unpack[EmbedParameters],
    ) -> EmbedResponse:
        """One vector for each input."""
        request = requests.embed(model, input, parameters)
        return run(asking.answer(self._transport, request, EmbedResponse))

    def _inference(self, request: Request, kind: type[T], *, stream: bool) -> T | Stream[T]:
        if stream:
            return iterate(asking.pieces(self._transport, request, kind))
        return run(asking.answer(self._transport, request, kind))

    # Jobs: they outlive the connection, this process, and the daemon's.

    def submit(
        self,
        endpoint: str,
        request: Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        **how: Unpack[JobParameters],
    ) -> Job:
        """A durable job for any inference route; it is on the disk when this returns.

        Sent again after a failure, it still makes one job: each call has a key of its own, unless
        you bring one that holds from one run of your program to the next.
        """
        asked = requests.submit(endpoint, request, how, idempotency_key)
        return run(asking.ask_for(self._transport, asked, Job))

    def get(self, job: JobOrId) -> Job:
        """The job as it stands. Raises Refused (404: there is none)."""
        return run(working.get(self._transport, job))

    def wait(self, job: JobOrId, timeout: float | None = None) -> Job:
        """The job once it is done or failed. Raises WaitTimeout after `timeout` seconds."""
        return run(working.wait(self._transport, job, timeout))

    @overload
    def result(self, job: JobOrId, kind: type[T], *, timeout: float | None = None) -> T: ...
    @overload
    def result(self, job: JobOrId, kind: None = None, *, timeout: float | None = None) -> Any: ...
    def result(
        self, job: JobOrId, kind: type[T] | None = None, *, timeout: float | None = None
    ) -> Any:
        """Wait, and return the answer: a `kind`, else what its endpoint answers with.

        Raises JobFailed, Damaged, and WaitTimeout after `timeout` seconds.
        """
        return run(working.result(self._transport, job, kind, timeout))

    def cancel(self, job: JobOrId) -> Job:
        """The job, failed as cancelled or about to be. Raises Refused (code `already_done`)."""
        return run(working.cancel(self._transport, job))

    def jobs(self, **filters: Unpack[JobFilter]) -> Stream[Job]:
        """The jobs, the newest first; they are fetched as you go."""
        return iterate(working.listed(self._transport, filters))

    def queue(self) -> QueueView:
        """What runs and what waits, in the order in which it will run."""
        return run(asking.ask_for(self._transport, Request("GET", "/queue"), QueueView))

    # What happens while it happens.

    def output(self, job: JobOrId, start: int = 0) -> Stream[Record]:
        """What the job is answered, live, from record number `start` on. Raises JobFailed.

        Goes on where a broken connection left off. Where the run itself was abandoned, the next
        one begins again with record 0.
        """
        return iterate(following.output(self._transport, job, start))

    def watch(
        self, job: JobOrId | None = None, *, after: int | None = None, **filters: Unpack[JobFilter]
    ) -> Stream[Event]:
        """The events of a job up to its last, or those of all jobs from now on, without end.

        `after` is the `seq` of the last event you know. None is missed and none comes twice,
        whatever happens to the connection or the daemon. Raises Resync.
        """
        if job is not None:
            return iterate(following.watch_job(self._transport, job, after or 0))
        start = run(following.head(self._transport)) if after is None else after
        return iterate(following.watch_all(self._transport, requests.query(filters), start))

    # What a job leaves behind.

    def artifacts(self, job: JobOrId) -> tuple[Artifact, ...]:
        """What there is."""
        return run(fetching.artifacts(self._transport, job))

    def artifact(self, job: JobOrId, name: str | None = None) -> bytes:
        """The bytes of one, or of the first. Raises Refused (code `no_artifact`) and Damaged."""
        return run(fetching.content(self._transport, job, name))

    def download(self, job: JobOrId, path: str | Path, name: str | None = None) -> Artifact:
        """The same into a file, which is there only when it is whole. Raises OSError, too."""
        return run(fetching.save(self._transport, job, Path(path), name))

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
        """A job for each request, and what became of each, as they end or in the order given.

        An outcome is a value or an error, and `outcome.result()` raises the latter; a `kind` says
        what the values are, as in `result`. Jobs that are under way when you stop iterating go on;
        all carry one label named `map`. Raises ValueError for a window below 1, Unreachable, and
        Refused when no more are taken.
        """
        return iterate(mapping.outcomes(self._transport, requests, mapping.terms(kind, how)))
