"""Every error the library raises on purpose, but for ValueError where a value makes no sense.

LLMError                  has `code` and `history`
  CallError               one target, one call
    Unreachable           no connection: refused, no such host, TLS; or it broke before an answer
    TimedOut              no sign of life within a limit
    ServerError           5xx but for 501
    Unsupported           501, or the provider cannot carry this request
    RateLimited           429; `retry_after` says when to come back
    Unauthorized          401, 403
    ModelNotFound         404
    InvalidRequest        400, 422 and the other 4xx
    ContextTooLong        413, or a vendor's own word for it
    InvalidResponse       a 200 that cannot be read
    StreamBroken          the stream ended before the answer did
  Exhausted               no candidate answered; `history` has each attempt and each skip
    DeadlinePassed        time ran out on the way
  Closed                  the provider or the registry was closed
  MediaError              a picture that cannot be used; nothing was called
  SpecError               a spec, an alias or a DSN that says nothing callable
  BudgetExceeded          a budget refuses the call; nothing was called

What follows from a CallError is `foreman.llm.classification`'s to say.
"""

import re
from enum import StrEnum
from typing import ClassVar

from foreman.errors import ForemanError
from foreman.llm.attempts import Attempt, Skip, Step

LONGEST = 500  # characters of a target's own words that an error keeps

_SECRETS = (
    (re.compile(r"(?<=://)[^/\s@]+@"), ""),
    (re.compile(r"(?i)\b(bearer|x-api-key:)\s+\S+"), r"\1 [REDACTED]"),
    (re.compile(r"(?i)\b((?:api[_-]?)?key|token)=[^\s&]+"), r"\1=[REDACTED]"),
    (re.compile(r"\b(sk-)[\w*-]+"), r"\1[REDACTED]"),
)


def redact(text: str) -> str:
    """The text without the secrets that targets like to repeat: userinfo, bearer tokens, keys.

    >>> redact("GET https://token@box.example/api: 401 for Bearer abc")
    'GET https://box.example/api: 401 for Bearer [REDACTED]'
    """
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


class Code(StrEnum):
    """What went wrong, for programs that pass it on."""

    PROVIDER_NOT_AVAILABLE = "PROVIDER_NOT_AVAILABLE"
    PROVIDER_NOT_FOUND = "PROVIDER_NOT_FOUND"
    MODEL_NOT_SUPPORTED = "MODEL_NOT_SUPPORTED"
    MODEL_NOT_FOUND = "MODEL_NOT_FOUND"
    INVALID_REQUEST = "INVALID_REQUEST"
    AUTHENTICATION_FAILED = "AUTHENTICATION_FAILED"
    RATE_LIMITED = "RATE_LIMITED"
    CONTEXT_TOO_LONG = "CONTEXT_TOO_LONG"
    INVALID_RESPONSE = "INVALID_RESPONSE"
    STREAM_ERROR = "STREAM_ERROR"
    PROVIDER_TIMEOUT = "PROVIDER_TIMEOUT"
    UPSTREAM_ERROR = "UPSTREAM_ERROR"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"


class LLMError(ForemanError):
    """Base of all of them. `history`: what a chain tried and passed over before it gave up."""

    code: ClassVar[Code] = Code.UPSTREAM_ERROR
    history: tuple[Step, ...] = ()

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        return tuple(step for step in self.history if isinstance(step, Attempt))

    @property
    def skips(self) -> tuple[Skip, ...]:
        return tuple(step for step in self.history if isinstance(step, Skip))


class CallError(LLMError):
    """One call to one target failed.

    `reason` is the target's own words or ours, without secrets; `target` is `provider/model`;
    `status` the HTTP status, if there was one; `retry_after` seconds the target asked for.
    """

    def __init__(
        self,
        reason: str,
        *,
        target: str = "",
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.reason = redact(reason)
        super().__init__(f"{target}: {self.reason}" if target else self.reason)
        self.target = target
        self.status = status
        self.retry_after = retry_after


class Unreachable(CallError):
    """There was no connection, or it broke before anything of an answer came."""


class TimedOut(CallError):
    """No sign of life within a limit."""

    code = Code.PROVIDER_TIMEOUT


class ServerError(CallError):
    """The target failed at its work: 500, 502, 503, 504, 529 and their kin."""


class Unsupported(CallError):
    """The target, or its provider, cannot do this at all."""


class RateLimited(CallError):
    """Too many calls; `retry_after` seconds until the next may come, if it said so."""

    code = Code.RATE_LIMITED


class Unauthorized(CallError):
    """The key is missing, wrong, or not good for this."""

    code = Code.AUTHENTICATION_FAILED


class ModelNotFound(CallError):
    """The target does not have this model."""

    code = Code.MODEL_NOT_FOUND


class InvalidRequest(CallError):
    """The target understood the call and refuses it."""

    code = Code.INVALID_REQUEST


class ContextTooLong(CallError):
    """The prompt does not fit into the model's window."""

    code = Code.CONTEXT_TOO_LONG


class InvalidResponse(CallError):
    """The target said yes and then something that cannot be read."""

    code = Code.INVALID_RESPONSE


class StreamBroken(CallError):
    """The answer ended before it was complete."""

    code = Code.STREAM_ERROR


_BY_STATUS: dict[int, type[CallError]] = {
    401: Unauthorized,
    403: Unauthorized,
    404: ModelNotFound,
    408: TimedOut,
    413: ContextTooLong,
    429: RateLimited,
    501: Unsupported,
}


def from_status(
    status: int, reason: str, *, target: str = "", retry_after: float | None = None
) -> CallError:
    """The error that an HTTP status other than 2xx stands for.

    >>> type(from_status(529, "overloaded")).__name__
    'ServerError'
    """
    kind = _BY_STATUS.get(status)
    if kind is None and status >= 500:
        kind = ServerError
    elif kind is None:
        kind = InvalidRequest if status >= 400 else InvalidResponse
    return kind(reason or f"status {status}", target=target, status=status, retry_after=retry_after)


class Exhausted(LLMError):
    """No candidate answered. The text lists each attempt and each skip, in order."""

    code = Code.PROVIDER_NOT_AVAILABLE
    summary = "no target answered"

    def __init__(self, history: tuple[Step, ...]) -> None:
        lines = [str(step) for step in history] or ["there was none to call"]
        super().__init__("\n  ".join([f"{self.summary}:", *lines]))
        self.history = history

    @property
    def retry_after(self) -> float | None:
        """Seconds until the first of them may be called again, where one said so."""
        waits = [skip.retry_in for skip in self.skips]
        waits += [attempt.error.retry_after for attempt in self.attempts]
        return min((wait for wait in waits if wait is not None), default=None)


class DeadlinePassed(Exhausted):
    """The time for the whole request ran out."""

    code = Code.PROVIDER_TIMEOUT
    summary = "no target answered in time"


class Closed(LLMError):
    """What was called has been closed."""

    code = Code.PROVIDER_NOT_AVAILABLE


class MediaError(LLMError):
    """A picture that cannot be read, fetched, or made to fit."""

    code = Code.INVALID_REQUEST


class SpecError(LLMError):
    """A spec, an alias, a DSN or a setting that says nothing callable; the text says where."""

    code = Code.PROVIDER_NOT_FOUND


class BudgetExceeded(LLMError):
    """The call would use more than its budget has left."""

    code = Code.RESOURCE_EXHAUSTED
