"""The /v1 request bodies as Ollama's own: what a Call is made of, and the dialect of its answer."""

from foreman.embedded.anthropic import Messages
from foreman.embedded.dialect import Dialect, Native
from foreman.embedded.engine import Json
from foreman.embedded.go import BadRequest, Fields, array
from foreman.embedded.inference import Call, read_call
from foreman.embedded.openai import ChatCompletions, Completions
from foreman.embedded.responses import Responses

Translated = tuple[Call, Dialect, bool]
"""What to run, how to write it, and whether it streams."""

_SAMPLING = ("seed", "frequency_penalty", "presence_penalty")
_EFFORTS = {"minimal": "low", "xhigh": "max", "ultra": "max", "": None, "none": False}


def chat(path: str, fields: Fields, created: int) -> Translated:
    """/api/chat. Raises BadRequest, like all of these."""
    call = read_call(path, fields, chat=True)
    return call, Native(chat=True), fields.flag("stream") is not False


def generate(path: str, fields: Fields, created: int) -> Translated:
    """/api/generate."""
    call = read_call(path, fields, chat=False)
    return call, Native(chat=False), fields.flag("stream") is not False


def chat_completions(path: str, fields: Fields, created: int) -> Translated:
    """/v1/chat/completions. `keep_alive` and the runner options are ignored, as by Ollama."""
    messages = fields.objects("messages", "openai.Message")
    if not messages:
        raise BadRequest("[] is too short - 'messages'")
    effort = fields.object("reasoning").get("effort") or fields.text("reasoning_effort")
    call = Call(
        path=path,
        model=fields.text("model"),
        chat=True,
        messages=tuple(_message(message) for message in messages),
        think=_think(effort),
        tools=fields.list("tools", "api.Tool"),
        format=_format(fields.object("response_format")),
        options=_options(fields, fields.whole("max_tokens")),
        logprobs=bool(fields.flag("logprobs")),
        top_logprobs=fields.whole("top_logprobs") or 0,
    )
    dialect = ChatCompletions(include_usage=_include_usage(fields))
    return call, dialect, bool(fields.flag("stream"))


def completions(path: str, fields: Fields, created: int) -> Translated:
    """/v1/completions."""
    call = Call(
        path=path,
        model=fields.text("model"),
        chat=False,
        prompt=fields.text("prompt"),
        suffix=fields.text("suffix"),
        options=_options(fields, fields.whole("max_tokens")),
        logprobs=bool(fields.whole("logprobs")),
        top_logprobs=fields.whole("logprobs") or 0,
    )
    dialect = Completions(include_usage=_include_usage(fields))
    return call, dialect, bool(fields.flag("stream"))


def responses(path: str, fields: Fields, created: int) -> Translated:
    """/v1/responses."""
    asked = fields.any("input")
    items: list[Json] = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
    messages = [_message(item) for item in items or () if item.get("type", "message") == "message"]
    if instructions := fields.text("instructions"):
        messages.insert(0, {"role": "system", "content": instructions})
    call = Call(
        path=path,
        model=fields.text("model"),
        chat=True,
        messages=tuple(messages),
        think=_think(fields.object("reasoning").get("effort") or ""),
        tools=fields.list("tools", "openai.ResponsesTool"),
        format=_format(fields.object("text").get("format") or {}),
        options=_options(fields, fields.whole("max_output_tokens")),
    )
    return call, Responses(dict(fields.values), created), bool(fields.flag("stream"))


def messages(path: str, fields: Fields, created: int) -> Translated:
    """/v1/messages."""
    name = fields.text("model")
    if not name:
        raise BadRequest("model is required")
    if (limit := fields.whole("max_tokens") or 0) <= 0:
        raise BadRequest("max_tokens is required and must be positive")
    said = fields.objects("messages", "anthropic.MessageParam")
    if not said:
        raise BadRequest("messages is required")
    system = fields.any("system")
    opening = ({"role": "system", "content": _text(system)},) if system else ()
    options: dict[str, Json] = {"num_predict": limit}
    options |= {name: fields.any(name) for name in ("temperature", "top_p", "top_k")}
    options["stop"] = fields.any("stop_sequences")
    call = Call(
        path=path,
        model=name,
        chat=True,
        messages=(*opening, *map(_message, said)),
        think=True if fields.object("thinking").get("type") in ("enabled", "adaptive") else None,
        relax_thinking=True,
        tools=fields.list("tools", "anthropic.Tool"),
        options=options,
    )
    words = sum(len(str(message["content"])) for message in call.messages)
    return call, Messages(name, words // 4), bool(fields.flag("stream"))


def _include_usage(fields: Fields) -> bool:
    return bool(fields.object("stream_options").get("include_usage"))


def _options(fields: Fields, limit: int | None) -> dict[str, Json]:
    stop = fields.any("stop")
    return {
        "temperature": 1.0 if fields.any("temperature") is None else fields.any("temperature"),
        "top_p": fields.any("top_p") or 1.0,
        "num_predict": limit,
        "stop": [stop] if isinstance(stop, str) else stop,
        **{name: fields.any(name) for name in _SAMPLING},
    }


def _format(asked: dict[str, Json]) -> Json:
    match asked.get("type"):
        case "json_object":
            return "json"
        case "json_schema":
            nested: dict[str, Json] = asked.get("json_schema") or {}
            return asked.get("schema") or nested.get("schema")
        case _:
            return None


def _think(effort: Json) -> bool | str | None:
    think = _EFFORTS.get(effort, effort) if isinstance(effort, str) else None
    if think in (None, False, "low", "medium", "high", "max"):
        return think
    raise BadRequest(f"invalid reasoning value: '{effort}'")


def _message(message: dict[str, Json]) -> dict[str, Json]:
    """One message with its parts joined to Ollama's: text in `content`, data URIs in `images`."""
    content = message.get("content")
    if content is None and not message.get("tool_calls"):
        raise BadRequest("invalid message content type: <nil>")
    made: dict[str, Json] = {"role": message.get("role", "user"), "content": _text(content)}
    if images := [_image(part) for part in _parts(content) if part.get("type") == "image_url"]:
        made["images"] = images
    return made


def _text(content: Json) -> str:
    if isinstance(content, str) or content is None:
        return content or ""
    said = [part.get("text", part.get("content")) for part in _parts(content)]
    return "\n".join(each for each in said if isinstance(each, str))


def _parts(content: Json) -> list[dict[str, Json]]:
    if isinstance(content, str) or content is None:
        return []
    parts = array(content)
    if parts is None or not all(isinstance(part, dict) for part in parts):
        raise BadRequest("invalid message format")
    return parts


def _image(part: dict[str, Json]) -> str:
    url = part.get("image_url")
    return _data(str(url if isinstance(url, str) else part["image_url"].get("url")))


def _data(url: str) -> str:
    if not url.startswith("data:"):
        raise BadRequest("invalid image input")
    return url.partition("base64,")[2]
