"""Puts an answer together from what a stream brings; each provider has one per call."""

from collections.abc import Mapping

from foreman.llm.messages import Message, Part, Role, Text, Thinking, ToolCall
from foreman.llm.response import Event, FinishReason, Response
from foreman.llm.usage import Usage


class _Fragments:
    """A tool call on its way."""

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []


class Assembly:
    """Takes deltas, gives events, ends in the response.

    >>> answer = Assembly("box/llama")
    >>> [answer.say(word).text for word in ("The", " answer", " is 42")]
    ['The', 'The answer', 'The answer is 42']
    >>> answer.finish(FinishReason.STOP).response.text
    'The answer is 42'
    """

    def __init__(self, target: str, *, vendor: str = "") -> None:
        self._target = target
        self._vendor = vendor
        self._text = ""
        self._thinking: list[str] = []
        self._seal = ""
        self._fragments: dict[int, _Fragments] = {}
        self._calls: list[ToolCall] = []
        self.usage = Usage()
        """All that is known so far; streams that report cumulative figures call `report`."""

    def say(self, delta: str) -> Event:
        """More of the answer's text."""
        self._text += delta
        return Event(delta=delta, text=self._text)

    def think(self, delta: str) -> Event:
        """More of the thoughts."""
        self._thinking.append(delta)
        return Event(thinking=delta, text=self._text)

    def seal(self, seal: str) -> None:
        """The vendor's proof that the thoughts are its own."""
        self._seal += seal

    def call(self, call: ToolCall) -> Event:
        """A tool call that came in one piece."""
        self._calls.append(call)
        return Event(tool_call=call, text=self._text)

    def fragment(
        self, index: int, *, call_id: str = "", name: str = "", arguments: str = ""
    ) -> None:
        """A piece of tool call number `index`; `complete_calls` makes events of them."""
        pieces = self._fragments.setdefault(index, _Fragments())
        pieces.id = call_id or pieces.id
        pieces.name = name or pieces.name
        pieces.arguments.append(arguments)

    def complete_calls(self) -> list[Event]:
        """One event for each call that came in pieces, by index; there is nothing left of them."""
        done = [self._fragments[index] for index in sorted(self._fragments)]
        self._fragments.clear()
        return [
            self.call(ToolCall(each.id, each.name, "".join(each.arguments) or "{}"))
            for each in done
        ]

    def report(self, usage: Usage) -> None:
        """What the target has just said about its usage; what it knows replaces, nothing adds."""
        self.usage = self.usage.updated(usage)

    def finish(
        self,
        finish: FinishReason,
        *,
        response_id: str = "",
        reported_cost: float | None = None,
        details: Mapping[str, object] | None = None,
    ) -> Event:
        """The last event. Call `complete_calls` before it."""
        response = Response(
            message=Message(Role.ASSISTANT, self._parts()),
            finish=finish,
            target=self._target,
            usage=self.usage,
            reported_cost=reported_cost,
            id=response_id,
            details=details or {},
        )
        return Event(text=self._text, response=response)

    def _parts(self) -> tuple[Part, ...]:
        thoughts = "".join(self._thinking)
        parts: list[Part] = []
        if thoughts or self._seal:
            parts.append(Thinking(thoughts, self._vendor, self._seal))
        if self._text:
            parts.append(Text(self._text))
        return (*parts, *self._calls)
