"""Reading an answer as it passes: did it end well, what did it cost? The bytes are never changed.

One scanner per form: NDJSON, one JSON object, server-sent events. Each is fed the chunks as they
come and asked once, at the end, for its Verdict.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, cast

import msgspec

from foreman.wire import Dialect

LINE_LIMIT = 8 << 20  # bytes; Go's own client gives up at 8 MB a line
KEPT_JSON = 4 << 20  # bytes of a one-object answer that are kept to read its token counts
ERROR_TEXT = 4096  # characters of a target's error that are kept and passed on

Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]  # what a database and a JSON reader can hold


@dataclass(frozen=True, slots=True)
class Verdict:
    """How an answer ended. `error` is the target's text, `garbled` says what was unreadable.

    `complete` is false when it ended without saying it was done; None in a count means unknown.
    `load_s` is what the target says the load took, in seconds.
    """

    complete: bool
    error: str | None = None
    garbled: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    load_s: float | None = None


class Scanner(Protocol):
    """Fed every chunk of a body, then asked for the verdict."""

    def feed(self, chunk: bytes) -> None: ...

    def verdict(self) -> Verdict: ...


class _Usage(msgspec.Struct):
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    input_tokens: Count | None = None
    output_tokens: Count | None = None


class _Nested(msgspec.Struct):
    """The `response` of a Responses event, the `message` of message_start."""

    usage: _Usage | None = None


class _Record(msgspec.Struct):
    """The fields of any dialect's objects that say something about the end or the cost."""

    done: bool = False
    error: Any = None
    type: Any = None
    prompt_eval_count: Count | None = None
    eval_count: Count | None = None
    load_duration: Count | None = None  # ns
    usage: _Usage | None = None
    response: Any = None
    message: Any = None


_decode = msgspec.json.Decoder(_Record).decode
_NESTED = ("response", "message")


class _Tally:
    """Folds records into a verdict."""

    def __init__(self) -> None:
        self.complete = False
        self.error: str | None = None
        self.garbled: str | None = None
        self.tokens_in: int | None = None
        self.tokens_out: int | None = None
        self.load_s: float | None = None

    def add(self, document: bytes) -> _Record | None:
        try:
            record = _decode(document)
            usages = _usages(record)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
            self.garbled = self.garbled or str(problem)
            return None
        if record.error is not None and self.error is None:
            self.error = error_text(record.error)
        if record.load_duration is not None:
            self.load_s = record.load_duration / 1e9
        self._count(record.prompt_eval_count, record.eval_count)
        for usage in usages:
            self._count(
                usage.prompt_tokens if usage.prompt_tokens is not None else usage.input_tokens,
                usage.completion_tokens
                if usage.completion_tokens is not None
                else usage.output_tokens,
            )
        return record

    def _count(self, tokens_in: int | None, tokens_out: int | None) -> None:
        # Counts are cumulative where they repeat (Anthropic), so the last one seen is the sum.
        self.tokens_in = self.tokens_in if tokens_in is None else tokens_in
        self.tokens_out = self.tokens_out if tokens_out is None else tokens_out

    def verdict(self) -> Verdict:
        return Verdict(
            self.complete and self.error is None and self.garbled is None,
            self.error,
            self.garbled,
            self.tokens_in,
            self.tokens_out,
            self.load_s,
        )


def _usages(record: _Record) -> list[_Usage]:
    found = [record.usage] if record.usage else []
    for name in _NESTED:
        inner = getattr(record, name)
        if isinstance(inner, dict) and "usage" in inner:
            nested = msgspec.convert(inner, _Nested)
            if nested.usage:
                found.append(nested.usage)
    return found


def error_text(error: object) -> str:
    """The text of an `error` member: Ollama's string, or OpenAI's and Anthropic's object."""
    if isinstance(error, dict):
        error = cast("dict[str, object]", error).get("message") or cast("object", error)
    return str(error)[:ERROR_TEXT]


def error_text_of(body: bytes) -> str:
    """The text of an error answer in any dialect, or the start of what came instead."""
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body[:500].decode(errors="replace")
    if not isinstance(document, dict):
        return ""
    answer = cast("dict[str, object]", document)
    return error_text(answer.get("error", answer))


class _Lines:
    """Cuts chunks into lines without their newline, in time linear in the bytes.

    `take` gets each line. After the first that cannot be read nothing is kept or looked at.
    """

    def __init__(self, tally: _Tally, take: Callable[[bytes], None]) -> None:
        self._tally = tally
        self._take = take
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> None:
        if b"\n" in chunk:
            first, *others = chunk.split(b"\n")
            self._line(bytes(self._rest) + first)
            for line in others[:-1]:
                self._line(line)
            self._rest = bytearray(others[-1])
        elif self._tally.garbled is None:
            self._rest += chunk
        if len(self._rest) > LINE_LIMIT:
            self.end()

    def end(self) -> None:
        """What came after the last newline is a line too."""
        self._line(bytes(self._rest))
        self._rest.clear()

    def _line(self, line: bytes) -> None:
        if self._tally.garbled is not None:
            return
        if len(line) > LINE_LIMIT:
            self._tally.garbled = f"a line of more than {LINE_LIMIT} bytes"
        else:
            self._take(line)


class NdjsonScanner:
    """Ollama's native stream: complete when an object says `done: true`."""

    def __init__(self) -> None:
        self._tally = _Tally()
        self._lines = _Lines(self._tally, self._line)
        self.feed = self._lines.feed

    def _line(self, line: bytes) -> None:
        if line.strip():
            record = self._tally.add(line)
            self._tally.complete = self._tally.complete or (record is not None and record.done)

    def verdict(self) -> Verdict:
        self._lines.end()
        return self._tally.verdict()


class JsonScanner:
    """One JSON object: complete when it is whole."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._large = False

    def feed(self, chunk: bytes) -> None:
        if len(self._kept) + len(chunk) > KEPT_JSON:
            self._large = True
            self._kept.clear()
        elif not self._large:
            self._kept += chunk

    def verdict(self) -> Verdict:
        if self._large:
            return Verdict(complete=True)
        tally = _Tally()
        tally.complete = tally.add(bytes(self._kept)) is not None
        return tally.verdict()


class OpaqueScanner:
    """A body with no form of its own (a transcript as text): complete when it has ended."""

    def feed(self, chunk: bytes) -> None:
        pass

    def verdict(self) -> Verdict:
        return Verdict(complete=True)


# A tuple: what a target sends as `type` need not be hashable.
_TERMINAL_EVENTS = ("response.completed", "response.failed", "response.incomplete", "message_stop")


class SseScanner:
    """Server-sent events: complete at `[DONE]`, a terminal Responses event or message_stop."""

    def __init__(self) -> None:
        self._tally = _Tally()
        self._lines = _Lines(self._tally, self._line)
        self.feed = self._lines.feed

    def _line(self, line: bytes) -> None:
        if not line.startswith(b"data:"):
            return
        data = line[5:].strip()
        if data == b"[DONE]":
            self._tally.complete = True
        elif data:
            record = self._tally.add(data)
            if record is not None and record.type in _TERMINAL_EVENTS:
                self._tally.complete = True

    def verdict(self) -> Verdict:
        self._lines.end()
        return self._tally.verdict()


def scanner(dialect: Dialect, content_type: bytes) -> Scanner:
    """The scanner for an answer of this dialect, by the Content-Type the target gave it."""
    if content_type.startswith(b"text/event-stream"):
        return SseScanner()
    if content_type.startswith(b"application/x-ndjson"):
        return NdjsonScanner()
    if dialect is not Dialect.OLLAMA and content_type.startswith(b"text/"):
        return OpaqueScanner()
    return JsonScanner()
