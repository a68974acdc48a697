"""How a job becomes SQLite values and back, under a checksum that notices a flipped bit."""

import zlib
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import msgspec

from foreman.errors import StoreError
from foreman.jobs import JobClass, State
from foreman.rows import JobRow

COLUMNS = JobRow.__struct_encode_fields__
SUBMITTED = COLUMNS[: COLUMNS.index("state")]
LIVED = COLUMNS[COLUMNS.index("state") :]

_Convert = Callable[[Any], object]

_pack = msgspec.msgpack.Encoder().encode
_json = msgspec.json.Encoder(order="sorted").encode


def checksum(values: Sequence[object]) -> int:
    """CRC-32 of the MessagePack array of these SQLite values (text, integer, real, blob, null)."""
    return zlib.crc32(_pack(values))


def verified(values: Sequence[Any], name: str) -> list[Any]:
    """The stored values without the checksum that ends them. Raises StoreError, naming the row."""
    *fields, found = values
    try:
        sound = checksum(fields) == found
    except UnicodeEncodeError:  # a flipped bit can make text that is none: foreman.database.connect
        sound = False
    if not sound:
        raise StoreError(f"{name} is damaged: its checksum does not match")
    return fields


def _labels(labels: dict[str, str]) -> str:
    return _json(labels).decode()


def _number(value: bool | None) -> int | None:
    return None if value is None else int(value)


def _truth(value: int | None) -> bool | None:
    return None if value is None else bool(value)


def _by_place(columns: dict[str, _Convert]) -> tuple[tuple[int, _Convert], ...]:
    return tuple((COLUMNS.index(column), convert) for column, convert in columns.items())


_STORED = _by_place(
    {
        "class": attrgetter("value"),
        "streamed": int,
        "labels": _labels,
        "state": attrgetter("value"),
        "resident": _number,
        "incomplete": int,
    }
)
_LOADED = _by_place(
    {
        "class": JobClass,
        "streamed": bool,
        "labels": msgspec.json.Decoder(dict[str, str]).decode,
        "state": State,
        "resident": _truth,
        "incomplete": bool,
    }
)


def stored(row: JobRow) -> tuple[object, ...]:
    """The row's SQLite values in the order of COLUMNS, without the checksum."""
    values = list(msgspec.structs.astuple(row))
    for index, store in _STORED:
        values[index] = store(values[index])
    return tuple(values)


def loaded(values: Sequence[Any]) -> JobRow:
    """The job of these stored values and their checksum. Raises StoreError for a damaged row."""
    fields = verified(values, f"the row of job {values[0]}")
    for index, load in _LOADED:
        fields[index] = load(fields[index])
    return JobRow(*fields)
