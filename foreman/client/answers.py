"""Ollama's answers, typed: what chat, generate and embed return, whole or piece by piece."""

from collections.abc import Mapping
from typing import Any, TypeVar, cast

import msgspec

from foreman.client.errors import Damaged, Refused

T = TypeVar("T")


class Function(msgspec.Struct, frozen=True):
    """What a model wants called."""

    name: str
    arguments: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])


class ToolCall(msgspec.Struct, frozen=True, omit_defaults=True):
    """One call that a model asks for."""

    function: Function
    id: str | None = None


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """One message of a chat; an answer's can be sent back as it is."""

    role: str
    content: str | None = None
    thinking: str | None = None
    images: tuple[str, ...] | None = None
    tool_calls: tuple[ToolCall, ...] | None = None
    tool_name: str | None = None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What every answer has. Durations are in nanoseconds; the counts come with the last piece."""

    model: str = ""
    created_at: str = ""
    done: bool = True
    done_reason: str | None = None
    total_duration: int | None = None
    load_duration: int | None = None
    prompt_eval_count: int | None = None
    prompt_eval_duration: int | None = None
    eval_count: int | None = None
    eval_duration: int | None = None
    logprobs: list[dict[str, Any]] | None = None


class ChatResponse(Answer, frozen=True, kw_only=True):
    """An answer of /api/chat, or one piece of it."""

    message: Message


class GenerateResponse(Answer, frozen=True, kw_only=True):
    """An answer of /api/generate, or one piece of it."""

    response: str
    thinking: str | None = None
    context: list[int] | None = None


class EmbedResponse(Answer, frozen=True, kw_only=True):
    """An answer of /api/embed: one vector for each input."""

    embeddings: list[list[float]]


KINDS: Mapping[str, type[Any]] = {
    "/api/chat": ChatResponse,
    "/api/generate": GenerateResponse,
    "/api/embed": EmbedResponse,
}
"""What an endpoint's answers are; those of any other stay plain JSON values."""


def read(body: bytes, kind: type[T]) -> T:
    """The answer in these bytes. Raises Refused for an error in a 200, and Damaged."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        _raise_error_in(body)
        raise Damaged(f"the answer is not what was asked for: {problem}") from None


def convert(document: Any, endpoint: str, kind: type[T] | None) -> Any:
    """A job's result as a `kind`, else as its endpoint's answers are. Raises Damaged."""
    wanted = kind or KINDS.get(endpoint)
    try:
        return msgspec.convert(document, wanted) if wanted else document
    except msgspec.ValidationError as problem:
        raise Damaged(f"the result is not what was asked for: {problem}") from None


class _Error(msgspec.Struct):
    error: Any
    status_code: int = 500


def _raise_error_in(body: bytes) -> None:
    """Ollama tells of a failure after its 200 with `{"error": ...}`."""
    try:
        found = msgspec.json.decode(body, type=_Error)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    raise Refused(found.status_code, text_of(found.error))


def text_of(error: Any) -> str:
    """The text of an `error` member: Ollama's string, or the object of the /v1 routes."""
    if isinstance(error, dict):
        return str(cast(dict[str, Any], error).get("message") or cast(object, error))
    return str(error)
