"""What comes back, whole or event by event."""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from foreman.llm.attempts import Attempt, Skip
from foreman.llm.messages import Message, Thinking, ToolCall
from foreman.llm.usage import Usage


class FinishReason(StrEnum):
    """Why the model stopped. What a vendor calls otherwise and is not listed counts as STOP."""

    STOP = "stop"
    LENGTH = "length"
    STOP_SEQUENCE = "stop_sequence"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"
    ERROR = "error"


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """A complete answer. `target` is who gave it, as `provider/model`, also out of a chain."""

    message: Message
    finish: FinishReason
    target: str
    usage: Usage = Usage()
    reported_cost: float | None = None
    """What the vendor says it costs, in the vendor's unit."""
    id: str = ""
    """The vendor's id of this answer."""
    details: Mapping[str, object] = msgspec.field(default_factory=dict[str, object])
    """What the vendor told beside, for people to read: nothing is decided by it."""
    history: tuple[Attempt | Skip, ...] = ()
    """What failed and what was passed over before; a chain fills it in."""

    @property
    def text(self) -> str:
        return self.message.text

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        return self.message.tool_calls

    @property
    def thinking(self) -> str:
        return "".join(part.text for part in self.message.parts if isinstance(part, Thinking))


class Place(msgspec.Struct, frozen=True):
    """Where a call stands in a foreman's queue. 0 is next; `starts_in` is an estimate, seconds."""

    position: int
    starts_in: float | None = None


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a streamed answer.

    `delta` is what is new of the answer's text and `text` is all of it so far; `thinking` is what
    is new of the thoughts. A tool call comes when it is complete. The last event, and no other,
    has the `response`. A `place` comes only before all that.
    """

    delta: str = ""
    text: str = ""
    thinking: str = ""
    tool_call: ToolCall | None = None
    place: Place | None = None
    response: Response | None = None

    @property
    def begins(self) -> bool:
        """It is part of the answer: once it is passed on, no other target can take over."""
        return self.place is None
