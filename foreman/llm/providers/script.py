"""What a fake provider does when it is called, as plain values, and the steps that come of it.

The names are those of the scripts of foreman's built-in target.
"""

import re
from collections.abc import Iterator

import msgspec

from foreman.llm.assembly import Assembly
from foreman.llm.errors import (
    CallError,
    InvalidResponse,
    ServerError,
    StreamBroken,
    Unreachable,
    from_status,
)
from foreman.llm.messages import ToolCall
from foreman.llm.response import Event, FinishReason, Place
from foreman.llm.usage import Usage


class Say(msgspec.Struct, frozen=True):
    """Answer this, a word at a time, or in these `tokens`. Times are in seconds.

    `places`: the queue's places it is shown first, one per `token_seconds`.
    """

    text: str = "one two three four"
    tokens: tuple[str, ...] = ()
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish: FinishReason | None = None  # None: STOP, or TOOL_CALLS when there are any
    usage: Usage = Usage.uncached(input=10, output=15)
    reported_cost: float | None = None
    first_token_seconds: float = 0.0
    token_seconds: float = 0.0
    places: tuple[Place, ...] = ()


class Status(msgspec.Struct, frozen=True):
    """Answer with this HTTP status instead."""

    status: int
    text: str = "scripted failure"
    retry_after: float | None = None


class Refuse(msgspec.Struct, frozen=True):
    """There is nobody at this address."""


class Hang(msgspec.Struct, frozen=True):
    """Fall silent for ever: at once, or after this many tokens."""

    after_tokens: int = 0


class Cut(msgspec.Struct, frozen=True):
    """Break the connection: at once, or after this many tokens."""

    after_tokens: int = 0


class Garble(msgspec.Struct, frozen=True):
    """Send what cannot be read, after this many tokens."""

    after_tokens: int = 0


class ErrorLine(msgspec.Struct, frozen=True):
    """Say in the middle of an answer that it failed, after this many tokens."""

    after_tokens: int = 1
    text: str = "model runner has unexpectedly stopped"


class EndEarly(msgspec.Struct, frozen=True):
    """End cleanly after this many tokens, without the end of the answer."""

    after_tokens: int = 1


Outcome = Say | Status | Refuse | Hang | Cut | Garble | ErrorLine | EndEarly | Exception
"""An exception is raised as it is, before anything of an answer."""


Step = tuple[float, Event | Exception | None]
"""Seconds to wait, then what comes; None is silence for ever."""


def steps(outcome: Outcome, target: str) -> Iterator[Step]:
    """What one call brings, in order; it ends after an answer's last event or an error."""
    if isinstance(outcome, Say):
        yield from _answer(outcome, target)
    elif isinstance(outcome, Exception):
        yield 0.0, outcome
    elif isinstance(outcome, Refuse):
        yield 0.0, Unreachable("connection refused", target=target)
    elif isinstance(outcome, Status):
        status, text, later = outcome.status, outcome.text, outcome.retry_after
        yield 0.0, from_status(status, text, target=target, retry_after=later)
    else:
        tokens = ("token ",) * outcome.after_tokens
        yield from _words(Say(tokens=tokens), Assembly(target)) if tokens else ()
        yield 0.0, _fault(outcome, target)


def _fault(outcome: Hang | Cut | Garble | ErrorLine | EndEarly, target: str) -> CallError | None:
    match outcome:
        case Hang():
            return None
        case Cut(0):
            return Unreachable("the connection broke", target=target)
        case Cut():
            return StreamBroken("the connection broke", target=target)
        case Garble():
            return InvalidResponse("a line that is no JSON", target=target)
        case ErrorLine():
            return ServerError(outcome.text, target=target)
        case EndEarly():
            return StreamBroken("the stream ended before the answer did", target=target)


def _words(say: Say, answer: Assembly) -> Iterator[Step]:
    for number, word in enumerate(say.tokens or re.findall(r"\s*\S+|\s+$", say.text)):
        yield (say.token_seconds if number else say.first_token_seconds), answer.say(word)


def _answer(say: Say, target: str) -> Iterator[Step]:
    answer = Assembly(target, vendor="fake")
    for place in say.places:
        yield say.token_seconds, Event(place=place)
    if say.thinking:
        yield 0.0, answer.think(say.thinking)
    yield from _words(say, answer)
    for call in say.tool_calls:
        yield say.token_seconds, answer.call(call)
    answer.report(say.usage)
    natural = FinishReason.TOOL_CALLS if say.tool_calls else FinishReason.STOP
    yield 0.0, answer.finish(say.finish or natural, reported_cost=say.reported_cost)
