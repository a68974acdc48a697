"""Errors in the shape that each dialect's clients understand, before and after a 200 went out."""

from secrets import token_hex

import msgspec

from foreman.api.exchange import Exchange
from foreman.api.problems import problem_view
from foreman.wire import Dialect, Header

JSON: Header = (b"content-type", b"application/json; charset=utf-8")
PLAIN_JSON: Header = (b"content-type", b"application/json")
PROBLEM: Header = (b"content-type", b"application/problem+json")
TEXT: Header = (b"content-type", b"text/plain")
EXPOSITION: Header = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")
NDJSON: Header = (b"content-type", b"application/x-ndjson")
SSE: Header = (b"content-type", b"text/event-stream")

_OPENAI_TYPES = {400: "invalid_request_error", 404: "not_found_error"}
_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}


def error_object(dialect: Dialect, status: int, text: str) -> object:
    """The JSON object that says `text` to a client of this dialect."""
    match dialect:
        case Dialect.OLLAMA:
            return {"error": text}
        case Dialect.OPENAI:
            kind = _OPENAI_TYPES.get(status, "api_error")
            return {"error": {"message": text, "type": kind, "param": None, "code": None}}
        case Dialect.ANTHROPIC:
            kind = _ANTHROPIC_TYPES.get(status, "api_error")
            request_id = f"req_{token_hex(12)}"
            error = {"type": kind, "message": text}
            return {"type": "error", "error": error, "request_id": request_id}
        case Dialect.OWN:
            return problem_view(status, text)


def error_body(dialect: Dialect, status: int, text: str) -> tuple[Header, bytes]:
    """Content-Type and body of an error answer."""
    header = PROBLEM if dialect is Dialect.OWN else object_type(dialect)
    return header, msgspec.json.encode(error_object(dialect, status, text))


def error_frame(dialect: Dialect, status: int, text: str) -> bytes:
    """What to append to a stream under way: an NDJSON line, or a server-sent event."""
    document = msgspec.json.encode(error_object(dialect, status, text))
    if dialect is Dialect.OLLAMA:
        return document + b"\n"
    if dialect is Dialect.ANTHROPIC:
        return b"event: error\ndata: " + document + b"\n\n"
    return b"data: " + document + b"\n\n"


async def break_off(exchange: Exchange, dialect: Dialect, status: int, text: str) -> None:
    """Tell of a failure after the head went out.

    A stream takes one more line. Anything else is left unfinished, which cuts the connection: after
    a 200 for a single object nothing but that tells every client.
    """
    if exchange.takes_more:
        await exchange.finish(error_frame(dialect, status, text))


def stream_type(dialect: Dialect) -> Header:
    """The Content-Type of this dialect's streams."""
    return NDJSON if dialect is Dialect.OLLAMA else SSE


def object_type(dialect: Dialect) -> Header:
    """The Content-Type of this dialect's single objects."""
    return JSON if dialect is Dialect.OLLAMA else PLAIN_JSON


def heartbeat(dialect: Dialect, streamed: bool) -> bytes:
    """A sign of life that every parser skips: a space before the first object, or a comment."""
    return b": waiting\n\n" if streamed and dialect is not Dialect.OLLAMA else b" "


async def refuse(
    exchange: Exchange, dialect: Dialect, status: int, text: str, retry_after: int | None = None
) -> None:
    """Answer with an error of this dialect; `retry_after` in seconds."""
    kind, body = error_body(dialect, status, text)
    headers = [kind]
    if retry_after is not None:
        headers.append((b"retry-after", b"%d" % retry_after))
    await exchange.reply(status, headers, body)
