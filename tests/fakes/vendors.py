"""Servers that speak a vendor's wire over a real socket, on whichever loop runs; scripted.

    async with serving(OpenAI()) as vendor:
        vendor.script(Say("Hello"), Status(503))
        ... vendor.url, vendor.seen, vendor.left

The outcomes are those of the fake provider. Each is good for one call.
"""

from collections import deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import anyio
import anyio.abc
import h11
import msgspec

from foreman.llm.messages import ToolCall
from foreman.llm.providers.script import (
    Cut,
    EndEarly,
    ErrorLine,
    Garble,
    Hang,
    Outcome,
    Say,
    Status,
)

CREATED = "2026-01-01T00:00:00Z"
JOB = "01J0000000000000000000JOB0"

Broken = (anyio.BrokenResourceError, anyio.EndOfStream, anyio.ClosedResourceError)


def encode(value: object) -> bytes:
    return msgspec.json.encode(value)


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as it came; header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


class Dialect(Protocol):
    """How a vendor says things."""

    content_type: str

    def answers(self, seen: Seen, coming: Outcome | None) -> tuple[int, bytes] | None:
        """What needs no outcome of its own, such as the list of models; `coming` is the next."""
        ...

    def headers(self) -> dict[str, str]:
        """Those of a stream, beside its type."""
        ...

    def begin(self) -> list[bytes]: ...

    def token(self, text: str) -> bytes: ...

    def thought(self, text: str) -> bytes: ...

    def end(self, say: Say) -> list[bytes]: ...

    def whole(self, say: Say) -> bytes: ...

    def error(self, text: str) -> bytes: ...

    def refusal(self, status: Status) -> bytes: ...

    def garbage(self) -> bytes: ...


class Vendor:
    """One server. `left` counts the clients that hung up in the middle of an answer."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self.url = ""
        self.seen: list[Seen] = []
        self.connections = 0
        self.left = 0
        self.step = 0  # bytes to a write; 0 = a frame to a write
        self._outcomes: deque[Outcome] = deque()

    def script(self, *outcomes: Outcome) -> None:
        self._outcomes.extend(outcomes)

    async def gone(self, count: int = 1) -> None:
        """Return when so many clients have hung up."""
        while self.left < count:
            await anyio.lowlevel.checkpoint()

    async def converse(self, stream: anyio.abc.SocketStream) -> None:
        """One connection."""
        self.connections += 1
        async with stream:
            try:
                wire = h11.Connection(h11.SERVER)
                while (seen := await _request(stream, wire)) is not None:
                    if not await self._answer(_Reply(stream, wire, self.step), seen):
                        return
                    wire.start_next_cycle()
            except (*Broken, h11.RemoteProtocolError):
                self.left += 1

    async def _answer(self, reply: "_Reply", seen: Seen) -> bool:
        """False where the connection is not good for another request."""
        self.seen.append(seen)
        own = self.dialect.answers(seen, self._outcomes[0] if self._outcomes else None)
        if own is not None:
            await reply.head(own[0], "application/json")
            await reply.body(own[1])
            await reply.end()
            return True
        return await self._play(reply, seen, self._outcomes.popleft())

    async def _play(self, reply: "_Reply", seen: Seen, outcome: Outcome) -> bool:
        dialect = self.dialect
        if isinstance(outcome, Status):
            later = outcome.retry_after
            extra = {} if later is None else {"Retry-After": f"{later:g}"}
            await reply.head(outcome.status, "application/json", extra)
            await reply.body(dialect.refusal(outcome))
        elif isinstance(outcome, Say) and seen.body and not seen.body.get("stream", True):
            await reply.head(200, "application/json")
            await reply.body(dialect.whole(outcome))
        else:
            await reply.head(200, dialect.content_type, dialect.headers())
            for frame in _frames(dialect, outcome):
                await reply.body(frame)
            if isinstance(outcome, Hang):
                await reply.silence()
            if isinstance(outcome, Cut):
                return False
        await reply.end()
        return True


def _frames(dialect: Dialect, outcome: Outcome) -> Iterator[bytes]:
    if isinstance(outcome, Say):
        yield from dialect.begin()
        if outcome.thinking:
            yield dialect.thought(outcome.thinking)
        for word in outcome.tokens or ((outcome.text,) if outcome.text else ()):
            yield dialect.token(word)
        yield from dialect.end(outcome)
        return
    assert isinstance(outcome, Hang | Cut | Garble | ErrorLine | EndEarly)
    if outcome.after_tokens:
        yield from dialect.begin()
    for _ in range(outcome.after_tokens):
        yield dialect.token("token ")
    if isinstance(outcome, Garble):
        yield dialect.garbage()
    if isinstance(outcome, ErrorLine):
        yield dialect.error(outcome.text)


class _Reply:
    def __init__(self, stream: anyio.abc.SocketStream, wire: h11.Connection, step: int) -> None:
        self._stream = stream
        self._wire = wire
        self._step = step

    async def head(
        self, status: int, content_type: str, extra: dict[str, str] | None = None
    ) -> None:
        headers = {"Content-Type": content_type, "Transfer-Encoding": "chunked", **(extra or {})}
        response = h11.Response(status_code=status, headers=list(headers.items()))
        await self._stream.send(self._wire.send(response) or b"")

    async def body(self, frame: bytes) -> None:
        step = self._step or len(frame)
        for start in range(0, len(frame), step):
            data = self._wire.send(h11.Data(frame[start : start + step]))
            await self._stream.send(data or b"")

    async def end(self) -> None:
        await self._stream.send(self._wire.send(h11.EndOfMessage()) or b"")

    async def silence(self) -> None:
        """Until the client hangs up."""
        while True:
            await self._stream.receive()


async def _request(stream: anyio.abc.SocketStream, wire: h11.Connection) -> Seen | None:
    head: h11.Request | None = None
    body = b""
    while True:
        event = wire.next_event()
        if event is h11.NEED_DATA:
            try:
                wire.receive_data(await stream.receive())
            except Broken:
                if head is None:
                    return None
                raise
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert head is not None
            headers = {name.decode(): value.decode() for name, value in head.headers}
            content = msgspec.json.decode(body) if body else None
            return Seen(head.method.decode(), head.target.decode(), headers, content)
        else:
            return None


@asynccontextmanager
async def serving(dialect: Dialect) -> AsyncGenerator[Vendor]:
    """Until the block ends; then every connection is cut."""
    vendor = Vendor(dialect)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610  no Django here
    vendor.url = f"http://127.0.0.1:{port}"
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, vendor.converse)
        try:
            yield vendor
        finally:
            group.cancel_scope.cancel()


# ---------------------------------------------------------------- the wires


def _sse(value: object, event: str = "") -> bytes:
    name = f"event: {event}\n".encode() if event else b""
    return name + b"data: " + encode(value) + b"\n\n"


class OpenAI:
    """Chat completions: the usage in a chunk of its own, behind the reason to stop."""

    content_type = "text/event-stream"

    def answers(self, seen: Seen, coming: Outcome | None) -> tuple[int, bytes] | None:
        names = [{"id": "m", "object": "model"}, {"id": "other", "object": "model"}]
        page = {"object": "list", "data": names}
        return (200, encode(page)) if "/models" in seen.path else None

    def headers(self) -> dict[str, str]:
        return {}

    def begin(self) -> list[bytes]:
        return [self._delta({"role": "assistant", "content": None}), b": waiting\n\n"]

    def token(self, text: str) -> bytes:
        return self._delta({"content": text})

    def thought(self, text: str) -> bytes:
        return self._delta({"reasoning_content": text})

    def end(self, say: Say) -> list[bytes]:
        calls = [
            self._delta({"tool_calls": [piece]})
            for index, call in enumerate(say.tool_calls)
            for piece in self._pieces(index, call)
        ]
        last = self._delta({}, self._finish(say))
        usage = {"id": "chatcmpl-1", "choices": [], "usage": self._usage(say)}
        return [*calls, last, _sse(usage), b"data: [DONE]\n\n"]

    def _pieces(self, index: int, call: ToolCall) -> list[dict[str, Any]]:
        half = len(call.arguments_json) // 2
        first, second = call.arguments_json[:half], call.arguments_json[half:]
        function = {"name": call.name, "arguments": first}
        return [
            {"index": index, "id": call.id, "type": "function", "function": function},
            {"index": index, "function": {"arguments": second}},
        ]

    def _delta(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return _sse({"id": "chatcmpl-1", "choices": [choice], "usage": None})

    def _finish(self, say: Say) -> str:
        return str(say.finish or ("tool_calls" if say.tool_calls else "stop"))

    def _usage(self, say: Say) -> dict[str, Any]:
        usage = say.usage
        return {
            "prompt_tokens": usage.prompt,
            "completion_tokens": usage.output,
            "prompt_tokens_details": {"cached_tokens": usage.cache_read},
        }

    def whole(self, say: Say) -> bytes:
        calls = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments_json},
            }
            for call in say.tool_calls
        ]
        message = {
            "role": "assistant",
            "content": None if calls else "".join(say.tokens) or say.text,
            "reasoning_content": say.thinking or None,
            "tool_calls": calls or None,
        }
        choice = {"index": 0, "message": message, "finish_reason": self._finish(say)}
        return encode({"id": "chatcmpl-1", "choices": [choice], "usage": self._usage(say)})

    def error(self, text: str) -> bytes:
        return _sse({"error": {"message": text, "type": "server_error", "code": None}})

    def refusal(self, status: Status) -> bytes:
        return encode({"error": {"message": status.text, "type": "x", "code": None}})

    def garbage(self) -> bytes:
        return b"data: {oops\n\n"


class Anthropic:
    """Messages: blocks with an index; cumulative usage at both ends."""

    content_type = "text/event-stream"

    def __init__(self) -> None:
        self._block = 0

    def answers(self, seen: Seen, coming: Outcome | None) -> tuple[int, bytes] | None:
        if "/models" not in seen.path:
            return None
        more = "after_id" not in seen.path
        entry = {"id": "m" if more else "other", "max_input_tokens": 1000, "max_tokens": 10}
        return 200, encode({"data": [entry], "has_more": more, "last_id": entry["id"]})

    def headers(self) -> dict[str, str]:
        return {}

    def begin(self) -> list[bytes]:
        self._block = 0
        usage = {"input_tokens": 1, "output_tokens": 1}
        message = {"id": "msg_1", "content": [], "usage": usage}
        return [_sse({"type": "message_start", "message": message}, "message_start"), self._ping()]

    def _ping(self) -> bytes:
        return _sse({"type": "ping"}, "ping")

    def token(self, text: str) -> bytes:
        return self._piece({"type": "text", "text": ""}, {"type": "text_delta", "text": text})

    def thought(self, text: str) -> bytes:
        start = {"type": "thinking", "thinking": "", "signature": ""}
        signed = {"type": "signature_delta", "signature": "signed"}
        return self._piece(start, {"type": "thinking_delta", "thinking": text}, signed)

    def _piece(self, start: dict[str, Any], *deltas: dict[str, Any]) -> bytes:
        index, self._block = self._block, self._block + 1
        frames = [{"type": "content_block_start", "index": index, "content_block": start}]
        frames += [{"type": "content_block_delta", "index": index, "delta": one} for one in deltas]
        frames += [{"type": "content_block_stop", "index": index}]
        return b"".join(_sse(frame, str(frame["type"])) for frame in frames)

    def end(self, say: Say) -> list[bytes]:
        calls = [self._call(call) for call in say.tool_calls]
        delta = {"stop_reason": self._finish(say), "stop_sequence": None}
        usage = {
            "input_tokens": say.usage.input,
            "cache_read_input_tokens": say.usage.cache_read,
            "cache_creation_input_tokens": say.usage.cache_write,
            "output_tokens": say.usage.output,
        }
        last = {"type": "message_delta", "delta": delta, "usage": usage}
        return [*calls, _sse(last, "message_delta"), _sse({"type": "message_stop"}, "message_stop")]

    def _call(self, call: ToolCall) -> bytes:
        half = len(call.arguments_json) // 2
        pieces = [call.arguments_json[:half], call.arguments_json[half:]]
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
        start = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
        return self._piece(start, *deltas)

    def _finish(self, say: Say) -> str:
        told = {"length": "max_tokens", "stop_sequence": "stop_sequence"}
        natural = "tool_use" if say.tool_calls else "end_turn"
        return told.get(str(say.finish), natural)

    def whole(self, say: Say) -> bytes:
        raise AssertionError("the provider always streams")

    def error(self, text: str) -> bytes:
        inner = {"type": "api_error", "message": text}
        return _sse({"type": "error", "error": inner}, "error")

    def refusal(self, status: Status) -> bytes:
        return encode({"type": "error", "error": {"type": "x", "message": status.text}})

    def garbage(self) -> bytes:
        return b"event: content_block_delta\ndata: {oops\n\n"


class Ollama:
    """/api/chat, for what the embedded target cannot be told to do."""

    content_type = "application/x-ndjson"

    def answers(self, seen: Seen, coming: Outcome | None) -> tuple[int, bytes] | None:
        models = [{"name": "m"}, {"name": "other", "capabilities": ["completion"]}]
        models += [{"name": "embedder", "capabilities": ["embedding"]}]
        return (200, encode({"models": models})) if seen.path == "/api/tags" else None

    def headers(self) -> dict[str, str]:
        return {}

    def begin(self) -> list[bytes]:
        return [b"  "]  # a foreman's sign of life

    def token(self, text: str) -> bytes:
        return self._line({"content": text})

    def thought(self, text: str) -> bytes:
        return self._line({"content": "", "thinking": text})

    def end(self, say: Say) -> list[bytes]:
        return [encode(self._last(say)) + b"\n"]

    def _last(self, say: Say, **more: Any) -> dict[str, Any]:
        calls = [
            {"id": call.id, "function": {"name": call.name, "arguments": call.arguments}}
            for call in say.tool_calls
        ]
        message = {"role": "assistant", "content": "", **({"tool_calls": calls} if calls else {})}
        counts = {"prompt_eval_count": say.usage.input, "eval_count": say.usage.output}
        reason = "length" if say.finish == "length" else "stop"
        return {"message": message | more, "done": True, "done_reason": reason, **counts}

    def _line(self, message: dict[str, Any]) -> bytes:
        return encode({"model": "m", "message": {"role": "assistant", **message}}) + b"\n"

    def whole(self, say: Say) -> bytes:
        words = "" if say.tool_calls else "".join(say.tokens) or say.text
        return encode(self._last(say, content=words, thinking=say.thinking or None))

    def error(self, text: str) -> bytes:
        return encode({"error": text}) + b"\n"

    def refusal(self, status: Status) -> bytes:
        return encode({"error": status.text})

    def garbage(self) -> bytes:
        return b"{oops\n"


class Foreman(Ollama):
    """A job that is at work as soon as it is submitted, its output, and how it failed."""

    def __init__(self) -> None:
        self.withdrawn = 0
        self.runs = 0

    def headers(self) -> dict[str, str]:
        self.runs += 1
        return {"X-Foreman-Attempt": f"{self.runs}.1"}

    def answers(self, seen: Seen, coming: Outcome | None) -> tuple[int, bytes] | None:
        if seen.method == "DELETE":
            self.withdrawn += 1
            return 200, self._job("failed")
        if seen.path == f"/jobs/{JOB}":
            return 200, self._job("failed" if coming is None else "working")
        if seen.path == "/jobs" and not isinstance(coming, Status):
            return 202, self._job("working")
        if coming is not None and "attempt=" in seen.path:
            return 409, encode({"code": "attempt_over", "detail": "another run has begun"})
        if coming is None and seen.path.startswith("/jobs/"):
            return 409, encode({"code": "job_failed", "detail": "truncated"})
        return super().answers(seen, coming)

    def _job(self, state: str) -> bytes:
        about = {"id": JOB, "state": state, "class": "batch", "endpoint": "/api/chat"}
        failure = {"code": "truncated", "message": "it broke off"} if state == "failed" else None
        return encode(about | {"model": "m", "created_at": CREATED, "error": failure})

    def refusal(self, status: Status) -> bytes:
        return encode({"title": "x", "status": status.status, "detail": status.text})
