"""The words in an answer, whichever route it came from: whole objects and pieces of a stream."""

import sys
from collections.abc import Iterable
from typing import Any

import msgspec
import typer

from foreman.cli.terminal import prose


def text_of(record: Any) -> str | None:
    """What the model says in it, `""` for a record without words, None for one of unknown shape."""
    match record:
        case (
            {"message": {"content": str(text)}}  # Ollama
            | {"response": str(text)}
            | {"choices": [{"message": {"content": str(text)}}, *_]}  # OpenAI
            | {"choices": [{"delta": {"content": str(text)}}, *_]}
            | {"choices": [{"text": str(text)}, *_]}
            | {"type": "response.output_text.delta", "delta": str(text)}
            | {"type": "content_block_delta", "delta": {"text": str(text)}}  # Anthropic
        ):
            return text
        case {"type": "message", "content": [*blocks]} | {"output": [*blocks]}:
            return _texts(blocks)
        case {"choices": _} | {"type": _} | {"done": _}:
            return ""  # the first and last records of streams
        case _:
            return None


def text_of_result(result: msgspec.Raw) -> str:
    """A result as people read it: its words, else the JSON."""
    said = [text_of(record) for record in _records(bytes(result))]
    words = "".join(text for text in said if text)
    return words if words and None not in said else msgspec.json.format(bytes(result)).decode()


def print_text(text: str, *, end: str = "\n") -> None:
    """To standard output, at once; tamed if that is a terminal."""
    tame = prose(text) if sys.stdout.isatty() else text
    typer.echo(tame + end, nl=False)
    sys.stdout.flush()


def print_records(records: Iterable[bytes]) -> None:
    """The words of a stream as they come, or the lines of one without any."""
    for line in records:
        print_text(words(line), end="")
    print_text("")


def words(record: bytes) -> str:
    """Those in one record of a stream; the line itself if it is of unknown shape."""
    text = text_of(msgspec.json.decode(record))
    return record.decode() + "\n" if text is None else text


def _records(result: bytes) -> list[Any]:
    if result.startswith(b"["):
        return msgspec.json.decode(result, type=list[Any])
    return [msgspec.json.decode(result)]


def _texts(blocks: list[Any]) -> str:
    """Anthropic's content, or OpenAI's output, whose items hold such content."""
    texts: list[str] = []
    for block in blocks:
        match block:
            case {"text": str(text)}:
                texts.append(text)
            case {"content": [*inner]}:
                texts.append(_texts(inner))
            case _:
                pass
    return "".join(texts)
