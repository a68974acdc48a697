"""An answer as records: what a stream consists of, and the one object it adds up to.

A record is one line of JSON: a line of NDJSON, the data of one server-sent event, or all of an
answer that was not streamed. The bytes are the target's own; only line breaks inside a record go.
"""

from collections.abc import Sequence
from typing import Any, Protocol, cast

import msgspec

NATIVE = {"/api/chat": "message", "/api/generate": "response"}
"""Ollama's own streaming routes, and the member in which each puts the words."""

_JOINED = ("content", "response", "thinking")  # texts that come in pieces
_GATHERED = ("tool_calls", "logprobs")  # lists that come in pieces


class Splitter(Protocol):
    """Fed a body as it comes; gives back each record once it is whole."""

    def feed(self, chunk: bytes) -> list[bytes]: ...

    def end(self) -> list[bytes]:
        """What came after the last separator."""
        ...


def splitter(content_type: str) -> Splitter:
    """The splitter for a body of this Content-Type."""
    if content_type.startswith("text/event-stream"):
        return _Events()
    if content_type.startswith("application/x-ndjson"):
        return _Lines()
    return _Whole(text=content_type.startswith("text/"))


def split(content_type: str, body: bytes) -> list[bytes]:
    """All records of a body that is complete."""
    records = splitter(content_type)
    return records.feed(body) + records.end()


class _Lines:
    """NDJSON: every line that is not blank."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> list[bytes]:
        return [line for line in self.lines(chunk) if line]

    def lines(self, chunk: bytes) -> list[bytes]:
        """The lines that end in this chunk, without the space around them."""
        if b"\n" not in chunk:
            self._rest += chunk
            return []
        first, *others = chunk.split(b"\n")
        whole = [bytes(self._rest) + first, *others[:-1]]
        self._rest = bytearray(others[-1])
        return [line.strip() for line in whole]

    def end(self) -> list[bytes]:
        return self.feed(b"\n")


class _Events:
    """Server-sent events: the data of each, without OpenAI's closing `[DONE]`."""

    def __init__(self) -> None:
        self._lines = _Lines()
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[bytes]:
        records: list[bytes] = []
        for line in self._lines.lines(chunk):
            if line.startswith(b"data:"):
                self._data.append(line[5:].strip())
            elif not line:
                records += self._dispatch()
        return records

    def end(self) -> list[bytes]:
        return self.feed(b"\n\n")

    def _dispatch(self) -> list[bytes]:
        data, self._data = b"\n".join(self._data), []
        return [] if data in (b"", b"[DONE]") else [_on_one_line(data)]


class _Whole:
    """One object, or a text: a single record."""

    def __init__(self, *, text: bool) -> None:
        self._text = text
        self._body = bytearray()

    def feed(self, chunk: bytes) -> list[bytes]:
        self._body += chunk
        return []

    def end(self) -> list[bytes]:
        body = bytes(self._body)
        self._body.clear()
        if self._text:
            return [_as_string(body)]
        body = body.strip()
        return [_on_one_line(body)] if body else []


def _on_one_line(document: bytes) -> bytes:
    if b"\n" not in document and b"\r" not in document:
        return document
    try:
        return msgspec.json.format(document, indent=-1)
    except (msgspec.DecodeError, RecursionError):
        return _as_string(document)


def _as_string(text: bytes) -> bytes:
    return msgspec.json.encode(text.decode(errors="replace"))


# ---------------------------------------------------------------- one object


def document(endpoint: str, content_type: str, body: bytes) -> object:
    """A kept answer as one JSON value. Raises ValueError when it is not what its type promises.

    Ollama's own streams become the object that Ollama sends without streaming, other streams the
    list of their records, anything else is what it is.
    """
    try:
        records = [msgspec.json.decode(record) for record in split(content_type, body)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not the JSON it should be: {error}") from error
    streamed = content_type.startswith(("application/x-ndjson", "text/event-stream"))
    return fold(endpoint, records) if streamed else next(iter(records), None)


def fold(endpoint: str, records: Sequence[object]) -> object:
    """The decoded records of a stream as one value; the list itself where nothing is defined."""
    words = NATIVE.get(endpoint)
    if words is None or not all(isinstance(record, dict) for record in records):
        return list(records)
    chunks = cast("Sequence[dict[str, Any]]", records)
    whole = _added_up(chunks)
    if words == "message":
        messages = [chunk["message"] for chunk in chunks if isinstance(chunk.get("message"), dict)]
        whole |= {"message": _added_up(messages)} if messages else {}
    return whole


def _added_up(chunks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Each member as it came last, but texts and lists that come in pieces as a whole."""
    last = {name: value for chunk in chunks for name, value in chunk.items() if value is not None}
    return last | _pieces(chunks)


def _pieces(chunks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    joined: dict[str, Any] = {}
    for name in _JOINED:
        texts = [chunk[name] for chunk in chunks if isinstance(chunk.get(name), str)]
        if texts:
            joined[name] = "".join(texts)
    for name in _GATHERED:
        lists = [chunk[name] for chunk in chunks if isinstance(chunk.get(name), list)]
        if lists:
            joined[name] = [item for each in lists for item in each]
    return joined
