"""The query parameters of foreman's own routes: each read, or refused in words."""

from collections.abc import Collection
from difflib import get_close_matches
from enum import StrEnum
from typing import TypeVar
from urllib.parse import parse_qsl

from foreman import names
from foreman.api.problems import Problem

E = TypeVar("E", bound=StrEnum)

PAGE = 50  # entries on a page unless ?limit= says otherwise
LARGEST_PAGE = 500
WAIT = 30.0  # seconds of a long poll unless ?timeout= says otherwise
LONGEST_WAIT = 300.0


def given(query: bytes, known: Collection[str]) -> dict[str, str]:
    """The parameters of a query string. Raises Problem for one that is unknown, or comes twice."""
    found: dict[str, str] = {}
    for name, text in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name not in known:
            near = get_close_matches(name, known, n=1)
            right = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}"
            detail = f"there is no parameter {name!r} here; {right if known else 'it takes none'}"
            raise Problem(400, "bad_parameter", detail, field=name)
        if name in found:
            raise Problem(400, "bad_parameter", f"{name} is given twice", field=name)
        found[name] = text
    return found


def wrong(name: str, text: str | None, right: str) -> Problem:
    """A bad parameter: which, and what would be right."""
    return Problem(400, "bad_parameter", f"{name}={text}: {right}", field=name)


def limit(text: str | None) -> int:
    """How many entries a page has."""
    if text is None:
        return PAGE
    if not text.isdecimal() or not 1 <= int(text[:9]) <= LARGEST_PAGE:
        raise wrong("limit", text, f"write a number from 1 to {LARGEST_PAGE}")
    return int(text)


def one_of(kind: type[E], name: str, text: str) -> E:
    """A value of this enumeration."""
    try:
        return kind(text)
    except ValueError:
        choices = ", ".join(each.value for each in kind)
        raise wrong(name, text, f"write one of {choices}") from None


def number(name: str, text: str | None, default: float, least: float, most: float) -> float:
    """A number within bounds."""
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise wrong(name, text, f"write a number from {least:g} to {most:g}")
    return value


def model_key(name: str) -> str:
    """The normalised name of a model."""
    try:
        return names.key(name)
    except names.InvalidName as error:
        raise wrong("model", name, error.text) from None


def label(text: str) -> tuple[str, str]:
    """`name:value`."""
    name, colon, value = text.partition(":")
    if not (name and colon):
        raise wrong("label", text, "write name:value")
    return name, value
