"""What the documentation shows as data can be read as what it says it is."""

import configparser
import json
import tomllib
from collections.abc import Callable
from io import StringIO

import msgspec
from dotenv import dotenv_values


def _lines_of_json(text: str) -> None:
    for line in text.splitlines():
        json.loads(line)


def _ini(text: str) -> None:
    """systemd's units repeat keys and use % for themselves; files of settings have no sections."""
    parser = configparser.RawConfigParser(strict=False)
    parser.read_string(f"[{parser.default_section}]\n{text}")


def _dotenv(text: str) -> None:
    for key, value in dotenv_values(stream=StringIO(text)).items():
        if value is None:
            raise ValueError(f"{key} has no value")


READ: dict[str, Callable[[str], object]] = {
    "json": json.loads,
    "jsonl": _lines_of_json,
    "ndjson": _lines_of_json,
    "yaml": msgspec.yaml.decode,
    "yml": msgspec.yaml.decode,
    "toml": tomllib.loads,
    "ini": _ini,
    "dotenv": _dotenv,
}
"""Language -> what raises an error where the text is not of it."""
