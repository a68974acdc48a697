"""What is asked of OpenAI's chat completions."""

from collections.abc import Iterator, Mapping

from foreman.llm.media import data_uri
from foreman.llm.messages import Image, Message, Role, ToolResult
from foreman.llm.providers import wording
from foreman.llm.request import Options, Request

VENDOR = "openai"

Json = dict[str, object]


def body(request: Request, options: Options, *, limit_name: str) -> Json:
    """The body, but for model and stream. `limit_name`: what the server calls `max_tokens`."""
    named: Json = {
        "messages": [turn for message in request.messages for turn in _turns(message)],
        limit_name: options.max_tokens,
        "temperature": options.temperature,
        "top_p": options.top_p,
        "top_k": options.top_k,
        "seed": options.seed,
        "stop": _stop(options.stop),
        "reasoning_effort": _effort(options.thinking),
        "response_format": _format(options.json),
    }
    if request.tools:
        named["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": tool.parameters,
                },
            }
            for tool in request.tools
        ]
        named["tool_choice"] = request.tool_choice
    asked = {name: value for name, value in named.items() if value is not None}
    return wording.merged(asked, options.vendor.get(VENDOR, {}))


def _stop(sequences: tuple[str, ...]) -> object:
    return (sequences[0] if len(sequences) == 1 else sequences) or None


def _effort(thinking: bool | None) -> str | None:
    """For no it is "low": the least that every model that reasons takes."""
    return None if thinking is None else ("medium" if thinking else "low")


def _format(json: bool | Mapping[str, object]) -> Json | None:
    if isinstance(json, bool):
        return {"type": "json_object"} if json else None
    schema = {"name": "answer", "schema": json, "strict": True}
    return {"type": "json_schema", "json_schema": schema}


def _turns(message: Message) -> Iterator[Json]:
    """The message; in front of it, as a message each, what its tools brought."""
    results = [part for part in message.parts if isinstance(part, ToolResult)]
    for result in results:
        yield {"role": "tool", "tool_call_id": result.call_id, "content": result.text}
    if message.role is Role.ASSISTANT:
        yield _said(message)
    elif len(results) < len(message.parts):
        content = _content(message) if message.images else message.text
        yield {"role": str(message.role), "content": content}


def _content(message: Message) -> list[Json]:
    parts: list[Json] = []
    for part in message.parts:
        if isinstance(part, Image):
            parts.append({"type": "image_url", "image_url": {"url": data_uri(part)}})
        elif text := wording.words(part, VENDOR):
            parts.append({"type": "text", "text": text})
    return parts


def _said(message: Message) -> Json:
    turn: Json = {"role": "assistant", "content": wording.spoken(message, VENDOR) or None}
    if message.tool_calls:
        turn["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments_json},
            }
            for call in message.tool_calls
        ]
    return turn
