"""Scaling runs where Pillow is installed, by the extra `images`; the rest needs nothing."""

import base64
import importlib.util
import io
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.lowlevel
import httpx
import pytest

from foreman.llm import Image, ImageLimits, MediaError, fit, load_image, read_image
from foreman.llm.media import PIXELS, data_uri

PIXEL = base64.b64decode("R0lGODlhAQABAAAAACwAAAAAAQABAAACAkQBADs=")
READ = Image("image/gif", PIXEL, 1, 1)
URL = "https://token@pictures.example/a.gif?key=secret"

with_pillow = pytest.mark.skipif(importlib.util.find_spec("PIL") is None, reason="needs Pillow")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "pixel.png"  # what it is called does not matter
    path.write_bytes(PIXEL)
    return path


async def test_every_source_gives_the_same_picture(file: Path) -> None:
    for source in (PIXEL, file, str(file), data_uri(READ)):
        assert read_image(source) == READ
        assert await load_image(source) == READ


def test_a_data_uri_need_not_be_base64() -> None:
    escaped = "".join(f"%{byte:02x}" for byte in PIXEL)

    assert read_image(f"data:,{escaped}") == READ


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (b"<svg/>", "the picture: this is neither PNG, JPEG, GIF nor WebP"),
        (b"GIF89a", "the picture: the picture ends before its size"),
        (b"GIF89a\x00\x00\x01\x00", "the picture has no size"),
        ("data:image/png;base64", "has no comma"),
        ("data:image/png;base64,####", "no base64"),
        ("/nowhere/at/all.png", "/nowhere/at/all.png: No such file"),
        ("/", "directory"),
        ("https://pictures.example/a.png", "await load_image"),
    ],
)
def test_what_cannot_be_used_is_refused_in_words(source: bytes | str, says: str) -> None:
    with pytest.raises(MediaError, match=says):
        read_image(source)


def test_the_size_is_bounded(file: Path) -> None:
    assert read_image(file, largest=len(PIXEL)) == READ
    for source in (PIXEL, file, data_uri(READ)):
        with pytest.raises(MediaError, match="larger than 28 bytes"):
            read_image(source, largest=len(PIXEL) - 1)


def server(status: int = 200, body: bytes = PIXEL, pause: float = 0.0) -> httpx.AsyncClient:
    async def chunks() -> AsyncIterator[bytes]:
        for byte in body:
            await anyio.lowlevel.checkpoint()
            yield bytes([byte])

    async def answer(request: httpx.Request) -> httpx.Response:
        await anyio.sleep(pause)
        return httpx.Response(status, content=chunks())

    return httpx.AsyncClient(transport=httpx.MockTransport(answer))


async def test_a_picture_is_fetched() -> None:
    async with server() as client:
        assert await load_image(URL, client=client) == READ


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (404, b"", "status 404"),
        (302, b"", "status 302"),
        (200, b"<html>", "is neither"),
        (200, PIXEL * 2, "larger than 40 bytes"),
    ],
)
async def test_one_that_does_not_come_is_told_without_secrets(
    status: int, body: bytes, says: str
) -> None:
    async with server(status, body) as client:
        with pytest.raises(MediaError, match=says) as refused:
            await load_image(URL, client=client, largest=40)

    assert "https://pictures.example/a.gif" in str(refused.value)
    assert "token" not in str(refused.value)
    assert "secret" not in str(refused.value)


async def test_no_more_is_read_than_may_be() -> None:
    served: list[bytes] = []

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(1000):
            await anyio.lowlevel.checkpoint()
            served.append(PIXEL)
            yield PIXEL

    async def answer(request: httpx.Request) -> httpx.Response:
        await anyio.lowlevel.checkpoint()
        return httpx.Response(200, content=chunks())

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        with pytest.raises(MediaError, match="larger than 40 bytes"):
            await load_image(URL, client=client, largest=40)

    assert len(served) < 10


async def test_one_that_takes_too_long_is_given_up(virtual_time: None) -> None:
    async with server(pause=31) as client:
        with pytest.raises(MediaError, match="not here within 30 s"):
            await load_image(URL, client=client)


@pytest.mark.parametrize("fault", [httpx.ConnectError("refused"), httpx.InvalidURL("what")])
async def test_a_broken_connection_is_a_media_error(fault: Exception) -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        await anyio.lowlevel.checkpoint()
        raise fault

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        with pytest.raises(MediaError, match=str(fault)):
            await load_image(URL, client=client)


def test_a_picture_that_fits_is_left_as_it_is() -> None:
    assert fit(READ, ImageLimits(edge=1, size=len(PIXEL))) is READ


def test_scaling_without_pillow_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)

    with pytest.raises(MediaError, match=r"install foreman-ollama\[images\]"):
        fit(READ, ImageLimits(media_types=frozenset({"image/png"})))


def test_a_picture_that_would_fill_the_memory_is_not_decoded() -> None:
    bomb = Image("image/png", b"", PIXELS, 2)

    with pytest.raises(MediaError, match="pixels are too many"):
        fit(bomb, ImageLimits(edge=100))


def drawn(kind: str, width: int, height: int) -> Image:
    import PIL.Image

    written = io.BytesIO()
    noise = PIL.Image.effect_noise((width, height), 100)
    noise.save(written, kind)
    return read_image(written.getvalue())


@with_pillow
@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_a_large_picture_is_scaled_in_its_own_type(kind: str) -> None:
    small = fit(drawn(kind, 800, 400), ImageLimits(edge=200))

    assert (small.media_type, small.width, small.height) == (f"image/{kind}", 200, 100)
    assert read_image(small.data) == small


@with_pillow
def test_a_type_that_is_not_taken_is_written_anew() -> None:
    limits = ImageLimits(media_types=frozenset({"image/jpeg"}))

    assert fit(drawn("gif", 80, 40), limits).media_type == "image/jpeg"


@with_pillow
def test_a_heavy_picture_shrinks_until_it_is_light_enough() -> None:
    picture = drawn("png", 600, 600)

    small = fit(picture, ImageLimits(size=50_000))

    assert len(small.data) <= 50_000 < len(picture.data)
    assert small.width < 600


@with_pillow
def test_limits_nothing_could_keep_to_are_refused() -> None:
    with pytest.raises(MediaError, match="cannot be made to fit"):
        fit(drawn("png", 600, 600), ImageLimits(size=10))
    with pytest.raises(MediaError, match="no type is taken"):
        fit(drawn("png", 6, 6), ImageLimits(media_types=frozenset({"image/x-icon"})))


@with_pillow
def test_a_picture_that_only_looks_like_one_is_refused() -> None:
    with pytest.raises(MediaError, match="cannot be decoded"):
        fit(Image("image/gif", b"GIF89a", 100, 100), ImageLimits(edge=10))
