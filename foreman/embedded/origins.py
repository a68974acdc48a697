"""Who may call from where: Ollama's rules for Origin and Host, with its default settings."""

import ipaddress
from urllib.parse import urlsplit

from foreman.embedded.http1 import Header, Request

_SCHEMES = ("app", "file", "tauri", "vscode-webview", "vscode-file")
_LOCAL = ("localhost", "127.0.0.1", "0.0.0.0")
_LOCAL_SUFFIXES = (".localhost", ".local", ".internal")
_METHODS = b"GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"
_HEADERS = (
    b"Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta,"
    b"X-Stainless-Arch,X-Stainless-Async,X-Stainless-Custom-Poll-Interval,"
    b"X-Stainless-Helper-Method,X-Stainless-Lang,X-Stainless-Os,X-Stainless-Package-Version,"
    b"X-Stainless-Poll-Helper,X-Stainless-Retry-Count,X-Stainless-Runtime,"
    b"X-Stainless-Runtime-Version,X-Stainless-Timeout"
)


def cross_origin(request: Request) -> str | None:
    """The Origin, if there is one and it is not the server's own."""
    origin = (request.header(b"origin") or b"").decode("latin-1")
    host = (request.header(b"host") or b"").decode("latin-1")
    return origin if origin and origin not in (f"http://{host}", f"https://{host}") else None


def is_allowed(origin: str) -> bool:
    """One of Ollama's default origins."""
    parts = urlsplit(origin)
    if parts.scheme in _SCHEMES:
        return True
    return parts.scheme in ("http", "https") and parts.hostname in _LOCAL


def is_local_name(host: bytes | None) -> bool:
    """A Host header that a server on loopback takes; None (HTTP/1.0) is no browser's."""
    name = (host or b"").decode("latin-1")
    name = urlsplit(f"//{name}").hostname or ""
    if not name or name == "localhost" or name.endswith(_LOCAL_SUFFIXES):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or address.is_private or address.is_unspecified


def is_address(host: bytes | None) -> bool:
    """A Host header with an IP address rather than a name."""
    name = urlsplit(f"//{(host or b'').decode('latin-1')}").hostname or ""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def granting(origin: str) -> list[Header]:
    """The headers that let a page of this origin read the answer."""
    return [(b"Access-Control-Allow-Origin", origin.encode("latin-1")), (b"Vary", b"Origin")]


def preflight(origin: str) -> list[Header]:
    """The headers of the answer to a preflight."""
    return [
        (b"Access-Control-Allow-Methods", _METHODS),
        (b"Access-Control-Allow-Headers", _HEADERS),
        *granting(origin),
        (b"Access-Control-Max-Age", b"43200"),
    ]
