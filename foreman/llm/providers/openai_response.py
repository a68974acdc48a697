"""What the answers of OpenAI's chat completions mean, and its refusals, and its list of models."""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from foreman.llm.assembly import Assembly
from foreman.llm.errors import CallError, ContextTooLong, InvalidResponse, from_status
from foreman.llm.providers import wording
from foreman.llm.providers.openai_request import VENDOR
from foreman.llm.response import Event, FinishReason
from foreman.llm.usage import Usage

DONE = b"[DONE]"


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Said(msgspec.Struct):
    """A message, or what is new of one. Servers differ in what they call the thoughts."""

    content: str | None = None
    refusal: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    delta: _Said | None = None
    message: _Said | None = None
    finish_reason: str | None = None


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None
    total_cost: float | None = None
    cost: float | None = None


class Chunk(msgspec.Struct):
    """One chunk of a stream, or all of an answer that was not streamed."""

    id: str = ""
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    system_fingerprint: str | None = None
    error: Any = None


_FINISHES = {
    "length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
}


class Reader:
    """Makes events of the chunks of one call. Raises CallError.

    The usage comes after the reason to stop, in a chunk without choices; `[DONE]` ends it all.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self._answer = Assembly(target, vendor=VENDOR)
        self._id = ""
        self._finish: FinishReason | None = None
        self._called = 0
        self._cost: float | None = None

    def read(self, frame: bytes) -> Iterable[Event]:
        """The events in one frame of a stream."""
        return self._end() if frame == DONE else self._take(self._decode(frame))

    def whole(self, content: bytes) -> Iterable[Event]:
        """Those of an answer that was not streamed."""
        yield from self._take(self._decode(content))
        yield from self._end()

    def _decode(self, content: bytes) -> Chunk:
        try:
            return msgspec.json.decode(content, type=Chunk)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidResponse(f"not OpenAI's: {error}", target=self._target) from error

    def _take(self, chunk: Chunk) -> Iterator[Event]:
        if chunk.error is not None:
            raise failure(chunk.error, target=self._target)
        self._id = self._id or chunk.id
        if chunk.usage is not None:
            self._account(chunk.usage)
        for choice in chunk.choices or ():
            if choice.index == 0 and self._finish is None:
                yield from self._choice(choice)

    def _choice(self, choice: _Choice) -> Iterator[Event]:
        said = choice.delta or choice.message
        if said is not None:
            yield from self._said(said)
        if choice.finish_reason:
            yield from self._answer.complete_calls()
            self._finish = _FINISHES.get(choice.finish_reason, FinishReason.STOP)

    def _said(self, said: _Said) -> Iterator[Event]:
        if thoughts := said.reasoning or said.reasoning_content:
            yield self._answer.think(thoughts)
        if text := said.content or said.refusal:
            yield self._answer.say(text)
        for place, call in enumerate(said.tool_calls or ()):
            self._called += 1
            function = call.function or _Function()
            self._answer.fragment(
                place if call.index is None else call.index,
                call_id=call.id or "",
                name=function.name or "",
                arguments=function.arguments or "",
            )

    def _account(self, usage: _Usage) -> None:
        """Without the details nothing was cached: `prompt_tokens` is what is paid for."""
        details = usage.prompt_tokens_details
        self._cost = usage.total_cost if usage.total_cost is not None else usage.cost
        self._answer.report(
            Usage.including_cache(
                prompt=usage.prompt_tokens,
                cache_read=(details.cached_tokens if details else None) or 0,
                output=usage.completion_tokens,
            )
        )

    def _end(self) -> Iterator[Event]:
        if self._finish is None:
            raise InvalidResponse("the answer does not say why it ended", target=self._target)
        finish = self._finish
        if self._called and finish is FinishReason.STOP:
            finish = FinishReason.TOOL_CALLS
        yield self._answer.finish(finish, response_id=self._id, reported_cost=self._cost)


class _Entry(msgspec.Struct):
    id: str


class _Page(msgspec.Struct):
    data: list[_Entry] | None  # Ollama's is null when there are none


def listed(content: bytes, *, target: str) -> list[str]:
    """The names in a list of models. Raises InvalidResponse."""
    try:
        found = msgspec.json.decode(content, type=_Page).data
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidResponse(f"not OpenAI's: {error}", target=target) from error
    return [entry.id for entry in found or ()]


# ---------------------------------------------------------------- what goes wrong

_STATUS = {
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "invalid_api_key": 401,
    "model_not_found": 404,
    "invalid_request_error": 400,
    "rate_limit_error": 429,
    "authentication_error": 401,
    "not_found_error": 404,
}


def failure(error: object, *, target: str) -> CallError:
    """What an error inside a stream means: it has a type, and no status of its own."""
    fields = wording.fields_of(error)
    named = (str(fields.get("code")), str(fields.get("type")))
    status = next((_STATUS[name] for name in named if name in _STATUS), 500)
    return refusal(status, error, target=target)


def refusal(
    status: int, error: object, *, target: str, retry_after: float | None = None
) -> CallError:
    """What a status means, with the `error` member of its body, or with what came instead."""
    fields = wording.fields_of(error)
    text = str(fields.get("message") or error or "")
    if fields.get("code") == "context_length_exceeded" or "maximum context length" in text:
        return ContextTooLong(text, target=target, status=status)
    return from_status(status, text, target=target, retry_after=retry_after)
