"""The dialect of /v1/messages."""

import random

from foreman.embedded.chunk import Chunk
from foreman.embedded.dialect import JSON, KEPT_ALIVE, SSE
from foreman.embedded.engine import Json
from foreman.embedded.go import encode
from foreman.embedded.http1 import Header

Event = dict[str, Json]

_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}
_STOP_REASONS = {"": None, "stop": "end_turn", "length": "max_tokens"}


def error_body(status: int, text: str) -> bytes:
    """Anthropic's error object."""
    error = {"type": _ERROR_TYPES.get(status, "api_error"), "message": text}
    body = {"type": "error", "error": error, "request_id": f"req_{random.randrange(16**24):024x}"}
    return encode(body) + b"\n"


class Messages:
    """One message: blocks of thinking, text and tool use, one open at a time."""

    stream_type = SSE
    whole_type = JSON
    error_type = JSON
    extra: tuple[Header, ...] = KEPT_ALIVE

    def __init__(self, model: str, input_tokens: int) -> None:
        self._model = model
        self._estimate = input_tokens  # the true count is not known when the stream begins
        self._id = f"msg_{random.randrange(16**24):024x}"
        self._begun = False
        self._block: str | None = None  # the kind that is open
        self._index = 0
        self._used_tools = False

    def frames(self, chunk: Chunk) -> bytes:
        """The events of one chunk; the last is `message_stop`."""
        events = [] if self._begun else self._begin()
        if chunk.thinking:
            delta = {"type": "thinking_delta", "thinking": chunk.thinking}
            events += self._delta("thinking", {"thinking": ""}, delta)
        if chunk.content:
            delta = {"type": "text_delta", "text": chunk.content}
            events += self._delta("text", {"text": ""}, delta)
        for call in chunk.tool_calls:
            events += self._called(call)
        if chunk.done:
            events += [*self._closed(), *self._end(chunk)]
        return b"".join(map(_frame, events))

    def whole(self, chunk: Chunk) -> bytes:
        """The message with all of its blocks."""
        content: list[Event] = []
        if chunk.thinking:
            content.append({"type": "thinking", "thinking": chunk.thinking})
        if chunk.content:
            content.append({"type": "text", "text": chunk.content})
        content += [_tool_use(call, call["function"]["arguments"]) for call in chunk.tool_calls]
        self._used_tools = bool(chunk.tool_calls)
        reason = {"stop_reason": self._reason(chunk), "stop_sequence": None}
        return encode(self._message(content) | reason | {"usage": _usage(chunk)}) + b"\n"

    def error(self, status: int, text: str) -> bytes:
        """Anthropic's error object."""
        return error_body(status, text)

    def broken(self, text: str) -> bytes:
        """Lost: Ollama ends the body without a terminal event."""
        return b""

    def _begin(self) -> list[Event]:
        self._begun = True
        usage = {"input_tokens": self._estimate, "output_tokens": 0}
        return [{"type": "message_start", "message": self._message([]) | {"usage": usage}}]

    def _message(self, content: list[Event]) -> Event:
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": content,
        }

    def _delta(self, kind: str, empty: Event, delta: Event) -> list[Event]:
        events: list[Event] = []
        if self._block != kind:
            events += [*self._closed(), self._opened(kind, {"type": kind} | empty)]
        return [*events, {"type": "content_block_delta", "index": self._index, "delta": delta}]

    def _called(self, call: Event) -> list[Event]:
        self._used_tools = True
        arguments = encode(call["function"]["arguments"]).decode()
        delta = {"type": "input_json_delta", "partial_json": arguments}
        return [
            *self._closed(),
            self._opened("tool_use", _tool_use(call, {})),
            {"type": "content_block_delta", "index": self._index, "delta": delta},
            *self._closed(),
        ]

    def _opened(self, kind: str, block: Event) -> Event:
        self._block = kind
        return {"type": "content_block_start", "index": self._index, "content_block": block}

    def _closed(self) -> list[Event]:
        if self._block is None:
            return []
        self._block = None
        self._index += 1
        return [{"type": "content_block_stop", "index": self._index - 1}]

    def _end(self, chunk: Chunk) -> list[Event]:
        delta = {"stop_reason": self._reason(chunk), "stop_sequence": None}
        return [
            {"type": "message_delta", "delta": delta, "usage": _usage(chunk)},
            {"type": "message_stop"},
        ]

    def _reason(self, chunk: Chunk) -> str | None:
        if self._used_tools:
            return "tool_use"
        return _STOP_REASONS.get(chunk.done_reason, "stop_sequence")


def _tool_use(call: Event, arguments: Json) -> Event:
    name = call["function"]["name"]
    return {"type": "tool_use", "id": call.get("id", ""), "name": name, "input": arguments}


def _usage(chunk: Chunk) -> Event:
    metrics = chunk.metrics
    return {"input_tokens": metrics.prompt_eval_count, "output_tokens": metrics.eval_count}


def _frame(event: Event) -> bytes:
    return b"event: " + str(event["type"]).encode() + b"\ndata: " + encode(event) + b"\n\n"
