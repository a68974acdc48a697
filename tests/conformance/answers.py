"""Reading answers, and holding foreman's to what the target says when it is asked directly."""

import json
from typing import Any

import httpx

from tests.fakes.daemon import Daemon

# What differs between two runs of the same call: times, and ids drawn at random.
TIMES = {"total_duration", "load_duration", "prompt_eval_duration", "eval_duration"}
MOMENTS = {"created_at", "created", "completed_at", "expires_at"}
VOLATILE = TIMES | MOMENTS | {"id", "item_id", "request_id"}
# Of the connection or of foreman itself, not of the answer.
CONNECTION = {"date", "connection", "keep-alive", "transfer-encoding"}
UNCOMPARED = CONNECTION | {"x-foreman-job", "x-foreman-position"}


async def assert_same(foreman: Daemon, method: str, path: str, **request: Any) -> httpx.Response:
    """Ask foreman and the target the same; the answers are equal. Returns foreman's."""
    direct = await foreman.direct.request(method, path, **request)
    answer = await foreman.client.request(method, path, **request)
    assert (answer.status_code, settled(answer)) == (direct.status_code, settled(direct))
    assert end_to_end(answer) == end_to_end(direct)
    return answer


def end_to_end(answer: httpx.Response) -> dict[str, str]:
    """The headers that are the answer's own; lengths differ with the figures in a body."""
    left_out = UNCOMPARED | ({"content-length"} if answer.content else set())
    return {name: value for name, value in answer.headers.items() if name not in left_out}


def settled(answer: httpx.Response) -> Any:
    """The body without what no two runs share, in the form its Content-Type says."""
    kind = answer.headers.get("content-type", "")
    if not answer.content:
        return b""
    if kind.startswith("application/x-ndjson"):
        return [_settle(line) for line in ndjson(answer)]
    if kind.startswith("text/event-stream"):
        return [(name, _settle(data)) for name, data in events(answer)]
    if kind.startswith("application/json"):
        return _settle(answer.json())
    return answer.content


def ndjson(answer: httpx.Response) -> list[Any]:
    """The objects of an NDJSON body, which has no blank line and ends with its last one."""
    *lines, rest = answer.content.split(b"\n")
    assert rest == b""
    assert all(line.strip() for line in lines), "a blank line kills most clients"
    return [json.loads(line) for line in lines]


def events(answer: httpx.Response) -> list[tuple[str, Any]]:
    """The name and data of each server-sent event but comments; `[DONE]` is kept as it is."""
    found: list[tuple[str, Any]] = []
    *frames, rest = answer.text.split("\n\n")
    assert rest == ""
    for frame in frames:
        if frame.startswith(":"):
            continue
        fields = dict(line.split(": ", 1) for line in frame.split("\n"))
        data = fields["data"]
        found.append((fields.get("event", ""), data if data == "[DONE]" else json.loads(data)))
    return found


def text_of(objects: list[Any]) -> str:
    """What a streamed chat said."""
    return "".join(each["message"]["content"] for each in objects)


def chat(model: str = "small", content: str = "hello there", **fields: Any) -> dict[str, Any]:
    """The body of a chat."""
    return {"model": model, "messages": [{"role": "user", "content": content}], **fields}


def _settle(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _settle(item) for key, item in value.items() if key not in VOLATILE}
    return [_settle(item) for item in value] if isinstance(value, list) else value
