"""`foreman chat`: a call that waits its turn and streams, once or line after line."""

import sys
from collections.abc import Iterator
from typing import Any

import msgspec
import typer

from foreman.cli.answers import print_text
from foreman.cli.connection import Daemon, Refused, decode
from foreman.cli.exits import Ended, Exit
from foreman.cli.place import Place
from foreman.cli.terminal import prose, say
from foreman.errors import ForemanError

PATIENCE = 3600.0  # seconds of silence: how long a target may think is the daemon's to decide

Message = dict[str, Any]


class _Said(msgspec.Struct, frozen=True):
    role: str = "assistant"
    content: str = ""
    thinking: str = ""


class _Record(msgspec.Struct, frozen=True):
    """One line of the stream of /api/chat."""

    message: _Said = _Said()
    done: bool = False
    error: str = ""


def once(daemon: Daemon, model: str, prompt: str, *, as_json: bool) -> None:
    """Print the answer as it comes. Raises Ended (JOB_FAILED), Unreachable and Refused."""
    messages = [{"role": "user", "content": prompt}]
    if as_json:
        for line in _lines(daemon, model, messages):
            typer.echo(line)
    else:
        _answer(daemon, model, messages)


def converse(daemon: Daemon, model: str) -> None:
    """A conversation, a line at a time, until end of file. Ctrl-C stops an answer, not us."""
    import readline  # gives input() its editing and its history

    readline.set_auto_history(True)
    messages: list[Message] = []
    say(f"{model}; Ctrl-D ends")
    while True:
        try:
            prompt = input(">>> ")
        except EOFError:
            say("")
            return
        if prompt.strip():
            _turn(daemon, model, messages, prompt)


def _turn(daemon: Daemon, model: str, messages: list[Message], prompt: str) -> None:
    """Ask, with all that was said before; what failed or was stopped is not remembered."""
    asked = {"role": "user", "content": prompt}
    try:
        said = _answer(daemon, model, [*messages, asked])
    except KeyboardInterrupt:
        say("\n(stopped)")
    except ForemanError as error:
        say(f"foreman: {error}")
    else:
        messages += [asked, {"role": "assistant", "content": said}]


def _answer(daemon: Daemon, model: str, messages: list[Message]) -> str:
    """Print it while it comes, thoughts dimly beside it; return what was said."""
    said: list[str] = []
    thinking = False
    for line in _lines(daemon, model, messages):
        message = decode(line, _Record).message
        if message.thinking and sys.stderr.isatty():
            thinking = True
            sys.stderr.write(f"\x1b[2m{prose(message.thinking)}\x1b[0m")
            sys.stderr.flush()
        if message.content:
            if thinking:
                say("\n")
                thinking = False
            said.append(message.content)
            print_text(message.content, end="")
    print_text("")
    return "".join(said)


def _lines(daemon: Daemon, model: str, messages: list[Message]) -> Iterator[bytes]:
    """The stream's lines.

    Raises Ended (JOB_FAILED) for an error inside it, Refused when it breaks off before its end.
    """
    body = msgspec.json.encode({"model": model, "messages": messages, "stream": True})
    done = False
    with (
        Place(daemon, model) as place,
        daemon.open("POST", "/api/chat", body=body, patience=PATIENCE) as answer,
    ):
        place.job = answer.headers.get("X-Foreman-Job")
        for line in answer.lines():
            place.found()
            record = decode(line, _Record)
            if record.error:
                raise Ended(Exit.JOB_FAILED, record.error)
            done = done or record.done
            yield line
    if not done:
        raise Refused("the answer broke off before its end")
