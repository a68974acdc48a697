"""Signatures of webhooks, after Standard Webhooks 1.0.0: how a receiver knows it was foreman.

Signed are the id, the time of this attempt and the very bytes that are sent, once with each secret,
so that receivers with the old one and with the new one both accept it while a secret is replaced.
"""

import base64
import binascii
from collections.abc import Iterable
from datetime import UTC, datetime

from standardwebhooks import Webhook

_PREFIX = "whsec_"


def parse_secret(text: str) -> bytes:
    """The key in one value of FOREMAN_WEBHOOK_SECRET. Raises ValueError, which never shows it."""
    encoded = text.strip().removeprefix(_PREFIX)
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not (text.strip().startswith(_PREFIX) and 24 <= len(key) <= 64):
        raise ValueError("write whsec_ and the base64 of 24 to 64 random bytes")
    return key


class Signer:
    """Makes the headers of one attempt. `secrets`: the new one first; none leaves it unsigned.

    Raises ValueError for a secret that is none.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._webhooks = tuple(Webhook(parse_secret(secret)) for secret in secrets)

    @property
    def signed(self) -> bool:
        """Whether receivers can check who sent it."""
        return bool(self._webhooks)

    def headers(self, message_id: str, timestamp: int, body: bytes) -> list[tuple[str, str]]:
        """`timestamp` is that of this attempt, in whole seconds since 1970; `body` is UTF-8."""
        headers = [("webhook-id", message_id), ("webhook-timestamp", str(timestamp))]
        if not self._webhooks:
            return headers
        moment = datetime.fromtimestamp(timestamp, UTC)  # the library takes any other for UTC
        text = body.decode()
        signatures = (webhook.sign(message_id, moment, text) for webhook in self._webhooks)
        return [*headers, ("webhook-signature", " ".join(signatures))]
