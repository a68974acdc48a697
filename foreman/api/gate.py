"""Who may ask at all: the Host, the Origin, the token. Ollama's own rules, where it has any.

A browser page that rebinds DNS to 127.0.0.1 comes with a foreign Host, one that simply fetches
comes with a foreign Origin; both are turned away before anything else is looked at.
"""

import hmac
import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from foreman.wire import Header

_LOCAL_HOSTS = ("localhost", "127.0.0.1", "0.0.0.0")
DEFAULT_ORIGINS = (
    *(f"{scheme}://{host}" for scheme in ("http", "https") for host in _LOCAL_HOSTS),
    *(f"{scheme}://{host}:*" for scheme in ("http", "https") for host in _LOCAL_HOSTS),
    "app://*",
    "file://*",
    "tauri://*",
    "vscode-webview://*",
    "vscode-file://*",
)
_STAINLESS = (
    "arch async custom-poll-interval helper-method lang os package-version poll-helper"
    " retry-count runtime runtime-version timeout"
)
_ALLOWED_HEADERS = ",".join(
    [
        "Authorization",
        "Content-Type",
        "User-Agent",
        "Accept",
        "X-Requested-With",
        "OpenAI-Beta",
        *(f"x-stainless-{name}" for name in _STAINLESS.split()),
    ]
)
PREFLIGHT: tuple[Header, ...] = (
    (b"access-control-allow-methods", b"GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"),
    (b"access-control-allow-headers", _ALLOWED_HEADERS.encode()),
    (b"access-control-max-age", b"43200"),
)
EXPOSED: Header = (b"access-control-expose-headers", b"X-Foreman-Job,X-Foreman-Position")
OPEN_PATHS = frozenset({"/", "/healthz", "/readyz"})  # answer without a token: they tell nothing


@dataclass(frozen=True, slots=True)
class Gate:
    """The rules of one listener. `tokens` maps a client's name to its secret; empty = no auth."""

    loopback: bool
    origins: tuple[str, ...] = DEFAULT_ORIGINS
    tokens: Mapping[str, str] = field(default_factory=dict[str, str])

    def host_allowed(self, host: bytes) -> bool:
        """On a loopback bind: loopback, private or own addresses and local names only."""
        if not self.loopback or not host:
            return True
        try:
            name = urlsplit(f"//{host.decode('ascii')}").hostname or ""
        except (ValueError, UnicodeDecodeError):
            return False
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            own = socket.gethostname().lower()
            return name in ("localhost", own) or name.endswith(
                (".localhost", ".local", ".internal")
            )
        return address.is_loopback or address.is_private or address.is_unspecified

    def origin_headers(self, origin: bytes, host: bytes) -> list[Header] | None:
        """The CORS headers for this Origin; None when it is to be refused with a bare 403."""
        if not origin:
            return []
        text = origin.decode("latin-1").lower()
        if text in (f"{scheme}://{host.decode('latin-1').lower()}" for scheme in ("http", "https")):
            return []
        if "*" in self.origins:
            return [(b"access-control-allow-origin", b"*"), EXPOSED]
        if not any(fnmatchcase(text, pattern.lower()) for pattern in self.origins):
            return None
        return [(b"access-control-allow-origin", origin), (b"vary", b"Origin"), EXPOSED]

    def owner(self, client: str) -> str | None:
        """Whose jobs this client may see: its own; None = everyone's, where no tokens are set."""
        return client if self.tokens else None

    def client(self, path: str, authorization: bytes, api_key: bytes) -> str | None:
        """The name of the client whose token this is ("" where none is needed); None = refused."""
        if not self.tokens or path in OPEN_PATHS:
            return ""
        scheme, _, bearer = authorization.partition(b" ")
        given = bearer.strip() if scheme.lower() == b"bearer" else api_key
        found = None
        for name, secret in self.tokens.items():  # all of them, always: no timing to learn from
            if hmac.compare_digest(given, secret.encode()):
                found = name
        return found
