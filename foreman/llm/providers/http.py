"""httpx for those who speak to a target directly: one client, opened on first use."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import anyio
import httpx

from foreman.llm.dsn import Secret
from foreman.llm.errors import CallError, Closed, SpecError, TimedOut, Unreachable, redact
from foreman.llm.model import CLOSING

CONNECT_LIMIT = 10.0  # seconds for a connection; how long an answer may take, the caller says


def _bearer(token: Secret | None, name: str) -> dict[str, str]:
    """The header that opens the target. Raises SpecError for what no header can carry."""
    if token is None:
        return {}
    secret = token.reveal()
    if not secret.isascii() or not secret.isprintable():
        raise SpecError(f"provider {name!r}: a token is made of plain ASCII characters")
    return {"authorization": f"Bearer {secret}"}


def hidden(text: str, token: Secret | None) -> str:
    """The text without secrets, this one first of all: targets repeat what they refuse."""
    secret = token.reveal() if token else ""
    return redact(text.replace(secret, "[REDACTED]") if secret else text)


class Connection:
    """What one provider's calls have in common: an address, headers, and kept connections."""

    def __init__(self, name: str, url: str, token: Secret | None = None) -> None:
        self.name = name
        self.url = url
        self._token = token
        self._headers = {"accept-encoding": "identity", **_bearer(token, name)}
        self._client: httpx.AsyncClient | None = None
        self._closed = False

    def client(self) -> httpx.AsyncClient:
        """Made on first use: it takes a while, and few of the providers defined are called.

        Raises Closed.
        """
        if self._closed:
            raise Closed(f"{self.name} is closed")
        if self._client is None:
            self._client = httpx.AsyncClient(
                base_url=self.url,
                headers=self._headers,
                timeout=httpx.Timeout(None, connect=CONNECT_LIMIT),
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),
                trust_env=not is_here(self.url),
            )
        return self._client

    def hidden(self, text: str) -> str:
        """The text without secrets."""
        return hidden(text, self._token)

    @asynccontextmanager
    async def open(self, request: httpx.Request, target: str) -> AsyncGenerator[httpx.Response]:
        """The response once its head has come. Raises Unreachable and TimedOut."""
        try:
            response = await self.client().send(request, stream=True)
        except httpx.HTTPError as error:
            raise _unreachable(error, target) from error
        try:
            yield response
        finally:
            with anyio.move_on_after(CLOSING, shield=True):
                await response.aclose()

    async def aclose(self) -> None:
        """Drop the connections; may be called again."""
        self._closed = True
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()


async def read(response: httpx.Response, target: str) -> bytes:
    """The whole body. Raises Unreachable."""
    try:
        return await response.aread()
    except httpx.HTTPError as error:
        raise _unreachable(error, target) from error


def _unreachable(error: httpx.HTTPError, target: str) -> CallError:
    reason = str(error) or type(error).__name__
    kind = TimedOut if isinstance(error, httpx.TimeoutException) else Unreachable
    return kind(reason, target=target)


def is_here(url: str) -> bool:
    """A proxy from the environment is for the world outside."""
    return (urlsplit(url).hostname or "") in {"localhost", "127.0.0.1", "::1"}
