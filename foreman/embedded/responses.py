"""The dialect of /v1/responses: items, their parts, and an event for each step of each."""

import random

from foreman.embedded import openai
from foreman.embedded.chunk import Chunk
from foreman.embedded.dialect import JSON, KEPT_ALIVE, SSE
from foreman.embedded.engine import Json
from foreman.embedded.go import encode
from foreman.embedded.http1 import Header

Event = dict[str, Json]


class Responses:
    """One response. `request` is what the client sent: parts of it are echoed."""

    stream_type = SSE
    whole_type = JSON
    error_type = JSON
    extra: tuple[Header, ...] = KEPT_ALIVE

    def __init__(self, request: dict[str, Json], created: int) -> None:
        self._request = request
        self._created = created
        number = random.randrange(999999)
        self._id = f"resp_{number}"
        self._sequence = 0
        self._begun = False
        self._items: list[Event] = []
        self._open: Event | None = None  # the item being written
        self._text = ""

    def frames(self, chunk: Chunk) -> bytes:
        """The events of one chunk; after the last one `response.completed`, and no `[DONE]`."""
        return b"".join(map(self._frame, self._events(chunk)))

    def whole(self, chunk: Chunk) -> bytes:
        """The completed response."""
        self._events(chunk)
        body = self._response("completed", chunk.model, self._items, _usage(chunk))
        return encode(body | {"completed_at": chunk.created}) + b"\n"

    def error(self, status: int, text: str) -> bytes:
        """OpenAI's error object."""
        return openai.error_body(status, text)

    def broken(self, text: str) -> bytes:
        """Lost: Ollama ends the body without a terminal event."""
        return b""

    def _events(self, chunk: Chunk) -> list[Event]:
        events = [] if self._begun else self._begin(chunk)
        if chunk.thinking:
            events += self._thought(chunk.thinking)
        for call in openai.tool_calls(chunk):
            events += self._called(call)
        if chunk.content and not chunk.tool_calls:
            events += self._said(chunk.content)
        if chunk.done:
            events += self._closed()
            response = self._response("completed", chunk.model, self._items, _usage(chunk))
            events.append({"type": "response.completed", "response": response})
        return events

    def _begin(self, chunk: Chunk) -> list[Event]:
        self._begun = True
        kinds = ("response.created", "response.in_progress")
        response = self._response("in_progress", chunk.model, [], None)
        return [{"type": kind, "response": response} for kind in kinds]

    def _thought(self, text: str) -> list[Event]:
        events: list[Event] = []
        if not self._is_open("reasoning"):
            item: Event = {"id": self._item_id("rs"), "type": "reasoning", "summary": []}
            events += [*self._closed(), self._opened(item)]
        self._text += text
        delta = {"summary_index": 0, "delta": text}
        return [*events, self._about("response.reasoning_summary_text.delta", delta)]

    def _said(self, text: str) -> list[Event]:
        events: list[Event] = []
        if not self._is_open("message"):
            item = {"id": self._item_id("msg"), "type": "message", "status": "in_progress"}
            events += [*self._closed(), self._opened(item | {"role": "assistant", "content": []})]
            part = {"content_index": 0, "part": _part("")}
            events.append(self._about("response.content_part.added", part))
        self._text += text
        delta: Event = {"content_index": 0, "delta": text, "logprobs": []}
        return [*events, self._about("response.output_text.delta", delta)]

    def _called(self, call: Event) -> list[Event]:
        arguments = call["function"]["arguments"]
        item = {
            "id": self._item_id("fc"),
            "type": "function_call",
            "status": "in_progress",
            "call_id": call["id"],
            "name": call["function"]["name"],
            "arguments": "",
        }
        kind = "response.function_call_arguments"
        events = [*self._closed(), self._opened(item)]
        events.append(self._about(f"{kind}.delta", {"delta": arguments}))
        events.append(self._about(f"{kind}.done", {"arguments": arguments}))
        return [*events, self._done(item | {"status": "completed", "arguments": arguments})]

    def _closed(self) -> list[Event]:
        """End the item being written, if there is one."""
        item, text, self._text = self._open, self._text, ""
        if item is None:
            return []
        if item["type"] == "reasoning":
            done = {"summary_index": 0, "text": text}
            events = [self._about("response.reasoning_summary_text.done", done)]
            summary = [{"type": "summary_text", "text": text}]
            return [*events, self._done(item | {"summary": summary, "encrypted_content": text})]
        said: Event = {"content_index": 0, "text": text, "logprobs": []}
        part = {"content_index": 0, "part": _part(text)}
        events = [self._about("response.output_text.done", said)]
        events.append(self._about("response.content_part.done", part))
        return [*events, self._done(item | {"status": "completed", "content": [_part(text)]})]

    def _is_open(self, kind: str) -> bool:
        return self._open is not None and self._open["type"] == kind

    def _opened(self, item: Event) -> Event:
        self._open = item
        kind = "response.output_item.added"
        return {"type": kind, "output_index": len(self._items), "item": item}

    def _done(self, item: Event) -> Event:
        self._open = None
        self._items.append(item)
        kind = "response.output_item.done"
        return {"type": kind, "output_index": len(self._items) - 1, "item": item}

    def _about(self, kind: str, fields: Event) -> Event:
        item_id = self._open["id"] if self._open else ""
        return {"type": kind, "item_id": item_id, "output_index": len(self._items)} | fields

    def _item_id(self, prefix: str) -> str:
        return f"{prefix}_{self._id.removeprefix('resp_')}_{len(self._items)}"

    def _frame(self, event: Event) -> bytes:
        event = event | {"sequence_number": self._sequence}
        self._sequence += 1
        return b"event: " + str(event["type"]).encode() + b"\ndata: " + encode(event) + b"\n\n"

    def _response(self, status: str, model: str, output: list[Event], usage: Event | None) -> Event:
        asked = self._request
        asked_text: Event = asked.get("text") or {}
        text_format = asked_text.get("format") or {"type": "text"}
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "completed_at": None,
            "status": status,
            "incomplete_details": None,
            "model": model,
            "previous_response_id": None,
            "instructions": asked.get("instructions") or None,
            "output": list(output),
            "error": None,
            "tools": asked.get("tools") or [],
            "tool_choice": "auto",
            "truncation": asked.get("truncation") or "disabled",
            "parallel_tool_calls": True,
            "text": {"format": text_format},
            "top_p": asked.get("top_p") or 1.0,
            "presence_penalty": 0,
            "frequency_penalty": 0,
            "top_logprobs": 0,
            "temperature": asked.get("temperature") or 1.0,
            "reasoning": asked.get("reasoning") or None,
            "usage": usage,
            "max_output_tokens": asked.get("max_output_tokens"),
            "max_tool_calls": None,
            "store": False,
            "background": bool(asked.get("background")),
            "service_tier": "default",
            "metadata": {},
            "safety_identifier": None,
            "prompt_cache_key": None,
        }


def _part(text: str) -> Event:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage(chunk: Chunk) -> Event:
    read, written = chunk.metrics.prompt_eval_count, chunk.metrics.eval_count
    return {
        "input_tokens": read,
        "output_tokens": written,
        "total_tokens": read + written,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }
