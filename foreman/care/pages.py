"""The records in a database file's pages, whatever tree those belong to, or once belonged to.

SQLite reads a row by way of the schema, an index and a dozen pages; here a page is enough. It takes
a row's own checksum to know what came out of it. Written down in https://sqlite.org/fileformat.html;
the `.recover` of the sqlite3 shell does the same, where that was built with it, which is seldom.
"""

import struct
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

SIZE = 4096  # bytes; foreman.migrations.create chooses it
_TABLE_LEAF, _INDEX_LEAF, _INDEX_INNER = 0x0D, 0x0A, 0x02
_IN_INDEX = (SIZE - 12) * 64 // 255 - 23  # bytes of a record that are kept in the page
_IN_TABLE = SIZE - 35
_LEAST = (SIZE - 12) * 32 // 255 - 23
_OF_OVERFLOW = SIZE - 4
_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}  # type -> bytes
_WAL_HEADER, _FRAME_HEADER = 32, 24


class Record(NamedTuple):
    """A row, or an entry of an index. `rowid` is None in what has none."""

    rowid: int | None
    values: list[Any]


def records(database: Path, wal: Path, widths: Collection[int]) -> Iterator[Record]:
    """Every record of so many values, those of deleted pages left out.

    Of a page that is in the write-ahead log, what the log has last, though it may not know any more
    that this was committed.
    """
    with database.open("rb") as file:
        pages = _Pages(file, wal)
        unused = pages.unused()
        for number in range(1, pages.count + 1):
            if number not in unused:
                yield from _records(pages, number, widths)


class _Pages:
    """Pages by their number, from 1."""

    def __init__(self, file: BinaryIO, wal: Path) -> None:
        self._file = file
        self._log = wal.read_bytes() if wal.exists() else b""
        self._in_log = dict(_frames(self._log))
        size = file.seek(0, 2)
        self.count = max([-(-size // SIZE), *self._in_log])

    def page(self, number: int) -> bytes:
        """Filled up with zeros where the file ends."""
        start = self._in_log.get(number)
        if start is not None:
            return self._log[start : start + SIZE].ljust(SIZE, b"\0")
        self._file.seek((number - 1) * SIZE)
        return self._file.read(SIZE).ljust(SIZE, b"\0")

    def unused(self) -> set[int]:
        """The pages on the free list, as far as it can be followed."""
        found: set[int] = set()
        trunk = _number(self.page(1), 32, 4)
        while 1 < trunk <= self.count and trunk not in found:
            page = self.page(trunk)
            count = min(_number(page, 4, 4), SIZE // 4 - 2)
            found.add(trunk)
            found.update(struct.unpack_from(f">{count}I", page, 8))
            trunk = _number(page, 0, 4)
        return found

    def overflow(self, number: int, length: int) -> bytes:
        """The rest of a record, from this page on. Raises ValueError where the chain breaks."""
        parts: list[bytes] = []
        for _ in range(-(-length // _OF_OVERFLOW)):
            if not 1 < number <= self.count:
                raise ValueError("a chain of pages is broken")
            page = self.page(number)
            parts.append(page[4:])
            number = _number(page, 0, 4)
        return b"".join(parts)[:length]


def _frames(log: bytes) -> Iterator[tuple[int, int]]:
    """Number and place of each page in the log's latest generation, in the order of writing."""
    salt = log[16:24]
    for start in range(_WAL_HEADER, len(log) - _FRAME_HEADER, _FRAME_HEADER + SIZE):
        if log[start + 8 : start + 16] == salt:
            yield _number(log, start, 4), start + _FRAME_HEADER


def _records(pages: _Pages, number: int, widths: Collection[int]) -> Iterator[Record]:
    page = pages.page(number)
    head = 100 if number == 1 else 0
    kind = page[head]
    if kind not in (_TABLE_LEAF, _INDEX_LEAF, _INDEX_INNER):
        return
    first = head + (12 if kind == _INDEX_INNER else 8)
    count = min(_number(page, head + 3, 2), (SIZE - first) // 2)
    for place in struct.unpack_from(f">{count}H", page, first):
        try:
            record = _cell(pages, page, kind, place, widths)
        except (ValueError, IndexError, struct.error):
            continue  # damaged; the next cell may not be
        if record is not None:
            yield record


def _cell(
    pages: _Pages, page: bytes, kind: int, place: int, widths: Collection[int]
) -> Record | None:
    rowid: int | None = None
    length, place = _varint(page, place + (4 if kind == _INDEX_INNER else 0))
    if kind == _TABLE_LEAF:
        rowid, place = _varint(page, place)
    if length > pages.count * SIZE:
        return None
    local = _local(length, _IN_TABLE if kind == _TABLE_LEAF else _IN_INDEX)
    types = _types(page, place, place + min(local, length))
    if types is not None and len(types) not in widths:
        return None  # without going after its overflow
    content = page[place : place + local]
    if local < length:
        content += pages.overflow(_number(page, place + local, 4), length - local)
    types = types or _types(content, 0, len(content))
    if types is None or len(types) not in widths:
        return None
    return Record(rowid, _values(content, types))


def _local(length: int, most: int) -> int:
    """Bytes of a record that are in the page itself."""
    if length <= most:
        return length
    part = _LEAST + (length - _LEAST) % _OF_OVERFLOW
    return part if part <= most else _LEAST


def _types(content: bytes, start: int, end: int) -> list[int] | None:
    """The types of a record's values; None when they do not all lie before `end`."""
    size, place = _varint(content, start)
    if start + size > end:
        return None
    types: list[int] = []
    while place < start + size:
        kind, place = _varint(content, place)
        types.append(kind)
    return types


def _values(content: bytes, types: list[int]) -> list[Any]:
    place, _ = _varint(content, 0)
    values: list[Any] = []
    for kind in types:
        value, place = _value(content, place, kind)
        values.append(value)
    return values


def _value(content: bytes, place: int, kind: int) -> tuple[Any, int]:
    if kind in _INTEGERS:
        end = place + _INTEGERS[kind]
        return int.from_bytes(content[place:end], signed=True), end
    if kind >= 12:
        end = place + (kind - 12) // 2
        return (content[place:end].decode() if kind % 2 else content[place:end]), end
    if kind == 7:
        return struct.unpack_from(">d", content, place)[0], place + 8
    if kind in (0, 8, 9):
        return {0: None, 8: 0, 9: 1}[kind], place
    raise ValueError("no such type")


def _varint(content: bytes, place: int) -> tuple[int, int]:
    """A number of up to nine bytes, and where it ends."""
    value = 0
    for _ in range(8):
        byte = content[place]
        place += 1
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, place
    value = value << 8 | content[place]
    return (value - (1 << 64) if value >> 63 else value), place + 1


def _number(content: bytes, place: int, size: int) -> int:
    return int.from_bytes(content[place : place + size])
