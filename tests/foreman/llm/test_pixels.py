import struct

import pytest

from foreman.llm.pixels import GIF, JPEG, PNG, WEBP, measure

PNG_FILE = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 640, 480)
GIF_FILE = b"GIF89a" + struct.pack("<HH", 640, 480)
APP0 = b"\xff\xe0" + struct.pack(">H", 4) + b"ab"
FRAME = struct.pack(">HBHH", 8, 8, 480, 640)
JPEG_FILE = b"\xff\xd8" + APP0 + b"\xff\xc0" + FRAME
PROGRESSIVE = b"\xff\xd8" + APP0 + b"\xff\xff\xff\xc2" + FRAME  # with fill bytes
WITH_TABLE = b"\xff\xd8" + b"\xff\xc4" + struct.pack(">H", 3) + b"\xc0" + b"\xff\xc1" + FRAME


def webp(kind: bytes, body: bytes) -> bytes:
    return b"RIFF\x00\x00\x00\x00WEBP" + kind + b"\x00\x00\x00\x00" + body


LOSSY = webp(b"VP8 ", b"\x00\x00\x00\x9d\x01\x2a" + struct.pack("<HH", 640 | 0x4000, 480))
LOSSLESS = webp(b"VP8L", b"\x2f" + struct.pack("<I", 639 | 479 << 14))
EXTENDED = webp(b"VP8X", b"\x00" * 4 + (639).to_bytes(3, "little") + (479).to_bytes(3, "little"))

FILES = [
    (PNG, PNG_FILE),
    (GIF, GIF_FILE),
    (JPEG, JPEG_FILE),
    (JPEG, PROGRESSIVE),
    (JPEG, WITH_TABLE),
    (WEBP, LOSSY),
    (WEBP, LOSSLESS),
    (WEBP, EXTENDED),
]


@pytest.mark.parametrize(("media_type", "data"), FILES)
def test_type_and_size_are_read_from_the_bytes(media_type: str, data: bytes) -> None:
    assert measure(data) == (media_type, 640, 480)


@pytest.mark.parametrize("data", [data for _, data in FILES])
def test_a_file_cut_short_anywhere_is_refused(data: bytes) -> None:
    for end in range(len(data)):
        with pytest.raises(ValueError, match=r"ends before|is neither"):
            measure(data[:end])


@pytest.mark.parametrize("data", [b"", b"<svg/>", b"%PDF-1.7", webp(b"ABCD", b"\x00" * 20)])
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"ends before|is neither"):
        measure(data)
