"""Strict HTTP/1.1: h11, minus what it forgives.

A proxy in front of foreman and foreman itself must read the same requests out of the same bytes, or
one client's bytes become another's request. So every spelling that parsers are known to disagree
about is refused: bare line feeds, folded fields, two framings of one body. (h11 itself refuses NUL,
differing lengths, bad chunks and bad request lines.)
"""

import h11
from h11._receivebuffer import ReceiveBuffer  # pyright: ignore[reportPrivateUsage]

BAD_REQUEST = 400
HEADERS_TOO_LARGE = 431
VERSION_NOT_SUPPORTED = 505

VERSIONS = frozenset({b"1.0", b"1.1"})
BODY_FIELDS = frozenset({b"content-length", b"transfer-encoding"})
HANDSHAKE_FIELDS = frozenset(
    {b"connection", b"sec-websocket-extensions", b"sec-websocket-protocol"}
)


class StrictConnection(h11.Connection):
    """The server's side of one HTTP/1.1 connection.

    `next_event` raises h11.RemoteProtocolError, its `error_status_hint` the status to answer with,
    also for a head of more than `header_bytes` that arrives in one piece, which h11 lets through.
    """

    def __init__(self, header_bytes: int) -> None:
        super().__init__(h11.SERVER, max_incomplete_event_size=header_bytes)
        self._receive_buffer = _StrictBuffer(header_bytes)

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        event = super().next_event()
        if isinstance(event, h11.Request):
            _refuse(event)
        return event


class _StrictBuffer(ReceiveBuffer):
    """Where h11 finds the lines of a head. The one place that still sees how they ended."""

    def __init__(self, header_bytes: int) -> None:
        super().__init__()
        self._header_bytes = header_bytes

    def maybe_extract_lines(self) -> list[bytearray] | None:
        before = len(self)
        lines = super().maybe_extract_lines()
        if lines:
            head = before - len(self)
            if head > self._header_bytes:
                raise _refusal(HEADERS_TOO_LARGE, "head too large")
            if head != sum(map(len, lines)) + 2 * len(lines) + 2:
                raise _refusal(BAD_REQUEST, "a line that ends without a carriage return")
            if any(line.startswith((b" ", b"\t")) for line in lines):
                raise _refusal(BAD_REQUEST, "folded header field")
        return lines


def _refuse(request: h11.Request) -> None:
    if request.http_version not in VERSIONS:
        raise _refusal(VERSION_NOT_SUPPORTED, "not HTTP/1")
    fields = dict(request.headers)
    if fields.keys() >= BODY_FIELDS:
        raise _refusal(BAD_REQUEST, "both Content-Length and Transfer-Encoding")
    if b"transfer-encoding" in fields and request.http_version == b"1.0":
        raise _refusal(BAD_REQUEST, "Transfer-Encoding in HTTP/1.0")
    if is_websocket(request):
        # Hypercorn would answer each of these with an exception.
        if not BODY_FIELDS.isdisjoint(fields):
            raise _refusal(BAD_REQUEST, "a websocket handshake with a body")
        if not all(v.isascii() for n, v in request.headers if n in HANDSHAKE_FIELDS):
            raise _refusal(BAD_REQUEST, "a websocket handshake beyond ASCII")


def _refusal(status: int, why: str) -> h11.RemoteProtocolError:
    return h11.RemoteProtocolError(why, error_status_hint=status)


def is_websocket(request: h11.Request) -> bool:
    """Whether the request asks for a websocket at all; the handshake may still be wrong."""
    return any(n == b"upgrade" and v.lower() == b"websocket" for n, v in request.headers)


def without_deflate(request: h11.Request) -> h11.Request:
    """The handshake without its offers: permessage-deflate costs 134 KB a socket, plain 36 KB."""
    return h11.Request(
        method=request.method,
        target=request.target,
        headers=[(n, v) for n, v in request.headers if n != b"sec-websocket-extensions"],
        http_version=request.http_version,
    )
