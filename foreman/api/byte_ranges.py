"""Conditional and partial answers, RFC 9110 sections 13 and 14, for one range of bytes."""

import re
from collections.abc import Callable
from dataclasses import dataclass

_RANGE = re.compile(r"bytes\s*=\s*([0-9]{0,18})\s*-\s*([0-9]{0,18})", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Whole:
    """200: everything."""


@dataclass(frozen=True, slots=True)
class Part:
    """206: the bytes from `start` up to but not including `end`."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class NotModified:
    """304: the client has it."""


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """416: no byte of the range exists."""


Choice = Whole | Part | NotModified | Unsatisfiable


def choose(header: Callable[[bytes], bytes], etag: str, size: int) -> Choice:
    """What to answer to a GET of `size` bytes that bear this (quoted, strong) etag.

    A Range that cannot be read, or names several ranges, counts as absent, as the RFC allows.
    """
    if _lists(header(b"if-none-match"), etag):
        return NotModified()
    condition = _text(header(b"if-range")).strip()
    found = _RANGE.fullmatch(_text(header(b"range")).strip())
    if found is None or condition not in ("", etag):  # a date is never exact enough
        return Whole()
    return _part(found[1], found[2], size)


def _part(first: str, last: str, size: int) -> Choice:
    if not first:  # the last so many bytes
        length = min(int(last or 0), size)
        return Part(size - length, size) if length else Unsatisfiable() if last else Whole()
    start, end = int(first), min(int(last) + 1, size) if last else size
    if last and int(last) < start:
        return Whole()
    return Part(start, end) if start < size else Unsatisfiable()


def _lists(header: bytes, etag: str) -> bool:
    """Whether If-None-Match names it; weak tags are as good as strong ones here."""
    tags = [tag.strip().removeprefix("W/") for tag in _text(header).split(",")]
    return etag in tags or tags == ["*"]


def _text(header: bytes) -> str:
    return header.decode("latin-1")
