"""What the official SDKs of OpenAI and Anthropic have in common.

One generator makes both, on httpx2: their errors bear the same names, and both run under trio as
under asyncio. An SDK knows the address, the headers, and what a refusal is; its retries are off,
and the stream is read here, frame by frame, as every other provider's is.
"""

import os
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from typing import Any, Protocol

import anyio
import httpx2

from foreman.llm.dsn import Secret
from foreman.llm.errors import CallError, InvalidResponse, TimedOut, Unreachable
from foreman.llm.framing import Framing
from foreman.llm.model import CLOSING
from foreman.llm.providers.answering import Answer
from foreman.llm.providers.http import CONNECT_LIMIT, hidden, is_here
from foreman.llm.providers.wording import fields_of, retry_after
from foreman.llm.response import Event

TIMEOUT = httpx2.Timeout(None, connect=CONNECT_LIMIT)


def http_client(url: str) -> httpx2.AsyncClient:
    """What an SDK sends with: ours, since the SDK's own closes itself on asyncio alone."""
    return httpx2.AsyncClient(timeout=TIMEOUT, trust_env=not is_here(url))


def unsent(variable: str) -> list[str]:
    """The headers that an SDK takes from the environment, and that are for its vendor alone."""
    lines = os.environ.get(variable, "").splitlines()
    return [line.partition(":")[0].strip() for line in lines if ":" in line]


class Refusal(Protocol):
    """A wire's own word for a status and the body that came with it."""

    def __call__(
        self, status: int, error: object, *, target: str, retry_after: float | None = None
    ) -> CallError: ...


class Vendor:
    """One SDK: its module, and how the vendor's refusals read."""

    def __init__(self, sdk: Any, refusal: Refusal, token: Secret | None) -> None:
        self._sdk = sdk
        self._refusal = refusal
        self._token = token

    @asynccontextmanager
    async def open(
        self, call: AbstractAsyncContextManager[Any], target: str
    ) -> AsyncGenerator[httpx2.Response]:
        """The response to one of the SDK's `with_streaming_response` calls. Raises CallError."""
        async with AsyncExitStack() as stack:
            with self.translated(target):
                response = await stack.enter_async_context(call)
            stack.push_async_callback(_close, response.http_response)
            yield response.http_response

    @asynccontextmanager
    async def answer(
        self,
        call: AbstractAsyncContextManager[Any],
        framing: Framing,
        read: Callable[[bytes], Iterable[Event]],
        target: str,
    ) -> AsyncGenerator[Answer]:
        """The events of such a call, of which `read` makes sense."""
        async with self.open(call, target) as response:
            answer = Answer(
                response.aiter_bytes(),
                framing,
                read,
                target=target,
                errors=httpx2.HTTPError,
                timeouts=httpx2.TimeoutException,
            )
            async with answer.until_left():
                yield answer

    async def whole(self, call: AbstractAsyncContextManager[Any], target: str) -> bytes:
        """The body of such a call's response. Raises CallError."""
        async with self.open(call, target) as response:
            try:
                return await response.aread()
            except httpx2.HTTPError as error:
                raise Unreachable(str(error), target=target) from error

    @contextmanager
    def translated(self, target: str) -> Generator[None]:
        """The SDK's errors as ours, each with the SDK's own as its cause."""
        try:
            yield
        except self._sdk.APIStatusError as error:
            self._hide(error)
            raise self._refused(error, target) from error
        except self._sdk.APITimeoutError as error:
            raise TimedOut(str(error.__cause__ or error), target=target) from error
        except self._sdk.APIConnectionError as error:
            raise Unreachable(str(error.__cause__ or error), target=target) from error
        except self._sdk.APIError as error:
            self._hide(error)
            raise InvalidResponse(str(error), target=target) from error

    def _refused(self, error: Any, target: str) -> CallError:
        later = retry_after(error.response.headers)
        return self._refusal(error.status_code, error.body, target=target, retry_after=later)

    def _hide(self, error: Any) -> None:
        """Vendors repeat a key that they refuse; a traceback shows what their error says."""
        error.message = self.hidden(error.message)
        error.args = tuple(self.hidden(str(arg)) for arg in error.args)
        error.body = _each_text(error.body, self.hidden)

    def hidden(self, text: str) -> str:
        """The text without secrets."""
        return hidden(text, self._token)


async def _close(response: httpx2.Response) -> None:
    with anyio.move_on_after(CLOSING, shield=True):
        await response.aclose()


def _each_text(value: object, change: Callable[[str], str]) -> object:
    if isinstance(value, str):
        return change(value)
    fields = fields_of(value)
    return {name: _each_text(inner, change) for name, inner in fields.items()} or value
