"""What the routes on Quart share: who asks, and JSON."""

from typing import Any, cast

import msgspec
from quart import Response, request

from foreman.api.exchange import OWNER


def owner() -> str | None:
    """Whose jobs the client may see: its own; None = everyone's, where no tokens are set."""
    scope = cast("dict[str, Any]", request.scope)
    found: str | None = scope[OWNER]
    return found


def json_response(document: object, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(msgspec.json.encode(document), status, content_type="application/json")
