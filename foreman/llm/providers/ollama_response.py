"""What the records of /api/chat mean, and Ollama's refusals, and its list of models."""

from collections.abc import Iterator
from typing import Any

import msgspec
from ulid import ULID

from foreman.llm.assembly import Assembly
from foreman.llm.capabilities import Capabilities, ImageLimits
from foreman.llm.errors import (
    CallError,
    ContextTooLong,
    InvalidResponse,
    ServerError,
    from_status,
)
from foreman.llm.messages import ToolCall
from foreman.llm.model import Listed
from foreman.llm.providers import wording
from foreman.llm.providers.ollama_request import VENDOR
from foreman.llm.response import Event, FinishReason
from foreman.llm.usage import Usage

_TOO_LONG = ("exceeds the context length", "exceeds the available context size")


class _Function(msgspec.Struct):
    name: str
    arguments: Any = None


class _Call(msgspec.Struct):
    function: _Function
    id: str | None = None


class _Said(msgspec.Struct):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_Call] | None = None


class Record(msgspec.Struct):
    """One record of a stream, or the one of an answer that was not streamed."""

    message: _Said | None = None
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: int | None = None
    eval_count: int | None = None
    total_duration: int | None = None
    load_duration: int | None = None
    error: Any = None
    status_code: int | None = None


class Reader:
    """Makes events of the records of one call. Raises CallError."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._answer = Assembly(target, vendor=VENDOR)
        self._called = False

    def read(self, line: bytes) -> Iterator[Event]:
        """The events in a line of NDJSON; spaces in front of it are signs of life."""
        try:
            record = msgspec.json.decode(line, type=Record)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidResponse(f"not Ollama's: {error}", target=self._target) from error
        return self.take(record)

    def convert(self, value: object) -> Iterator[Event]:
        """The same of a record that was decoded before."""
        try:
            record = msgspec.convert(value, Record)
        except msgspec.ValidationError as error:
            raise InvalidResponse(f"not Ollama's: {error}", target=self._target) from error
        return self.take(record)

    def take(self, record: Record) -> Iterator[Event]:
        if record.error is not None:
            raise refusal(record.status_code or 500, text_of(record.error), target=self._target)
        if record.message is not None:
            yield from self._said(record.message)
        if record.done:
            yield self._end(record)

    def _said(self, said: _Said) -> Iterator[Event]:
        if said.thinking:
            yield self._answer.think(said.thinking)
        if said.content:
            yield self._answer.say(said.content)
        for call in said.tool_calls or ():
            self._called = True
            arguments = msgspec.json.encode(call.function.arguments or {}).decode()
            yield self._answer.call(
                ToolCall(call.id or f"call_{ULID()}", call.function.name, arguments)
            )

    def _end(self, record: Record) -> Event:
        self._answer.report(
            Usage.uncached(input=record.prompt_eval_count, output=record.eval_count)
        )
        finish = FinishReason.LENGTH if record.done_reason == "length" else FinishReason.STOP
        if self._called and finish is FinishReason.STOP:
            finish = FinishReason.TOOL_CALLS
        nanoseconds = {"total_s": record.total_duration, "load_s": record.load_duration}
        details = {name: took / 1e9 for name, took in nanoseconds.items() if took is not None}
        return self._answer.finish(finish, details=details)


def text_of(error: object) -> str:
    """The words of an `error` member."""
    return str(wording.fields_of(error).get("message") or error)


def refusal(status: int, text: str, *, target: str, retry_after: float | None = None) -> CallError:
    """The error of this status; Ollama's word for a prompt that is too long is known."""
    if any(words in text for words in _TOO_LONG):
        return ContextTooLong(text, target=target, status=status)
    if 200 <= status < 300:
        return ServerError(text, target=target)
    return from_status(status, text, target=target, retry_after=retry_after)


class _Failure(msgspec.Struct):
    error: Any = None


def error_text(content: bytes) -> str:
    """What the body of a refusal says; "" when it says nothing that can be read."""
    try:
        found = msgspec.json.decode(content, type=_Failure).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        return content.decode(errors="replace").strip()
    return text_of(found) if found else ""


# ---------------------------------------------------------------- what there is


class _Details(msgspec.Struct):
    context_length: int | None = None


class _Entry(msgspec.Struct):
    name: str
    capabilities: list[str] | None = None
    details: _Details | None = None


class _Tags(msgspec.Struct):
    models: list[_Entry]


def listed(content: bytes, *, target: str) -> tuple[Listed, ...]:
    """The models of /api/tags that can chat. Raises InvalidResponse."""
    try:
        entries = msgspec.json.decode(content, type=_Tags).models
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidResponse(f"not Ollama's: {error}", target=target) from error
    return tuple(
        Listed(entry.name, _able(entry))
        for entry in entries
        if entry.capabilities is None or "completion" in entry.capabilities
    )


def _able(entry: _Entry) -> Capabilities:
    context = entry.details.context_length if entry.details else None
    known = frozenset(entry.capabilities or ())
    if not known:  # an older server: it does not say
        return Capabilities(context=context)
    return Capabilities(
        context=context,
        tools="tools" in known,
        images=ImageLimits() if "vision" in known else None,
        thinking="thinking" in known,
    )
