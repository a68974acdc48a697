"""How settings write durations, sizes and addresses: parse, and format back.

Parsers raise ValueError whose text is what would be right; the caller knows which setting it was.
"""

import ipaddress
import math
import re
from typing import NamedTuple
from urllib.parse import urlsplit

from foreman.durations import go_duration

_BYTES = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}

_DAY = 86400.0
_NUMBER = r"[0-9]{1,12}(?:\.[0-9]{1,9})?"
_PLAIN = re.compile(_NUMBER)
_SIZE = re.compile(rf"({_NUMBER})\s*([kmg]?i?b|)", re.IGNORECASE)


class Address(NamedTuple):
    """Where to listen; port 0 lets the system choose one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"


def parse_duration(value: object) -> float:
    """Seconds from `30s`, `1h30m`, `250ms`, `30d` or a plain number of seconds; never below zero.

    As Go writes durations, and days before all the rest.
    """
    text = _plain_text(value)
    if _PLAIN.fullmatch(text):
        return float(text)
    days, _, rest = text.rpartition("d")
    try:
        seconds = go_duration(rest) if rest or not days else 0.0
        if days:
            seconds += float(days) * _DAY if _PLAIN.fullmatch(days) else math.nan
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ValueError("write a duration like 30s, 5m, 1h30m or 30d; a plain number is seconds")
    return seconds


def format_duration(seconds: float) -> str:
    """The shortest text that `parse_duration` reads back as the same whole milliseconds."""
    rest = round(seconds * 1000)
    text = ""
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, rest = divmod(rest, size)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def parse_size(value: object) -> int:
    """Bytes from `64MiB` (2**20), `64MB` (10**6) or a plain number of bytes."""
    match = _SIZE.fullmatch(_plain_text(value))
    unit = match[2].lower().removeprefix("b") if match else "?"
    if match is None or unit not in _BYTES:
        raise ValueError("write a size like 64MiB, 8MB or 512KiB; a plain number is bytes")
    return int(float(match[1]) * _BYTES[unit])


def format_size(size: int) -> str:
    """The largest binary unit that divides `size`, which `parse_size` reads back exactly."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)


def parse_address(value: object) -> Address:
    """`host:port`; an IPv6 host in square brackets."""
    host, _, port = str(value).strip().rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    plain = host[1:-1] if bracketed else host
    if not plain or not port.isascii() or not port.isdigit() or bracketed != (":" in plain):
        raise ValueError("write host:port, like 127.0.0.1:8080 or [::1]:8080")
    if int(port) > 65535:
        raise ValueError("the port is at most 65535")
    return Address(plain, int(port))


def parse_url(value: object) -> str:
    """An http(s) base URL without a trailing slash, query or user name."""
    right = "write a base URL like http://127.0.0.1:11434, without user name, query or fragment"
    text = str(value).strip()
    try:
        parts = urlsplit(text)
        port_is_readable = parts.port is None or parts.port > 0
    except ValueError:
        raise ValueError(right) from None
    is_base = not (parts.query or parts.fragment or "@" in parts.netloc)
    if not (parts.scheme in ("http", "https") and parts.hostname and is_base and port_is_readable):
        raise ValueError(right)
    return text.rstrip("/")


def _plain_text(value: object) -> str:
    """A string or number as text; anything else (a TOML true, a list) as one no pattern takes."""
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value).strip()
    return "?"
