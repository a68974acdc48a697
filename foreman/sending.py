"""One attempt at a webhook: a signed POST, and as much of the answer as says how it went.

No redirects, cookies, proxies or decoding: the transport is asked directly, not through a client.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import httpx
import trio

from foreman import __version__
from foreman.delivery import Attempt, wait_asked
from foreman.netguard import Blocked
from foreman.rows import Microseconds
from foreman.signing import Signer

log = logging.getLogger("foreman.webhooks")

READ_AT_MOST = 64 * 1024  # bytes of an answer's body
KEPT = 2048  # bytes of it for the ledger
ERROR_LENGTH = 500  # characters

_HEADERS = (
    ("content-type", "application/json"),
    ("user-agent", f"foreman/{__version__}"),
    ("accept-encoding", "identity"),
)


@dataclass(slots=True)
class _Heard:
    """What is known so far of an answer."""

    status: int | None = None
    wait: float = 0.0
    reply: bytes = b""
    error: str | None = None
    blocked: bool = False


@dataclass(frozen=True, slots=True)
class Sender:
    """Sends messages; an attempt takes at most `limit` seconds in all. `now` is the wall clock."""

    transport: httpx.AsyncBaseTransport
    signer: Signer
    limit: float
    now: Callable[[], Microseconds]

    @property
    def signed(self) -> bool:
        """Whether receivers can check who sent it."""
        return self.signer.signed

    async def send(self, url: str, message_id: str, body: bytes) -> Attempt:
        """Make one attempt. Nothing the receiver does is raised."""
        at, began, heard = self.now(), trio.current_time(), _Heard()
        with trio.move_on_after(self.limit) as scope:
            await self._post(url, message_id, body, heard)
        if scope.cancelled_caught and heard.status is None:
            heard.error = f"no answer within {self.limit:g} s"
        return Attempt(
            at=at,
            seconds=trio.current_time() - began,
            status=heard.status,
            error=heard.error,
            reply=heard.reply,
            wait=heard.wait,
            blocked=heard.blocked,
        )

    async def _post(self, url: str, message_id: str, body: bytes, heard: _Heard) -> None:
        try:
            signed = self.signer.headers(message_id, self.now() // 1_000_000, body)
            request = httpx.Request("POST", url, headers=[*_HEADERS, *signed], content=body)
            response = await self.transport.handle_async_request(request)
            try:
                await self._listen(response, heard)
            finally:
                await response.aclose()
        except Blocked as refused:
            heard.blocked, heard.error = True, str(refused)[:ERROR_LENGTH]
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            if heard.status is None:  # a body that breaks off takes nothing back
                heard.error = _in_words(error)
        except Exception as error:  # one message must not stop the others, whatever it does
            log.exception("an attempt at webhook %s failed in an unforeseen way", message_id)
            heard.error = _in_words(error)

    async def _listen(self, response: httpx.Response, heard: _Heard) -> None:
        heard.status = response.status_code
        heard.wait = wait_asked(response.headers.get("retry-after", ""), self.now())
        if 300 <= response.status_code < 400:
            heard.error = "a redirect, which is not followed"
        # Not aiter_raw: a generator that is left half read would end at some other time.
        assert isinstance(response.stream, httpx.AsyncByteStream)
        read = 0
        async for piece in response.stream:
            heard.reply += piece[: KEPT - len(heard.reply)]
            read += len(piece)
            if read > READ_AT_MOST:
                return


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:ERROR_LENGTH].removesuffix(": ")
