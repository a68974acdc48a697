"""What the answers of Anthropic's messages mean, and its refusals, and its list of models."""

from collections.abc import Iterator
from typing import Any

import msgspec

from foreman.llm.assembly import Assembly
from foreman.llm.errors import CallError, ContextTooLong, InvalidResponse, from_status
from foreman.llm.providers import wording
from foreman.llm.providers.anthropic_request import VENDOR, Json
from foreman.llm.response import Event, FinishReason
from foreman.llm.usage import Usage


class _Usage(msgspec.Struct):
    """Cumulative figures, apart from each other: what was cached is not in `input_tokens`."""

    input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    output_tokens: int | None = None


class _Head(msgspec.Struct):
    id: str = ""
    usage: _Usage | None = None


class _Block(msgspec.Struct):
    type: str
    id: str = ""
    name: str = ""
    text: str = ""
    thinking: str = ""
    signature: str = ""
    data: str = ""


class _Delta(msgspec.Struct):
    type: str = ""
    text: str = ""
    thinking: str = ""
    signature: str = ""
    partial_json: str = ""
    stop_reason: str | None = None


class Frame(msgspec.Struct):
    """One event of a stream."""

    type: str
    index: int = 0
    message: _Head | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: _Usage | None = None
    error: Any = None


_FINISHES = {
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "stop_sequence": FinishReason.STOP_SEQUENCE,
    "tool_use": FinishReason.TOOL_CALLS,
    "refusal": FinishReason.CONTENT_FILTER,
}


class Reader:
    """Makes events of the frames of one call; types it does not know mean nothing to it."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._answer = Assembly(target, vendor=VENDOR)
        self._id = ""
        self._finish = FinishReason.STOP
        self._thoughts: list[_Block] = []

    def read(self, frame: bytes) -> Iterator[Event]:
        """The events in one frame. Raises CallError."""
        try:
            found = msgspec.json.decode(frame, type=Frame)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidResponse(f"not Anthropic's: {error}", target=self._target) from error
        return self._take(found)

    def _take(self, frame: Frame) -> Iterator[Event]:
        match frame:
            case Frame(type="error"):
                raise failure(frame.error, target=self._target)
            case Frame(type="message_start", message=_Head() as head):
                self._id = head.id
                self._account(head.usage)
            case Frame(type="content_block_start", content_block=_Block() as block):
                yield from self._open(frame.index, block)
            case Frame(type="content_block_delta", delta=_Delta() as delta):
                yield from self._add(frame.index, delta)
            case Frame(type="content_block_stop"):
                yield from self._answer.complete_calls()
            case Frame(type="message_delta"):
                self._account(frame.usage)
                reason = frame.delta.stop_reason if frame.delta else None
                self._finish = _FINISHES.get(reason or "", FinishReason.STOP)
            case Frame(type="message_stop"):
                yield self._end()
            case _:
                pass

    def _open(self, index: int, block: _Block) -> Iterator[Event]:
        if block.type == "tool_use":
            self._answer.fragment(index, call_id=block.id, name=block.name)
        elif block.type in {"thinking", "redacted_thinking"}:
            self._thoughts.append(block)
        elif block.text:
            yield self._answer.say(block.text)

    def _add(self, index: int, delta: _Delta) -> Iterator[Event]:
        if delta.text:
            yield self._answer.say(delta.text)
        elif delta.partial_json:
            self._answer.fragment(index, arguments=delta.partial_json)
        elif self._thoughts:
            self._thoughts[-1].thinking += delta.thinking
            self._thoughts[-1].signature += delta.signature
            if delta.thinking:
                yield self._answer.think(delta.thinking)

    def _account(self, usage: _Usage | None) -> None:
        if usage is not None:
            self._answer.report(
                Usage(
                    input=usage.input_tokens,
                    cache_read=usage.cache_read_input_tokens,
                    cache_write=usage.cache_creation_input_tokens,
                    output=usage.output_tokens,
                )
            )

    def _end(self) -> Event:
        if self._thoughts:
            blocks = [_thought(block) for block in self._thoughts]
            self._answer.seal(msgspec.json.encode(blocks).decode())
        self._uncached()
        return self._answer.finish(self._finish, response_id=self._id)

    def _uncached(self) -> None:
        """A server that counts tokens and says nothing of a cache has none."""
        known = self._answer.usage
        if known.input is not None:
            self._answer.report(
                Usage(cache_read=known.cache_read or 0, cache_write=known.cache_write or 0)
            )


def _thought(block: _Block) -> Json:
    if block.type == "redacted_thinking":
        return {"type": block.type, "data": block.data}
    return {"type": block.type, "thinking": block.thinking, "signature": block.signature}


class _Entry(msgspec.Struct):
    id: str
    max_input_tokens: int | None = None
    max_tokens: int | None = None


class Page(msgspec.Struct):
    """A page of the list of models."""

    data: list[_Entry]
    has_more: bool = False
    last_id: str | None = None


def page(content: bytes, *, target: str) -> Page:
    """Raises InvalidResponse."""
    try:
        return msgspec.json.decode(content, type=Page)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidResponse(f"not Anthropic's: {error}", target=target) from error


# ---------------------------------------------------------------- what goes wrong

_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "overloaded_error": 529,
}


def failure(error: object, *, target: str) -> CallError:
    """What an error inside a stream means: it has a type, and no status of its own."""
    status = _STATUS.get(str(wording.fields_of(error).get("type")), 500)
    return refusal(status, {"error": error}, target=target)


def refusal(
    status: int, error: object, *, target: str, retry_after: float | None = None
) -> CallError:
    """What a status means, with the body that came with it; its error is one level down."""
    inner = wording.fields_of(error).get("error")
    text = str(wording.fields_of(inner).get("message") or inner or error)
    if status == 400 and "prompt is too long" in text:
        return ContextTooLong(text, target=target, status=status)
    return from_status(status, text, target=target, retry_after=retry_after)
