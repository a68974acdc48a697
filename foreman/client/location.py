"""Where the daemon is and what it wants to see: FOREMAN_URL and FOREMAN_TOKEN."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from foreman.errors import ConfigError
from foreman.units import Address, parse_url

DEFAULT_URL = "http://127.0.0.1:8080"


@dataclass(frozen=True, slots=True)
class Location:
    """A daemon's base URL, and the secret to send to it."""

    url: str = DEFAULT_URL
    secret: str | None = field(default=None, repr=False)

    @property
    def is_here(self) -> bool:
        """Whether it is this machine. A proxy from the environment is for the world outside."""
        return Address(urlsplit(self.url).hostname or "", 0).loopback


def locate(url: str | None = None, token: str | None = None) -> Location:
    """What is given, else the environment, else `.env` in the working directory.

    A token is a secret, or the daemon's own list of `name:secret`, of which the first is sent.
    Raises ConfigError.
    """
    variables = _dotenv() | {key: value for key, value in os.environ.items() if value}
    try:
        base = parse_url(url or variables.get("FOREMAN_URL") or DEFAULT_URL)
    except ValueError as error:
        raise ConfigError(f"FOREMAN_URL: {error}") from None
    tokens = variables.get("FOREMAN_TOKEN", "") if token is None else token
    return Location(base, _secret(tokens))


def _secret(tokens: str) -> str | None:
    pair = tokens.split(",", maxsplit=1)[0].strip()
    secret = (pair.partition(":")[2] or pair).strip()
    if not secret.isascii() or not secret.isprintable():
        raise ConfigError("FOREMAN_TOKEN: write a secret of plain ASCII characters")
    return secret or None


def _dotenv() -> dict[str, str]:
    if not Path(".env").is_file():
        return {}
    from dotenv import dotenv_values  # pydantic-settings reads the same file with it

    try:
        return {key: value for key, value in dotenv_values(".env").items() if value}
    except (OSError, ValueError) as error:
        raise ConfigError(f".env cannot be read: {error}") from None
