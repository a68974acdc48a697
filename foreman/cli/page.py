"""docs/reference/cli.md, made from the declarations: `python -m foreman.cli.page` prints it.

It is committed, and a test compares it with what this module would print.
"""

import sys
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, Literal, get_args, get_origin

import typer.main

from foreman.cli.app import app
from foreman.cli.exits import MEANINGS

MADE = "Made by `python -m foreman.cli.page`; edit foreman/cli/*_commands.py instead."

INTRODUCTION = """\
Every command talks to the daemon at `FOREMAN_URL` (http://127.0.0.1:8080 unless set), from this
machine or another, and shows it the secret in `FOREMAN_TOKEN`; both may stand in `.env`. Some do
not: `foreman serve` runs the daemon, `foreman demo` shows it at work on this machine, and
`foreman llm` asks [many providers](llm.md) itself.

Results go to standard output, messages to standard error. `--json` prints the daemon's own JSON.
Where many things are printed one after the other, that is one object a line. What waits or follows
(`wait`, `watch`, `output`, `submit`) survives a lost connection and a restart of the daemon.

`foreman --install-completion` teaches your shell to complete commands, job ids and models.\
"""


def text() -> str:
    """The page."""
    lines = ["# Commands", "", f"<!-- {MADE} -->", "", INTRODUCTION, ""]
    lines += ["## Exit status", "", "| status | meaning |", "| --- | --- |"]
    lines += [f"| {status:d} | {meaning} |" for status, meaning in MEANINGS.items()]
    for name, command in _commands("foreman", typer.main.get_command(app)):
        lines += ["", *_section(name, command)]
    return "\n".join(lines) + "\n"


def _commands(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Every command that does something, with its full name; `serve` and `demo` are the actors'."""
    inner: dict[str, Any] = getattr(command, "commands", {})
    for each, subcommand in inner.items():
        if each not in ("serve", "demo"):
            yield from _commands(f"{name} {each}", subcommand)
    if not inner:
        yield name, command


def _section(name: str, command: Any) -> Iterator[str]:
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each not in arguments]
    yield f"## `{' '.join((name, *map(_usage, arguments)))}`"
    yield ""
    yield command.help
    yield ""
    yield "| | |"
    yield "| --- | --- |"
    for argument in arguments:
        if argument.help:
            yield f"| `{argument.metavar or argument.name.upper()}` | {argument.help} |"
    for option in options:
        yield f"| `{_spelling(option)}` | {option.help}{_default(option)} |"


def _usage(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    return name if argument.required or name.startswith("[") else f"[{name}]"


def _spelling(option: Any) -> str:
    name: str = option.opts[0]
    return name if option.is_flag else f"{name} {option.metavar or _values(option)}"


def _values(option: Any) -> str:
    """What may be written: one of a few words, or a kind of value."""
    kind = option.type_descriptor.annotation
    if get_origin(kind) is Literal:
        return ", ".join(get_args(kind))
    if issubclass(kind, StrEnum):
        return ", ".join(kind)
    return "NUMBER" if kind is int else "TEXT"


def _default(option: Any) -> str:
    if option.is_flag or option.default in (None, (), []):
        return ""
    return f" Default: {option.default}."


if __name__ == "__main__":
    sys.stdout.write(text())
