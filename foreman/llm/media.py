"""Pictures: from bytes, files, data URIs and URLs; checked, and made to fit where they have to.

What a picture is, its bytes decide: not its name, not what a server calls it. Only scaling needs
Pillow, which the extra `images` brings.
"""

import base64
import binascii
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

import anyio
import anyio.to_thread

from foreman.llm.capabilities import ImageLimits
from foreman.llm.errors import MediaError, redact
from foreman.llm.messages import Image
from foreman.llm.pixels import JPEG, PNG, WEBP, measure

if TYPE_CHECKING:
    import httpx
    from PIL.Image import Image as Picture

LARGEST = 20 * 2**20  # bytes of a picture that are read at all
PIXELS = 50_000_000  # a small file may claim to be enormous once decoded
FETCHING = 30.0  # seconds for a picture to come from its server
SMALLEST = 64  # pixels of the longer edge, below which shrinking a file is given up
QUALITY = 85  # of a JPEG or WebP that had to be written anew

Source = bytes | Path | str


def read_image(source: Source, *, largest: int = LARGEST) -> Image:
    """From bytes, a file's path, or a `data:` URI. `largest` is in bytes.

    >>> read_image("data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAACAkQBADs=")
    Image(image/gif, 1x1, 29 bytes)

    Raises MediaError for what is not there, too large, or neither PNG, JPEG, GIF nor WebP.
    """
    if isinstance(source, bytes):
        return _checked(source, largest, "the picture")
    if isinstance(source, str) and source.startswith(("http://", "https://")):
        raise MediaError("a picture behind a URL is fetched by `await load_image(url)`")
    if isinstance(source, str) and source.startswith("data:"):
        return _checked(_data_uri(source), largest, "the data URI")
    return _checked(_file(Path(source), largest), largest, str(source))


async def load_image(
    source: Source, *, client: "httpx.AsyncClient | None" = None, largest: int = LARGEST
) -> Image:
    """As `read_image`, and from an http or https URL too; waits without blocking the loop.

    The URL is fetched from where this program runs: let in only those its users may reach.
    Redirects are followed if the `client` does. Raises MediaError.
    """
    if isinstance(source, str) and source.startswith(("http://", "https://")):
        where = redact(source.partition("?")[0])
        return _checked(await _fetch(source, where, client, largest), largest, where)
    return await anyio.to_thread.run_sync(lambda: read_image(source, largest=largest))


def fit(image: Image, limits: ImageLimits) -> Image:
    """The picture, or a smaller one that keeps to the limits. It blocks: use a thread.

    Raises MediaError when Pillow is missing, or nothing that could be seen would fit.
    """
    if limits.allows(image):
        return image
    if image.width * image.height > PIXELS:
        raise MediaError(f"{image.width}x{image.height} pixels are too many to scale")
    picture = _open(image)
    edge = min(max(image.width, image.height), limits.edge or max(image.width, image.height))
    kind = _kind(image, limits)
    while True:
        smaller = _written(picture, edge, kind)
        if limits.allows(smaller):
            return smaller
        if edge <= SMALLEST:
            raise MediaError(f"the picture cannot be made to fit {limits}")
        edge = max(SMALLEST, edge * 3 // 4)


def data_uri(image: Image) -> str:
    """The picture as a `data:` URI, for a wire that wants one."""
    return f"data:{image.media_type};base64,{base64.b64encode(image.data).decode()}"


def _checked(data: bytes, largest: int, what: str) -> Image:
    if len(data) > largest:
        raise _too_large(what, largest)
    try:
        media_type, width, height = measure(data)
    except ValueError as error:
        raise MediaError(f"{what}: {error}") from error
    if width == 0 or height == 0:
        raise MediaError(f"{what}: the picture has no size")
    return Image(media_type, data, width, height)


def _too_large(what: str, largest: int) -> MediaError:
    return MediaError(f"{what}: larger than {largest} bytes")


def _file(path: Path, largest: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(largest + 1)
    except OSError as error:
        raise MediaError(f"{path}: {error.strerror or error}") from error


def _data_uri(uri: str) -> bytes:
    head, comma, body = uri.partition(",")
    if not comma:
        raise MediaError("the data URI has no comma")
    if not head.endswith(";base64"):
        return unquote_to_bytes(body)
    try:
        return base64.b64decode(unquote_to_bytes(body), validate=True)
    except binascii.Error as error:
        raise MediaError("the data URI is no base64") from error


async def _fetch(url: str, where: str, client: "httpx.AsyncClient | None", largest: int) -> bytes:
    import httpx

    try:
        with anyio.fail_after(FETCHING):
            if client is not None:
                return await _body(client, url, where, largest)
            async with httpx.AsyncClient() as own:
                return await _body(own, url, where, largest)
    except TimeoutError as error:
        raise MediaError(f"{where}: not here within {FETCHING:g} s") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise MediaError(f"{where}: {redact(str(error)) or type(error).__name__}") from error


async def _body(client: "httpx.AsyncClient", url: str, where: str, largest: int) -> bytes:
    """The body, or a little more than `largest` of it, which `_checked` refuses."""
    data = bytearray()
    async with client.stream("GET", url) as response:
        if not response.is_success:
            raise MediaError(f"{where}: status {response.status_code}")
        # Cancelled and not left: so httpx's generators, one in another, end here and now.
        with anyio.CancelScope() as reading:
            async for chunk in response.aiter_bytes():
                if len(data) <= largest:
                    data += chunk
                else:
                    reading.cancel()
    return bytes(data)


def _open(image: Image) -> "Picture":
    try:
        import PIL.Image
        import PIL.ImageOps
    except ImportError as error:
        raise MediaError(
            "the picture has to be scaled, which needs Pillow: install foreman-ollama[images]"
        ) from error
    import io

    try:
        picture = PIL.Image.open(io.BytesIO(image.data))
        return PIL.ImageOps.exif_transpose(picture)  # scaled copies carry no EXIF to turn them by
    except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError) as error:
        raise MediaError(f"the picture cannot be decoded: {error}") from error


def _kind(image: Image, limits: ImageLimits) -> str:
    """The type to write: its own where that can be written well and is taken, else what is."""
    for kind in (image.media_type, PNG, JPEG, WEBP):
        if kind in limits.media_types and kind in {PNG, JPEG, WEBP}:
            return kind
    raise MediaError(f"no type is taken that could be written: {sorted(limits.media_types)}")


def _written(picture: "Picture", edge: int, kind: str) -> Image:
    import io

    small = picture.convert("RGB" if kind == JPEG else "RGBA")
    small.thumbnail((edge, edge))
    target = io.BytesIO()
    small.save(target, kind.removeprefix("image/"), quality=QUALITY)
    return Image(kind, target.getvalue(), small.width, small.height)
