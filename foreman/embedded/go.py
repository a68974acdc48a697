"""The parts of Go's standard library that show through Ollama's wire.

Its JSON decoder (keys in any case, the last of two wins, what follows the first value is ignored,
its own error texts), its durations (`1h30m`), its encoder's escapes and its `%q`.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar, cast

import msgspec

from foreman.embedded.clock import MAX_SECONDS
from foreman.embedded.engine import Json

T = TypeVar("T")

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}
_TERM = re.compile(r"([0-9]*\.?[0-9]*)([^0-9.]*)")

_KINDS: dict[type, str] = {
    str: "string",
    bool: "bool",
    int: "number",
    float: "number",
    list: "array",
    dict: "object",
}

# Python's decoder and Go's fail at the same places, in different words.
_WORDS = {
    "Expecting value": "looking for beginning of value",
    "Expecting property name enclosed in double quotes": (
        "looking for beginning of object key string"
    ),
    "Expecting ':' delimiter": "after object key",
    "Expecting ',' delimiter": "after object key:value pair",
    "Illegal trailing comma before end of object": "looking for beginning of object key string",
    "Illegal trailing comma before end of array": "looking for beginning of value",
    "Invalid control character at": "in string literal",
    "Invalid \\escape": "in string escape code",
    "Invalid \\uXXXX escape": "in \\u hexadecimal character escape",
}


class BadRequest(Exception):
    """The body is not what the route takes; `text` is what Go would have said."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


def encode(value: object) -> bytes:
    """JSON as Go's encoder writes it: no spaces, and no `<`, `>` or `&` in the raw."""
    data = msgspec.json.encode(value)
    return data.replace(b"&", rb"\u0026").replace(b"<", rb"\u003c").replace(b">", rb"\u003e")


def quote(text: str) -> str:
    """The verb `%q`."""
    return json.dumps(text, ensure_ascii=False)


def duration(text: str) -> float:
    """Seconds of a Go duration such as `5m` or `-1.5h`. Raises BadRequest."""
    body = text.removeprefix("-") if text.startswith("-") else text.removeprefix("+")
    if body == "0":
        return 0.0
    total = 0.0
    rest = body
    while rest:
        term = _TERM.match(rest)
        number, unit = term.groups() if term else ("", "")
        if not number or number == ".":
            raise BadRequest(f"time: invalid duration {quote(text)}")
        if not unit:
            raise BadRequest(f"time: missing unit in duration {quote(text)}")
        if unit not in _UNITS:
            raise BadRequest(f"time: unknown unit {quote(unit)} in duration {quote(text)}")
        total += float(number) * _UNITS[unit]
        rest = rest[len(number) + len(unit) :]
    if not body:
        raise BadRequest(f"time: invalid duration {quote(text)}")
    return -total if text.startswith("-") else total


def decode(body: bytes, kind: str) -> "Fields":
    """The JSON object in a request body, to be read as Go's struct `kind`. Raises BadRequest."""
    text = body.decode("utf-8", "replace").lstrip(" \t\r\n")
    try:
        value, _ = _decoder.raw_decode(text)
    except json.JSONDecodeError as error:
        raise BadRequest(_syntax_error(error)) from None
    except RecursionError:
        raise BadRequest("exceeded max depth") from None
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise BadRequest(f"json: cannot unmarshal {_kind(value)} into Go value of type api.{kind}")
    members = cast(dict[str, Json], value)
    return Fields(kind, {key.casefold(): item for key, item in members.items()})


def array(value: Json) -> list[Json] | None:
    """The value, if it is a JSON array."""
    items: list[Json] = value
    return items if isinstance(value, list) else None


@dataclass(frozen=True, slots=True)
class Fields:
    """A decoded object whose fields are read with Go's types. Null counts as absent."""

    kind: str
    values: Mapping[str, Json]

    def has(self, name: str) -> bool:
        """The field is there and not null."""
        return self.values.get(name) is not None

    def any(self, name: str) -> Json:
        """Whatever it is, or None."""
        return self.values.get(name)

    def text(self, name: str) -> str:
        """A string, empty when absent."""
        return self._read(name, str, "string", "")

    def flag(self, name: str) -> bool | None:
        """A boolean, None when absent."""
        return self._read(name, bool, "bool", None)

    def whole(self, name: str) -> int | None:
        """An integer, None when absent."""
        value = self._read(name, int, "int", None)
        if isinstance(value, bool):
            self._refuse(name, value, "int")
        return value

    def list(self, name: str, of: str) -> tuple[Json, ...]:
        """The items of an array of the Go type `of`, empty when absent."""
        return tuple(self._read(name, list, f"[]{of}", []))

    def object(self, name: str) -> dict[str, Json]:
        """An object, empty when absent."""
        return self._read(name, dict, "map[string]interface {}", {})

    def objects(self, name: str, of: str) -> tuple[dict[str, Json], ...]:
        """The items of an array of objects of the Go type `of`."""
        items = self.list(name, of)
        for item in items:
            if not isinstance(item, dict):
                self._refuse(name, item, of)
        return items

    def keep_alive(self) -> float | None:
        """Seconds, at most MAX_SECONDS (for ever); None when absent."""
        value = self.any("keep_alive")
        match value:
            case None:
                return None
            case bool():
                raise BadRequest("Unsupported type: 'bool'")
            case int() | float():
                seconds = float(value)
            case str():
                seconds = duration(value)
            case _:
                name = "map[string]interface {}" if isinstance(value, dict) else "[]interface {}"
                raise BadRequest(f"Unsupported type: '{name}'")
        return MAX_SECONDS if seconds < 0 else min(seconds, MAX_SECONDS)

    def think(self) -> bool | str | None:
        """True, False, an effort, or None when absent."""
        value = self.any("think")
        levels = '"high", "medium", "low", "max", true, or false'
        if value is None or isinstance(value, bool) or value in ("high", "medium", "low", "max"):
            return cast(bool | str | None, value)
        if isinstance(value, str):
            raise BadRequest(f"invalid think value: {quote(value)} (must be {levels})")
        raise BadRequest(f"think must be a boolean or string ({levels})")

    def _read(self, name: str, wanted: type[Any], go_type: str, default: T) -> Any | T:
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, wanted):
            self._refuse(name, value, go_type)
        return value

    def _refuse(self, name: str, value: Json, go_type: str) -> NoReturn:
        kind = _kind(value)
        if go_type == "int" and isinstance(value, float):
            kind = f"number {value}"
        raise BadRequest(
            f"json: cannot unmarshal {kind} into Go struct field "
            f"{self.kind}.{name} of type {go_type}"
        )


def _no_constant(name: str) -> NoReturn:
    raise BadRequest(f"invalid character '{name.lstrip('-')[0]}' looking for beginning of value")


_decoder = json.JSONDecoder(parse_constant=_no_constant)


def _kind(value: Json) -> str:
    return next((name for kind, name in _KINDS.items() if type(value) is kind), "value")


def _syntax_error(error: json.JSONDecodeError) -> str:
    where = error.pos
    if error.msg.startswith("Illegal trailing comma"):
        where += 1  # Go trips over the bracket after the comma
    found = error.doc[where : where + 1]
    if not found or error.msg == "Unterminated string starting at":
        return "unexpected EOF"
    return f"invalid character {_rune(found)} {_WORDS.get(error.msg, error.msg)}"


def _rune(character: str) -> str:
    return {"'": r"'\''", '"': "'\"'", "\n": r"'\n'", "\t": r"'\t'"}.get(
        character, f"'{character}'"
    )
