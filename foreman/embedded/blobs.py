"""Uploaded layers: /api/blobs."""

import hashlib
import re

from foreman.embedded.failures import Failed
from foreman.embedded.go import quote
from foreman.embedded.http1 import Exchange

_DIGEST = re.compile(r"sha256[:-]([0-9a-fA-F]{64})")


class Blobs:
    """The digests that were uploaded; their bytes are hashed on the way and dropped."""

    def __init__(self) -> None:
        self._digests: set[str] = set()

    async def head(self, exchange: Exchange, digest: str) -> None:
        """200 or 404. Raises Failed for a digest that is none."""
        if _hexadecimal(digest) not in self._digests:
            raise Failed(404, f"blob {quote(digest)} not found")
        await exchange.respond(200)

    async def put(self, exchange: Exchange, digest: str) -> None:
        """200 if it is there already, 201 when it was created. Raises Failed, Severed."""
        wanted = _hexadecimal(digest)
        if wanted in self._digests:
            await exchange.respond(200)
            return
        hashed = hashlib.sha256()
        while part := await exchange.read():
            hashed.update(part)
        if hashed.hexdigest() != wanted:
            got = f"sha256:{hashed.hexdigest()}"
            raise Failed(400, f"digest mismatch, expected {quote(digest)}, got {quote(got)}")
        self._digests.add(wanted)
        await exchange.respond(201)


def _hexadecimal(digest: str) -> str:
    found = _DIGEST.fullmatch(digest)
    if not found:
        raise Failed(400, "invalid digest format")
    return found[1].lower()
