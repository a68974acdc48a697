"""How a conversation is worded for a vendor that has no words for a part of it."""

from collections.abc import Iterable, Mapping
from email.utils import parsedate_to_datetime
from time import time
from typing import cast

from foreman.llm.messages import Message, Part, Text, Thinking, ToolCall


def spoken(message: Message, vendor: str) -> str:
    r"""Its text, with the thoughts of other vendors' models between tags in front.

    >>> from foreman.llm import Thinking, assistant
    >>> spoken(assistant(Thinking("Hm.", "anthropic"), "Yes."), "openai")
    '<thinking>Hm.</thinking>\n\nYes.'
    """
    return "".join(words(part, vendor) for part in message.parts)


def words(part: Part, vendor: str) -> str:
    """What the part says aloud; "" for one that is no text, and for the vendor's own thoughts."""
    match part:
        case Text(text):
            return text
        case Thinking(text) if part.vendor != vendor and text:
            return f"<thinking>{text}</thinking>\n\n"
        case _:
            return ""


def thoughts_of(message: Message, vendor: str) -> list[str]:
    """What the vendor's own model thought before it said this."""
    return [
        part.text
        for part in message.parts
        if isinstance(part, Thinking) and part.vendor == vendor and part.text
    ]


def arguments(call: ToolCall) -> dict[str, object]:
    """The call's arguments, for a wire that takes an object and nothing else.

    A model that once wrote something else is shown its own words, or it could not correct itself.
    """
    try:
        return call.arguments
    except ValueError:
        return {"malformed": call.arguments_json}


def fields_of(value: object) -> dict[str, object]:
    """The members of what may be a JSON object; none where it is anything else."""
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def merged(
    body: Mapping[str, object], own: Mapping[str, object], nested: Iterable[str] = ()
) -> dict[str, object]:
    """The body with the program's own fields over it; those in `nested` are merged one deeper.

    >>> merged({"options": {"seed": 1}}, {"options": {"num_ctx": 2}}, ["options"])
    {'options': {'seed': 1, 'num_ctx': 2}}
    """
    result = {**body, **own}
    for name in nested:
        inner, over = body.get(name), own.get(name)
        if isinstance(inner, Mapping) and isinstance(over, Mapping):
            result[name] = {**inner, **over}
    return result


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a response asks for: in milliseconds, in seconds, or as a date.

    >>> retry_after({"retry-after": "3"})
    3.0
    """
    try:
        if (exact := headers.get("retry-after-ms")) is not None:
            return max(0.0, float(exact) / 1000)
        given = headers.get("retry-after", "")
        if given and not given[0].isalpha():
            return max(0.0, float(given))
        return max(0.0, parsedate_to_datetime(given).timestamp() - time())
    except ValueError:
        return None
