"""Reads a picture's type and size from its first bytes, so that most need no imaging library."""

import struct
from collections.abc import Iterator

PNG = "image/png"
JPEG = "image/jpeg"
GIF = "image/gif"
WEBP = "image/webp"

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # JPEG markers that tell the size
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # JPEG markers without a length


def measure(data: bytes) -> tuple[str, int, int]:
    """Media type, width and height in pixels. Raises ValueError for anything but these four."""
    try:
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return (PNG, *_two(">II", data, 16))
        if data.startswith((b"GIF87a", b"GIF89a")):
            return (GIF, *_two("<HH", data, 6))
        if data.startswith(b"\xff\xd8\xff"):
            return (JPEG, *_jpeg(data))
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return (WEBP, *_webp(data))
    except (struct.error, IndexError) as error:
        raise ValueError("the picture ends before its size is told") from error
    raise ValueError("this is neither PNG, JPEG, GIF nor WebP")


def _two(form: str, data: bytes, at: int) -> tuple[int, int]:
    first, second = struct.unpack_from(form, data, at)
    return int(first), int(second)


def _jpeg(data: bytes) -> tuple[int, int]:
    for marker, at in _segments(data):
        if marker in _FRAMES:
            height, width = _two(">HH", data, at + 3)
            return width, height
    raise IndexError


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Each marker and where its length stands."""
    at = 2
    while True:
        while data[at] == 0xFF:  # fill bytes may stand before a marker
            at += 1
        marker, at = data[at], at + 1
        if marker in _ALONE:
            continue
        yield marker, at
        at += int(struct.unpack_from(">H", data, at)[0])


def _webp(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8 ":
        width, height = _two("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1
    if kind == b"VP8X":
        wide, high = data[24:27], data[27:30]
        if len(high) == 3:
            return int.from_bytes(wide, "little") + 1, int.from_bytes(high, "little") + 1
    raise IndexError
