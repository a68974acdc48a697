"""How requests look in httpx, and how its errors look here."""

from typing import Any

import httpx

from foreman import __version__
from foreman.client.errors import Unreachable
from foreman.client.location import Location
from foreman.client.transport import CONNECT_LIMIT, SILENCE_LIMIT, Request

_NOT_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.LocalProtocolError,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
)


def headers(location: Location) -> dict[str, str]:
    """What goes with every request."""
    plain = {"accept-encoding": "identity", "user-agent": f"foreman-client/{__version__}"}
    return plain | ({"authorization": f"Bearer {location.secret}"} if location.secret else {})


def settings(location: Location) -> dict[str, Any]:
    """The arguments of httpx.Client and httpx.AsyncClient."""
    return {
        "base_url": location.url,
        "headers": headers(location),
        "trust_env": not location.is_here,
        "limits": httpx.Limits(max_connections=None, max_keepalive_connections=20),
    }


def options(request: Request) -> dict[str, Any]:
    """The arguments of build_request."""
    limits = httpx.Timeout(
        connect=CONNECT_LIMIT, read=request.silence, write=SILENCE_LIMIT, pool=None
    )
    return {
        "method": request.method,
        "url": request.target,
        "content": request.body,
        "headers": dict(request.headers),
        "timeout": limits,
    }


def unreachable(url: str, error: httpx.HTTPError) -> Unreachable:
    """The same error in our words."""
    reason = str(error) or type(error).__name__
    if isinstance(error, httpx.ConnectError):
        reason += ". Is `foreman serve` running there? FOREMAN_URL says where to look"
    return Unreachable(url, reason, sent=not isinstance(error, _NOT_SENT))
