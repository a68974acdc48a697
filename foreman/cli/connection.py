"""How a command reaches the daemon: FOREMAN_URL and FOREMAN_TOKEN, over HTTP.

urllib, because httpx takes longer to import than the whole command does to run.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import ProxyHandler, Request, build_opener

import msgspec

from foreman.errors import ConfigError, ForemanError
from foreman.units import Address, parse_url

DEFAULT_URL = "http://127.0.0.1:8080"
PATIENCE = 10.0  # seconds for each step of a request

T = TypeVar("T")


class Unreachable(ForemanError):
    """There is no daemon where FOREMAN_URL points."""


class Refused(ForemanError):
    """The daemon answered, but not with what was asked for."""


@dataclass(frozen=True)
class Daemon:
    """Where it is, and the secret it wants to see."""

    url: str = DEFAULT_URL
    secret: str | None = field(default=None, repr=False)

    def get(self, path: str, parameters: Mapping[str, str] | None = None) -> bytes:
        """The body of a 2xx answer. Raises Unreachable and Refused."""
        query = f"?{urlencode(parameters)}" if parameters else ""
        request = Request(self.url + path + query)  # noqa: S310  an http(s) URL: parse_url saw to it
        if self.secret:  # not to be sent on to wherever a redirect leads
            request.add_unredirected_header("Authorization", f"Bearer {self.secret}")
        # A proxy from the environment is for the world outside, not for this machine.
        here = Address(urlsplit(self.url).hostname or "", 0).loopback
        opener = build_opener(ProxyHandler({})) if here else build_opener()
        try:
            with opener.open(request, timeout=PATIENCE) as answer:
                body: bytes = answer.read()
        except HTTPError as error:
            with error:
                raise Refused(_reason(error)) from None
        except (OSError, HTTPException, ValueError) as error:
            cause = error.reason if isinstance(error, URLError) else error
            raise Unreachable(
                f"no answer from {self.url}: {cause}. Is `foreman serve` running there? "
                "FOREMAN_URL says where to look"
            ) from None
        return body


def decode(body: bytes, kind: type[T]) -> T:
    """Raises Refused when the body is not what a daemon of this version sends."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Refused(f"the answer is not foreman's: {error}") from None


def read() -> Daemon:
    """From the environment, else from `.env` in the working directory, as the daemon reads them.

    FOREMAN_TOKEN is a secret, or the daemon's own list of `name:secret`, of which the first is
    sent. Raises ConfigError.
    """
    variables = _dotenv() | {key: value for key, value in os.environ.items() if value}
    try:
        url = parse_url(variables.get("FOREMAN_URL") or DEFAULT_URL)
    except ValueError as error:
        raise ConfigError(f"FOREMAN_URL: {error}") from None
    pair = variables.get("FOREMAN_TOKEN", "").split(",")[0].strip()
    secret = pair.partition(":")[2] or pair
    if not secret.isascii() or not secret.isprintable():
        raise ConfigError("FOREMAN_TOKEN: write a secret of plain ASCII characters")
    return Daemon(url, secret.strip() or None)


def _dotenv() -> dict[str, str]:
    if not Path(".env").is_file():
        return {}
    from dotenv import dotenv_values  # pydantic-settings reads the same file with it

    try:
        return {key: value for key, value in dotenv_values(".env").items() if value}
    except (OSError, ValueError) as error:
        raise ConfigError(f".env cannot be read: {error}") from None


def _reason(error: HTTPError) -> str:
    """The detail of a problem+json body, else the status alone."""
    try:
        problem: Any = msgspec.json.decode(error.read())
        detail = str(problem["detail"])
    except (OSError, HTTPException, ValueError, KeyError, TypeError):
        detail = f"{error.url} answered {error.code}; is that foreman?"
    hint = "; set FOREMAN_TOKEN" if error.code == 401 else ""
    return detail + hint
