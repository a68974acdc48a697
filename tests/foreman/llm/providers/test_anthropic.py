from typing import Any

import msgspec
import pytest

from foreman.llm import (
    CallError,
    Capabilities,
    ContextTooLong,
    Event,
    FinishReason,
    Options,
    RateLimited,
    Request,
    ServerError,
    Usage,
    assistant,
    read_image,
    tool,
    user,
)
from foreman.llm.dsn import DSN, Secret
from foreman.llm.errors import SpecError
from foreman.llm.messages import Thinking, ToolCall, ToolResult, system
from foreman.llm.providers import anthropic_request, anthropic_response
from foreman.llm.providers.anthropic import AnthropicProvider, from_dsn
from foreman.llm.providers.script import Say
from foreman.llm.request import ToolChoice
from tests.fakes.vendors import Anthropic, Seen, Vendor, serving

GIF = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAACAkQBADs="
LONG = "word " * 1000  # more than 1024 tokens
MARKED = {"type": "ephemeral"}


def weather(city: str) -> str:
    """The weather in a city."""
    return city


async def asked(vendor: Vendor, request: Request, **how: Any) -> Seen:
    """What the SDK sends for this request."""
    vendor.script(Say("Hello"))
    provider = AnthropicProvider("box", url=vendor.url, token=Secret("key"), **how)
    await provider.model("m").complete(request)
    await provider.aclose()
    return vendor.seen[-1]


async def test_a_request_bears_the_headers_and_the_system_at_the_top() -> None:
    async with serving(Anthropic()) as vendor:
        seen = await asked(vendor, Request.of("Hi", instructions="Be brief."))

    assert seen.path == "/v1/messages"
    assert seen.headers["x-api-key"] == "key"
    assert seen.headers["anthropic-version"] == "2023-06-01"
    assert "authorization" not in seen.headers
    assert seen.body == {
        "model": "m",
        "stream": True,
        "max_tokens": 4096,
        "system": [{"type": "text", "text": "Be brief."}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
    }


async def test_what_is_meant_for_anthropic_is_sent_to_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "mine")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "mine")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "X-Gateway: mine")

    async with serving(Anthropic()) as vendor:
        seen = await asked(vendor, Request.of("Hi"))

    assert "mine" not in str(seen.headers)


async def test_the_later_version_gets_no_sampling() -> None:
    options = Options(temperature=0.5, top_p=0.5, top_k=5)
    async with serving(Anthropic()) as vendor:
        seen = await asked(vendor, Request.of("Hi", options=options), version="2026-10-21")
        before = await asked(vendor, Request.of("Hi", options=options))

    assert seen.headers["anthropic-version"] == "2026-10-21"
    assert not {"temperature", "top_p", "top_k"} & seen.body.keys()
    assert (before.body["temperature"], before.body["top_k"]) == (0.5, 5)


async def test_a_long_prefix_is_marked_for_the_cache_and_stays_the_same() -> None:
    async with serving(Anthropic()) as vendor:
        first = await asked(vendor, Request.of("One", instructions=LONG, tools=[tool(weather)]))
        second = await asked(vendor, Request.of("Two", instructions=LONG, tools=[tool(weather)]))

    assert first.body["system"][-1]["cache_control"] == MARKED
    prefixes = [msgspec.json.encode([s.body["tools"], s.body["system"]]) for s in (first, second)]
    assert prefixes[0] == prefixes[1]


async def test_the_cache_can_be_left_alone() -> None:
    async with serving(Anthropic()) as vendor:
        seen = await asked(vendor, Request.of("Hi", instructions=LONG), cache=False)

    assert "cache_control" not in str(seen.body)


def body_of(request: Request, *, cached: bool = True, able: Capabilities | None = None) -> Any:
    able = able or Capabilities()
    return anthropic_request.body(request, request.options, able, cached=cached)


def test_a_short_prefix_is_not_marked() -> None:
    body = body_of(Request.of("Hi", instructions="Be brief.", tools=[tool(weather)]))

    assert "cache_control" not in str(body)


def test_tools_that_are_long_by_themselves_have_a_marker_of_their_own() -> None:
    many = [tool(weather, name=f"weather_{number}") for number in range(40)]

    body = body_of(Request.of("Hi", instructions="Be brief.", tools=many))

    assert [("cache_control" in each) for each in body["tools"]] == [False] * 39 + [True]
    assert body["system"][0]["cache_control"] == MARKED


def test_what_is_added_for_json_stands_behind_the_marker() -> None:
    body = body_of(Request.of("Hi", instructions=LONG, options=Options(json=True)))

    assert [("cache_control" in block) for block in body["system"]] == [True, False]


def test_a_conversation_is_worded_as_anthropic_wants_it() -> None:
    thought = Thinking("Hm.", "anthropic", '[{"type":"thinking","thinking":"Hm.","signature":"s"}]')
    request = Request.of(
        (
            system("A"),
            system("B"),
            user("What is this?", read_image(GIF)),
            assistant(thought, Thinking("Ha.", "else", "x"), "Look.", ToolCall("c1", "weather")),
            user("So?", ToolResult("c1", "weather", "no", failed=True)),
        )
    )

    body = body_of(request)

    assert body["system"] == [{"type": "text", "text": "A\n\nB"}]
    shown, said, result = body["messages"]
    assert shown["content"][1]["source"]["data"] == GIF.partition(",")[2]
    assert [block["type"] for block in said["content"]] == ["thinking", "text", "text", "tool_use"]
    assert said["content"][0] == {"type": "thinking", "thinking": "Hm.", "signature": "s"}
    assert said["content"][1]["text"] == "<thinking>Ha.</thinking>\n\n"
    assert said["content"][3]["input"] == {}
    assert result["content"] == [
        {"type": "tool_result", "tool_use_id": "c1", "content": "no", "is_error": True},
        {"type": "text", "text": "So?"},
    ]


@pytest.mark.parametrize(
    ("choice", "sent"), [("auto", "auto"), ("none", "none"), ("required", "any")]
)
def test_a_tool_choice_has_another_name(choice: ToolChoice, sent: str) -> None:
    request = Request(messages=(user("Hi"),), tools=(tool(weather),), tool_choice=choice)

    assert body_of(request)["tool_choice"] == {"type": sent}


def test_thinking_has_a_budget_on_top_and_no_temperature() -> None:
    options = Options(thinking=True, temperature=0.5, max_tokens=100)

    body = body_of(Request.of("Hi", options=options))

    assert body["thinking"]["budget_tokens"] < body["max_tokens"]
    assert body["max_tokens"] == 100 + body["thinking"]["budget_tokens"]
    assert "temperature" not in body


def read(*frames: dict[str, object]) -> list[Event]:
    reader = anthropic_response.Reader("box/m")
    return [event for frame in frames for event in reader.read(msgspec.json.encode(frame))]


def start(**usage: int) -> dict[str, object]:
    return {"type": "message_start", "message": {"id": "msg", "usage": usage}}


def delta(reason: str | None = "end_turn", **usage: int) -> dict[str, object]:
    more: dict[str, object] = {"usage": usage} if usage else {}
    return {"type": "message_delta", "delta": {"stop_reason": reason}, **more}


STOP: dict[str, object] = {"type": "message_stop"}


def test_usage_is_cumulative_and_its_parts_are_apart() -> None:
    first = start(
        input_tokens=200, cache_read_input_tokens=1000, cache_creation_input_tokens=200,
        output_tokens=1,
    )  # fmt: skip

    [last] = read(first, delta(output_tokens=30), STOP)

    assert last.response is not None
    assert last.response.usage == Usage(input=200, cache_read=1000, cache_write=200, output=30)


def test_a_delta_without_usage_is_no_harm() -> None:
    [last] = read(start(input_tokens=100, output_tokens=50), delta(), STOP)

    assert last.response is not None
    assert last.response.usage.total == 150


@pytest.mark.parametrize(
    ("told", "means"),
    [
        ("end_turn", FinishReason.STOP),
        ("max_tokens", FinishReason.LENGTH),
        ("stop_sequence", FinishReason.STOP_SEQUENCE),
        ("tool_use", FinishReason.TOOL_CALLS),
        ("refusal", FinishReason.CONTENT_FILTER),
        ("whatever", FinishReason.STOP),
    ],
)
def test_a_reason_to_stop_has_its_meaning(told: str, means: FinishReason) -> None:
    [last] = read(start(), delta(told), STOP)

    assert last.response is not None
    assert last.response.finish is means


def test_thoughts_can_be_handed_back_as_they_came() -> None:
    blocks: list[dict[str, object]] = [
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "redacted_thinking", "data": "xyz"},
    ]
    opened = [
        {"type": "content_block_start", "index": n, "content_block": block}
        for n, block in enumerate(blocks)
    ]
    pieces: list[dict[str, object]] = [
        {"type": "thinking_delta", "thinking": "Hm"},
        {"type": "thinking_delta", "thinking": "."},
        {"type": "signature_delta", "signature": "signed"},
    ]
    deltas = [{"type": "content_block_delta", "index": 0, "delta": piece} for piece in pieces]

    events = read(start(), opened[0], *deltas, opened[1], delta(), STOP)
    response = events[-1].response
    assert response is not None
    body = body_of(Request.of((user("A"), response.message, user("B"))))

    assert [event.thinking for event in events] == ["Hm", ".", ""]
    assert body["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "Hm.", "signature": "signed"},
        {"type": "redacted_thinking", "data": "xyz"},
    ]


def test_events_that_nobody_knows_yet_are_passed_over() -> None:
    [last] = read({"type": "new_thing"}, start(), {"type": "ping"}, delta(), STOP)

    assert last.response is not None


@pytest.mark.parametrize(
    ("kind_told", "kind"),
    [
        ("overloaded_error", ServerError),
        ("api_error", ServerError),
        ("rate_limit_error", RateLimited),
    ],
)
def test_an_error_inside_a_stream_has_its_kind_and_its_words(
    kind_told: str, kind: type[CallError]
) -> None:
    error = {"type": kind_told, "message": "in its own words"}

    with pytest.raises(kind, match="in its own words"):
        read(start(), {"type": "error", "error": error})


def test_a_prompt_that_is_too_long_is_no_invalid_request() -> None:
    error = {"error": {"message": "prompt is too long: 9 tokens > 8"}}

    assert type(anthropic_response.refusal(400, error, target="t")) is ContextTooLong


def test_a_dsn_says_what_is_wrong_with_it() -> None:
    with pytest.raises(SpecError, match="key"):
        from_dsn(DSN.parse("cloud", "anthropic://"))
    with pytest.raises(SpecError, match="on or off"):
        from_dsn(DSN.parse("cloud", "anthropic://sk-ant-x@?cache=maybe"))
    with pytest.raises(SpecError, match="chache"):
        from_dsn(DSN.parse("cloud", "anthropic://sk-ant-x@?chache=off"))
    assert from_dsn(DSN.parse("cloud", "anthropic://sk-ant-x@?cache=off")).cache is False


async def test_the_list_of_models_is_read_page_by_page_and_tells_what_they_can() -> None:
    async with serving(Anthropic()) as vendor:
        provider = AnthropicProvider("box", url=vendor.url, token=Secret("key"))
        listed = await provider.models()
        able = provider.model("m").capabilities
        await provider.aclose()

    assert listed is not None
    assert [each.name for each in listed] == ["m", "other"]
    assert (able.context, able.max_output, able.prompt_cache) == (1000, 10, True)
