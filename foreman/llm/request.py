"""What is asked of a model."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import msgspec

from foreman.llm.messages import Message, Role, system, user

if TYPE_CHECKING:
    from foreman.llm.tools import Tool

ToolChoice = Literal["auto", "none", "required"]


class Options(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How to answer. None, or empty, leaves it to the target.

    Raises ValueError for values no target could use.
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    thinking: bool | None = None
    json: bool | Mapping[str, object] = False
    """True: some JSON object. A mapping: JSON that keeps to this JSON Schema."""
    vendor: Mapping[str, Mapping[str, object]] = msgspec.field(
        default_factory=dict[str, Mapping[str, object]]
    )
    """Fields for one vendor's wire, by its kind: `{"ollama": {"keep_alive": "1h"}}`.

    They are merged into that vendor's request body at its top level; other vendors never see them.
    """

    def __post_init__(self) -> None:
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError("max_tokens has to be above 0")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError("top_k has to be above 0")
        if self.temperature is not None and self.temperature < 0:
            raise ValueError("temperature has to be 0 or above")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError("top_p has to be above 0 and at most 1")
        if "" in self.stop:
            raise ValueError("a stop sequence has to have characters")


def _new_id() -> str:
    from ulid import ULID  # 80 ms that only those who ask something wait for

    return str(ULID())


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One question, good for any model: the model is the one who is asked, not a field.

    Raises ValueError without messages, or without one that is not the system's.
    """

    messages: tuple[Message, ...]
    tools: "tuple[Tool, ...]" = ()
    tool_choice: ToolChoice = "auto"
    options: Options = Options()
    metadata: Mapping[str, str] = msgspec.field(default_factory=dict[str, str])
    """The program's own words, for its log and its policies; no target sees them."""
    id: str = msgspec.field(default_factory=_new_id)
    """A ULID. Sent as Idempotency-Key with each attempt, and the key of the request log."""

    def __post_init__(self) -> None:
        if all(message.role is Role.SYSTEM for message in self.messages):
            raise ValueError("a request needs a message that is not the system's")

    @classmethod
    def of(
        cls,
        prompt: str | Message | Sequence[Message],
        *,
        instructions: str = "",
        tools: "Sequence[Tool]" = (),
        options: Options = Options(),  # noqa: B008 - frozen
    ) -> "Request":
        """From a sentence, one message or a conversation, with a system message in front.

        >>> request = Request.of("What is 6 x 7?", instructions="Be brief.")
        >>> [str(message.role) for message in request.messages]
        ['system', 'user']
        """
        if isinstance(prompt, str):
            prompt = user(prompt)
        said = (prompt,) if isinstance(prompt, Message) else tuple(prompt)
        told = (system(instructions),) if instructions else ()
        return cls(messages=(*told, *said), tools=tuple(tools), options=options)

    @property
    def system(self) -> str:
        """All that the system says, joined with empty lines: for a target with room for one."""
        return "\n\n".join(each.text for each in self.messages if each.role is Role.SYSTEM)

    @property
    def turns(self) -> tuple[Message, ...]:
        """The messages that are not the system's."""
        return tuple(each for each in self.messages if each.role is not Role.SYSTEM)
