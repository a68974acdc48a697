"""The types of the settings: what each accepts, and how it is shown again.

A validator raises ValueError whose text says what would be right; `foreman.config` adds the key.
"""

import os
import sys
from dataclasses import dataclass
from datetime import time
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, cast

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, SecretStr

from foreman import names
from foreman.units import (
    Address,
    format_duration,
    format_size,
    parse_address,
    parse_duration,
    parse_size,
    parse_url,
)


@dataclass(frozen=True, slots=True)
class ClientToken:
    """One client's bearer token; `name` is what logs may show."""

    name: str
    secret: SecretStr

    def __str__(self) -> str:
        return f"{self.name}:{self.secret}"


class Secret:
    """Marks a setting whose value never appears in an error."""


def _comma_list(value: object) -> tuple[str, ...]:
    """A list from TOML as it is; anything else as text to be split."""
    listed = isinstance(value, list | tuple)
    parts = cast("list[object]", value) if listed else str(value).split(",")
    return tuple(text for each in parts if (text := str(each).strip()))


def _client_tokens(value: object) -> tuple[ClientToken, ...]:
    pairs = [pair.partition(":") for pair in _comma_list(value)]
    tokens = tuple(ClientToken(name.strip(), SecretStr(rest.strip())) for name, _, rest in pairs)
    if not all(token.name and token.secret.get_secret_value() for token in tokens):
        raise ValueError("write name:secret, several separated by commas")
    if len({token.name for token in tokens}) < len(tokens):
        raise ValueError("each client needs a name of its own")
    if len({token.secret.get_secret_value() for token in tokens}) < len(tokens):
        raise ValueError("each client needs a secret of its own: it tells who asks")
    return tokens


def parse_path(value: object) -> Path:
    if not isinstance(value, str | Path) or "\0" in str(value):
        raise ValueError("write a path")
    try:
        return Path(value).expanduser().absolute()
    except RuntimeError:
        raise ValueError("write a path; there is no such user's home") from None


def _model_name(value: str) -> str:
    names.parse(value)  # InvalidName is a ValueError
    return value


def _webhook_secrets(value: object) -> tuple[SecretStr, ...]:
    secrets = _comma_list(value)
    if secrets:  # the default is validated too
        from foreman.signing import parse_secret  # with a library that only signing needs

        for secret in secrets:
            parse_secret(secret)
    return tuple(SecretStr(secret) for secret in secrets)


def _allow_list(value: object) -> tuple[str, ...]:
    entries = _comma_list(value)
    if entries:
        from foreman.allow_list import parse_allow  # with the tables of international names

        for entry in entries:
            parse_allow(entry)
    return entries


def _collector(value: object) -> str:
    url = parse_url(value)
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.proto") is None:
        raise ValueError("traces need an extra: pip install 'foreman-ollama[otel]'")
    return url


def _time_of_day(value: object) -> time | None:
    """`03:30`, or `off`."""
    if isinstance(value, time) or value is None:
        return value
    text = str(value).strip().lower()
    if text == "off":
        return None
    hour, _, minute = text.partition(":")
    try:
        return time(int(hour), int(minute))
    except ValueError:
        raise ValueError("write a time like 03:30, or off") from None


def default_data_dir() -> Path:
    """XDG's state directory; on macOS the user's Application Support."""
    if sys.platform == "darwin":
        return parse_path("~/Library/Application Support/foreman")
    return parse_path(os.environ.get("XDG_STATE_HOME") or "~/.local/state") / "foreman"


TimeOfDay = Annotated[
    time | None,
    BeforeValidator(_time_of_day),
    PlainSerializer(lambda at: f"{at:%H:%M}" if at else "off"),
]
Duration = Annotated[float, BeforeValidator(parse_duration), PlainSerializer(format_duration)]
Timeout = Annotated[Duration, Field(gt=0)]
Size = Annotated[int, BeforeValidator(parse_size), PlainSerializer(format_size), Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
ModelName = Annotated[str, AfterValidator(_model_name)]
Url = Annotated[str, BeforeValidator(parse_url)]
Collector = Annotated[str, BeforeValidator(_collector)]
Share = Annotated[float, Field(ge=0, le=1)]
DataDir = Annotated[Path, BeforeValidator(parse_path)]
Listen = Annotated[Address, BeforeValidator(parse_address), PlainSerializer(str)]
Tokens = Annotated[
    tuple[ClientToken, ...],
    Secret(),
    BeforeValidator(_client_tokens),
    PlainSerializer(lambda tokens: ",".join(map(str, tokens))),
]
WebhookSecrets = Annotated[
    tuple[SecretStr, ...],
    Secret(),
    BeforeValidator(_webhook_secrets),
    PlainSerializer(lambda secrets: ",".join(map(str, secrets))),
]
AllowList = Annotated[tuple[str, ...], BeforeValidator(_allow_list), PlainSerializer(",".join)]
CommaList = Annotated[tuple[str, ...], BeforeValidator(_comma_list), PlainSerializer(",".join)]
LowerCase = BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value)
