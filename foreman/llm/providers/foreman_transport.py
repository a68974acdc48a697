"""foreman.client's conversations, over httpx on whichever loop runs."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Self, TypeVar

import anyio
import anyio.to_thread
import httpx

from foreman.client import asking
from foreman.client import errors as client
from foreman.client.http import unreachable
from foreman.client.transport import Reply, Request
from foreman.llm import errors
from foreman.llm.model import CLOSING
from foreman.llm.providers import ollama_response
from foreman.llm.providers.http import Connection

T = TypeVar("T")


class AnyioTransport:
    """See foreman.client.transport. How long an answer may take is the caller's to say.

    `patience`: seconds for which a foreman that is away is asked again.
    """

    def __init__(self, connection: Connection, patience: float) -> None:
        self._connection = connection
        self.patience = patience

    @asynccontextmanager
    async def open(self, request: Request) -> AsyncGenerator[Reply]:
        url = self._connection.url
        asked = self._connection.client().build_request(
            request.method, request.target, content=request.body, headers=dict(request.headers)
        )
        try:
            response = await self._connection.client().send(asked, stream=True)
        except httpx.HTTPError as error:
            raise unreachable(url, error) from error
        chunks = _Chunks(url, response)
        try:
            yield Reply(response.status_code, response.headers, chunks)
        finally:
            with anyio.move_on_after(CLOSING, shield=True):
                await chunks.leave()

    @asynccontextmanager
    async def subscribe(self, request: Request) -> AsyncGenerator[AsyncIterator[bytes]]:
        """As NDJSON."""
        async with self.open(request) as reply:
            await asking.accept(reply)
            yield reply.lines()

    async def blocking(self, call: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(call)

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    def clock(self) -> float:
        return anyio.current_time()


class _Chunks:
    """A body's bytes as they come."""

    def __init__(self, url: str, response: httpx.Response) -> None:
        self._url = url
        self._response = response
        self._body = response.aiter_raw()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._body)
        except httpx.HTTPError as error:
            raise unreachable(self._url, error) from error

    async def leave(self) -> None:
        """End httpx's reading, however far it is: see `answering.Answer`."""
        with anyio.CancelScope() as scope, suppress(httpx.HTTPError):
            scope.cancel()
            async for _ in self._body:
                pass
        await self._response.aclose()


@contextmanager
def translated(connection: Connection, target: str) -> Generator[None]:
    """foreman.client's errors as ours, each with the client's own as its cause."""
    try:
        yield
    except client.ClientError as error:
        error.args = tuple(connection.hidden(str(arg)) for arg in error.args)
        raise _translation(error, connection.hidden, target) from error


def _translation(
    error: client.ClientError, hidden: Callable[[str], str], target: str
) -> errors.CallError:
    match error:
        case client.Refused(status=status, detail=detail, retry_after=later):
            if error.code == "model_not_found":
                return errors.ModelNotFound(hidden(detail), target=target, status=status)
            return ollama_response.refusal(status, hidden(detail), target=target, retry_after=later)
        case client.JobFailed(code=code, message=message):
            return _failed(code, message, target)
        case client.Unreachable():
            return errors.Unreachable(str(error), target=target)
        case _:
            return errors.InvalidResponse(str(error), target=target)


_FAILURES: dict[str, type[errors.CallError]] = {
    "cancelled": errors.InvalidRequest,  # whoever did that wants it called nowhere
    "expired": errors.TimedOut,
    "first_byte_timeout": errors.TimedOut,
    "gap_timeout": errors.TimedOut,
    "garbled": errors.InvalidResponse,
    "job_timeout": errors.TimedOut,
    "load_timeout": errors.TimedOut,
    "output_too_large": errors.InvalidRequest,
    "truncated": errors.StreamBroken,
}


def _failed(code: str, message: str, target: str) -> errors.CallError:
    """A failed job's error by its code, see docs/reference/job-states.md."""
    if code == "target_refused":
        status = 404 if "not found" in message else 400
        return ollama_response.refusal(status, message, target=target)
    kind = _FAILURES.get(code, errors.ServerError)
    return kind(f"{code}: {message}", target=target)
