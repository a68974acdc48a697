"""What is asked of /api/chat, Ollama's native route; a foreman's jobs carry the same body."""

from base64 import b64encode
from collections.abc import Iterator

from foreman.llm.errors import (
    Unsupported,
)
from foreman.llm.messages import Message, Role, ToolResult
from foreman.llm.providers import wording
from foreman.llm.request import Options, Request
from foreman.llm.tools import Tool

VENDOR = "ollama"

_NESTED = ("options",)  # a program's num_ctx leaves the request's temperature alone


def body(
    model: str,
    request: Request,
    options: Options,
    *,
    target: str,
    vendors: tuple[str, ...] = (VENDOR,),
) -> dict[str, object]:
    """The body of /api/chat, without `stream`. `vendors`: whose fields of the options count.

    Raises Unsupported for a tool that has to be called: Ollama cannot be told so.
    """
    if request.tools and request.tool_choice == "required":
        raise Unsupported("Ollama cannot be told that a tool has to be called", target=target)
    asked: dict[str, object] = {
        "model": model,
        "messages": [turn for message in request.messages for turn in _turns(message)],
        "options": _parameters(options),
    }
    if request.tools and request.tool_choice == "auto":
        asked["tools"] = [_tool(tool) for tool in request.tools]
    if options.thinking is not None:
        asked["think"] = options.thinking
    if options.json is not False:
        asked["format"] = "json" if options.json is True else options.json
    for vendor in vendors:
        asked = wording.merged(asked, options.vendor.get(vendor, {}), _NESTED)
    return asked


def _parameters(options: Options) -> dict[str, object]:
    named = {
        "num_predict": options.max_tokens,
        "temperature": options.temperature,
        "top_p": options.top_p,
        "top_k": options.top_k,
        "seed": options.seed,
        "stop": options.stop or None,
    }
    return {name: value for name, value in named.items() if value is not None}


def _tool(tool: Tool) -> dict[str, object]:
    about = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": about}


def _turns(message: Message) -> Iterator[dict[str, object]]:
    """The message; in front of it, as a message each, what its tools brought."""
    rest = len(message.parts)
    for part in message.parts:
        if isinstance(part, ToolResult):
            rest -= 1
            yield {
                "role": "tool",
                "content": part.text,
                "tool_name": part.name,
                "tool_call_id": part.call_id,
            }
    if rest:
        yield _turn(message)


def _turn(message: Message) -> dict[str, object]:
    turn: dict[str, object] = {
        "role": str(message.role),
        "content": wording.spoken(message, VENDOR),
    }
    if message.images:
        turn["images"] = [b64encode(image.data).decode() for image in message.images]
    if message.role is Role.ASSISTANT:
        turn |= _own_words(message)
    return turn


def _own_words(message: Message) -> dict[str, object]:
    thoughts = "".join(wording.thoughts_of(message, VENDOR))
    own: dict[str, object] = {"thinking": thoughts} if thoughts else {}
    if message.tool_calls:
        own["tool_calls"] = [
            {"id": call.id, "function": {"name": call.name, "arguments": wording.arguments(call)}}
            for call in message.tool_calls
        ]
    return own
