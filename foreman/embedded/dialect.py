"""How an answer looks on the wire. One dialect per route and mode; all of them pure.

`frames` turns one chunk into bytes of a stream, `whole` a joined chunk into a body, `error` a
failure into the body of a status. A failure in the middle of a stream is `broken`.
"""

from typing import Protocol

from foreman.embedded.chunk import Chunk
from foreman.embedded.engine import Json
from foreman.embedded.go import encode
from foreman.embedded.http1 import Header

JSON_UTF8 = b"application/json; charset=utf-8"
JSON = b"application/json"
NDJSON = b"application/x-ndjson"
SSE = b"text/event-stream"

KEPT_ALIVE: tuple[Header, ...] = (
    (b"Cache-Control", b"no-cache"),
    (b"Connection", b"keep-alive"),
)


class Dialect(Protocol):
    """What a reply needs to know of the wire."""

    stream_type: bytes
    whole_type: bytes
    error_type: bytes
    extra: tuple[Header, ...]

    def frames(self, chunk: Chunk) -> bytes:
        """One chunk of a stream."""
        ...

    def whole(self, chunk: Chunk) -> bytes:
        """The body of an answer that does not stream."""
        ...

    def error(self, status: int, text: str) -> bytes:
        """The body of a failure before the first byte."""
        ...

    def broken(self, text: str) -> bytes:
        """A failure after the first byte, as Ollama shows it."""
        ...


class Native:
    """/api/chat and /api/generate."""

    stream_type = NDJSON
    whole_type = JSON_UTF8
    error_type = JSON_UTF8
    extra: tuple[Header, ...] = ()

    def __init__(self, *, chat: bool) -> None:
        self._chat = chat

    def frames(self, chunk: Chunk) -> bytes:
        """One line."""
        return self.whole(chunk) + b"\n"

    def whole(self, chunk: Chunk) -> bytes:
        """One object. Metrics that are zero are left out, as Go's omitempty does."""
        body: dict[str, Json] = {"model": chunk.model, "created_at": chunk.created_at}
        if self._chat:
            body["message"] = _message(chunk)
        else:
            body |= {"response": chunk.content} | _given(thinking=chunk.thinking)
        body["done"] = chunk.done
        metrics = {name: getattr(chunk.metrics, name) for name in chunk.metrics.__slots__}
        body |= _given(done_reason=chunk.done_reason, context=chunk.context, **metrics)
        if not self._chat:
            body |= _given(tool_calls=chunk.tool_calls)
        return encode(body | _given(logprobs=chunk.logprobs))

    def error(self, status: int, text: str) -> bytes:
        """`{"error": text}`."""
        return plain_error(text)

    def broken(self, text: str) -> bytes:
        """The same, as a last line."""
        return plain_error(text) + b"\n"


def plain_error(text: str) -> bytes:
    """Ollama's own error object."""
    return encode({"error": text})


def _message(chunk: Chunk) -> dict[str, Json]:
    said = {"role": "assistant", "content": chunk.content}
    return said | _given(thinking=chunk.thinking, tool_calls=chunk.tool_calls)


def _given(**fields: Json) -> dict[str, Json]:
    return {name: value for name, value in fields.items() if value}
