"""What is said: messages, each a role and a tuple of parts.

    Role.SYSTEM     Text
    Role.USER       Text, Image, ToolResult
    Role.ASSISTANT  Text, Thinking, ToolCall

Several system messages are allowed; a provider with room for one joins them with an empty line.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import cast

import msgspec


class Role(StrEnum):
    """Who says it."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


class Text(msgspec.Struct, frozen=True, tag="text"):
    """Words."""

    text: str


class Image(msgspec.Struct, frozen=True, tag="image"):
    """A picture's bytes, as `foreman.llm.media` made sure of them. Size in pixels."""

    media_type: str
    data: bytes
    width: int
    height: int

    def __repr__(self) -> str:
        size = f"{self.width}x{self.height}"
        return f"Image({self.media_type}, {size}, {len(self.data)} bytes)"


class Thinking(msgspec.Struct, frozen=True, tag="thinking"):
    """What a model thought before it spoke.

    `seal` is opaque and good for `vendor` alone, which gets both back as they were. Any other
    provider sends the words as text between <thinking> tags.
    """

    text: str
    vendor: str = ""
    seal: str = ""


class ToolCall(msgspec.Struct, frozen=True, tag="tool_call"):
    """A model asks for a tool. `arguments_json` is its own wording, which may be no JSON at all."""

    id: str
    name: str
    arguments_json: str = "{}"

    @classmethod
    def of(cls, id: str, name: str, arguments: Mapping[str, object]) -> "ToolCall":  # noqa: A002
        return cls(id, name, msgspec.json.encode(arguments).decode())

    @property
    def arguments(self) -> dict[str, object]:
        """The arguments by name. Raises ValueError when the model wrote anything but an object.

        >>> ToolCall("1", "weather", '{"city": "Oslo"}').arguments
        {'city': 'Oslo'}
        """
        try:
            decoded: object = msgspec.json.decode(self.arguments_json or "{}")
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise ValueError(f"the arguments are no JSON: {error}") from error
        if not isinstance(decoded, dict):
            kind = type(decoded).__name__
            raise ValueError(f"the arguments are no object but {kind}")  # noqa: TRY004 - data
        return cast("dict[str, object]", decoded)


class ToolResult(msgspec.Struct, frozen=True, tag="tool_result"):
    """What came of a tool call. `failed`: the text says what went wrong."""

    call_id: str
    name: str
    text: str
    failed: bool = False


Part = Text | Image | Thinking | ToolCall | ToolResult

_ALLOWED: dict[Role, tuple[type[Part], ...]] = {
    Role.SYSTEM: (Text,),
    Role.USER: (Text, Image, ToolResult),
    Role.ASSISTANT: (Text, Thinking, ToolCall),
}


class Message(msgspec.Struct, frozen=True):
    """One turn. Raises ValueError for a part that this role cannot say."""

    role: Role
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        for part in self.parts:
            if not isinstance(part, _ALLOWED[self.role]):
                kind = type(part).__name__
                raise ValueError(f"{kind} cannot be the {self.role}'s")  # noqa: TRY004 - data

    @property
    def text(self) -> str:
        """Its text parts, joined without anything between; "" when it has none."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        return tuple(part for part in self.parts if isinstance(part, ToolCall))

    @property
    def images(self) -> tuple[Image, ...]:
        return tuple(part for part in self.parts if isinstance(part, Image))


def _message(role: Role, parts: tuple[Part | str, ...]) -> Message:
    return Message(role, tuple(Text(part) if isinstance(part, str) else part for part in parts))


def system(*parts: Text | str) -> Message:
    """What the model is told to be."""
    return _message(Role.SYSTEM, parts)


def user(*parts: Text | Image | ToolResult | str) -> Message:
    """What the model is asked, shown, or handed as the result of its tool calls.

    >>> user("What is in ", "this?").text
    'What is in this?'
    """
    return _message(Role.USER, parts)


def assistant(*parts: Text | Thinking | ToolCall | str) -> Message:
    """What the model said."""
    return _message(Role.ASSISTANT, parts)
