"""What is asked of Anthropic's messages, with the markers of its prompt cache."""

from base64 import b64encode
from collections.abc import Iterator, Sequence

import msgspec

from foreman.llm.capabilities import CHARACTERS_PER_TOKEN, Capabilities
from foreman.llm.messages import Image, Message, Part, Role, Text, Thinking, ToolCall, ToolResult
from foreman.llm.providers import wording
from foreman.llm.request import Options, Request
from foreman.llm.tools import Tool

VENDOR = "anthropic"
MAX_TOKENS = 4096  # of an answer, where nobody says: the vendor wants to be told
THINKING_BUDGET = 4096  # tokens
SHORTEST_PREFIX = 1024  # tokens; the vendor keeps no prefix that is shorter
MARKER = {"cache_control": {"type": "ephemeral"}}
ONLY_JSON = "Answer with one JSON object and nothing else."

Json = dict[str, object]


def body(request: Request, options: Options, able: Capabilities, *, cached: bool) -> Json:
    """The body, but for model and stream. `cached`: the prefix that stays the same is marked."""
    tools = [_tool(tool) for tool in request.tools]
    system: list[Json] = [{"type": "text", "text": request.system}] if request.system else []
    if cached:
        _mark(tools, system)
    if options.json is True:
        system.append({"type": "text", "text": ONLY_JSON})  # behind the marker
    max_tokens = options.max_tokens or MAX_TOKENS
    named: Json = {
        "max_tokens": max_tokens,
        "system": system or None,
        "tools": tools or None,
        "messages": [turn for message in request.turns for turn in _turns(message)],
        "temperature": options.temperature,
        "top_p": options.top_p,
        "top_k": options.top_k,
        "stop_sequences": options.stop or None,
    }
    if tools:
        named["tool_choice"] = {"type": _CHOICES[request.tool_choice]}
    if not isinstance(options.json, bool):
        named["output_config"] = {"format": {"type": "json_schema", "schema": options.json}}
    if options.thinking is not None:
        named |= _thinking(options.thinking, max_tokens, able)
    asked = {name: value for name, value in named.items() if value is not None}
    return wording.merged(asked, options.vendor.get(VENDOR, {}))


_CHOICES = {"auto": "auto", "none": "none", "required": "any"}


def _thinking(wanted: bool, max_tokens: int, able: Capabilities) -> Json:
    """The budget comes out of the answer's tokens, so it is put on top of them."""
    if not wanted:
        return {"thinking": {"type": "disabled"}}
    both = max_tokens + THINKING_BUDGET
    return {
        "thinking": {"type": "enabled", "budget_tokens": THINKING_BUDGET},
        "max_tokens": min(both, able.max_output or both),
        "temperature": None,  # the vendor refuses both while a model thinks
        "top_k": None,
    }


def _mark(tools: Sequence[Json], system: Sequence[Json]) -> None:
    """Put a marker where the tools end and where the system's words do, if it pays."""
    length = 0
    for prefix in (tools, system):
        length += len(msgspec.json.encode(prefix))
        if prefix and length >= SHORTEST_PREFIX * CHARACTERS_PER_TOKEN:
            prefix[-1].update(MARKER)


def _tool(tool: Tool) -> Json:
    return {"name": tool.name, "description": tool.description, "input_schema": tool.parameters}


def _turns(message: Message) -> Iterator[Json]:
    """The message, unless nothing of it can be said: the vendor takes no empty one."""
    blocks = [block for part in message.parts for block in _blocks(part)]
    if message.role is Role.USER:  # what tools brought has to come first
        blocks.sort(key=lambda block: block["type"] != "tool_result")
    if blocks:
        yield {"role": str(message.role), "content": blocks}


def _blocks(part: Part) -> list[Json]:
    match part:
        case Thinking(vendor=vendor, seal=seal) if vendor == VENDOR and seal:
            return _unsealed(seal)
        case Text() | Thinking():
            said = wording.words(part, VENDOR)
            return [{"type": "text", "text": said}] if said.strip() else []
        case Image():
            data = b64encode(part.data).decode()
            source = {"type": "base64", "media_type": part.media_type, "data": data}
            return [{"type": "image", "source": source}]
        case ToolCall():
            call: Json = {"type": "tool_use", "id": part.id, "name": part.name}
            return [call | {"input": wording.arguments(part)}]
        case ToolResult():
            result: Json = {"type": "tool_result", "tool_use_id": part.call_id}
            return [result | {"content": part.text, "is_error": part.failed}]


def _unsealed(seal: str) -> list[Json]:
    """The blocks of thoughts as they came: the vendor refuses them with a letter changed."""
    blocks: list[Json] = msgspec.json.decode(seal)
    return blocks
