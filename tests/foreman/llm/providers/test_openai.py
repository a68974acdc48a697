from typing import Any

import pytest

from foreman.llm import (
    CallError,
    ContextTooLong,
    Event,
    FinishReason,
    InvalidRequest,
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
from foreman.llm.providers import openai_request, openai_response
from foreman.llm.providers.openai import HOME, OpenAIProvider, from_dsn
from foreman.llm.providers.script import Say
from foreman.llm.request import ToolChoice
from tests.fakes.vendors import OpenAI, Seen, Vendor, serving

GIF = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAACAkQBADs="


def weather(city: str) -> str:
    """The weather in a city."""
    return city


async def asked(vendor: Vendor, request: Request, *, streamed: bool = True) -> Seen:
    """What the SDK sends for this request."""
    vendor.script(Say("Hello"))
    provider = OpenAIProvider("box", url=f"{vendor.url}/v1", token=Secret("key"))
    if streamed:
        async with provider.model("m").stream(request) as events:
            assert [event async for event in events]
    else:
        await provider.model("m").complete(request)
    await provider.aclose()
    return vendor.seen[-1]


@pytest.mark.parametrize(
    ("own", "sent"),
    [
        ({}, {"include_usage": True}),
        ({"stream_options": {"include_usage": False}}, {"include_usage": False}),
    ],
)
async def test_a_stream_asks_for_its_usage_unless_told_otherwise(
    own: dict[str, object], sent: dict[str, object]
) -> None:
    async with serving(OpenAI()) as vendor:
        seen = await asked(vendor, Request.of("Hi", options=Options(vendor={"openai": own})))

    assert seen.body["stream"] is True
    assert seen.body["stream_options"] == sent


async def test_a_whole_answer_needs_no_stream_options() -> None:
    async with serving(OpenAI()) as vendor:
        seen = await asked(vendor, Request.of("Hi"), streamed=False)

    assert seen.body == {
        "model": "m",
        "stream": False,
        "messages": [{"role": "user", "content": "Hi"}],
    }
    assert seen.headers["authorization"] == "Bearer key"
    assert seen.path == "/v1/chat/completions"


async def test_what_is_meant_for_openai_is_sent_to_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-mine")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "sk-mine")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-mine")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-mine")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Gateway: mine\nAuthorization: mine")

    async with serving(OpenAI()) as vendor:
        seen = await asked(vendor, Request.of("Hi"))

    assert "mine" not in str(seen.headers)
    assert seen.headers["authorization"] == "Bearer key"


def test_a_conversation_is_worded_as_openai_wants_it() -> None:
    call = ToolCall("c1", "weather", '{"city": ')
    request = Request.of(
        (
            system("A"),
            system("B"),
            user("What is ", read_image(GIF), "this?"),
            assistant(Thinking("own", "openai"), Thinking("Ha.", "else", "seal"), call),
            user(ToolResult("c1", "weather", "Rain."), "So?"),
        ),
        tools=[tool(weather)],
    )

    body: Any = openai_request.body(request, request.options, limit_name="max_tokens")

    assert body["messages"] == [
        {"role": "system", "content": "A"},
        {"role": "system", "content": "B"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is "},
                {"type": "image_url", "image_url": {"url": GIF}},
                {"type": "text", "text": "this?"},
            ],
        },
        {
            "role": "assistant",
            "content": "<thinking>Ha.</thinking>\n\n",
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"city": '},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "Rain."},
        {"role": "user", "content": "So?"},
    ]
    assert body["tools"][0]["function"]["name"] == "weather"


def test_an_assistant_that_only_calls_has_no_content() -> None:
    request = Request.of((user("Hi"), assistant(ToolCall("c1", "weather"))))

    body: Any = openai_request.body(request, request.options, limit_name="max_tokens")

    assert body["messages"][1]["content"] is None


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        (Options(max_tokens=5), {"limit": 5}),
        (Options(stop=("x",)), {"stop": "x"}),
        (Options(stop=("x", "y")), {"stop": ("x", "y")}),
        (Options(temperature=0.0, seed=0), {"temperature": 0.0, "seed": 0}),
        (Options(thinking=True), {"reasoning_effort": "medium"}),
        (Options(json=True), {"response_format": {"type": "json_object"}}),
        (Options(vendor={"openai": {"user": "u"}, "ollama": {"x": 1}}), {"user": "u"}),
    ],
)
def test_only_options_that_are_set_are_sent(options: Options, sent: dict[str, object]) -> None:
    request = Request.of("Hi", options=options)

    body = openai_request.body(request, options, limit_name="limit")

    assert body == {"messages": [{"role": "user", "content": "Hi"}], **sent}


@pytest.mark.parametrize("choice", ["auto", "none", "required"])
def test_a_tool_choice_is_sent_as_it_is(choice: ToolChoice) -> None:
    request = Request(messages=(user("Hi"),), tools=(tool(weather),), tool_choice=choice)

    assert openai_request.body(request, request.options, limit_name="n")["tool_choice"] == choice


def read(*frames: bytes) -> list[Event]:
    reader = openai_response.Reader("box/m")
    return [event for frame in frames for event in reader.read(frame)]


def chunk(finish: str) -> bytes:
    return b'{"id":"c","choices":[{"delta":{},"finish_reason":"%s"}]}' % finish.encode()


@pytest.mark.parametrize(
    ("told", "means"),
    [
        ("stop", FinishReason.STOP),
        ("length", FinishReason.LENGTH),
        ("tool_calls", FinishReason.TOOL_CALLS),
        ("content_filter", FinishReason.CONTENT_FILTER),
        ("whatever", FinishReason.STOP),
    ],
)
def test_a_reason_to_finish_has_its_meaning(told: str, means: FinishReason) -> None:
    [last] = read(chunk(told), b"[DONE]")

    assert last.response is not None
    assert last.response.finish is means
    assert last.response.id == "c"


@pytest.mark.parametrize(
    ("usage", "means"),
    [
        (b'{"prompt_tokens":10,"completion_tokens":15}', Usage.uncached(input=10, output=15)),
        (
            b'{"prompt_tokens":600,"prompt_tokens_details":{"cached_tokens":500}}',
            Usage(input=100, cache_read=500, cache_write=0, output=None),
        ),
        (b'{"prompt_tokens":10}', Usage.uncached(input=10, output=None)),
        (b"null", Usage()),
    ],
)
def test_the_cached_part_of_a_prompt_is_taken_out_of_it(usage: bytes, means: Usage) -> None:
    [last] = read(chunk("stop"), b'{"choices":[],"usage":%s}' % usage, b"[DONE]")

    assert last.response is not None
    assert last.response.usage == means


def test_what_comes_after_the_reason_to_finish_is_not_part_of_the_answer() -> None:
    late = b'{"choices":[{"delta":{"content":"late"}}]}'

    events = read(chunk("stop"), late, b"[DONE]")

    assert [event.delta for event in events] == [""]


def test_a_cost_that_the_server_reports_is_kept() -> None:
    [last] = read(chunk("stop"), b'{"choices":[],"usage":{"total_cost":0.25}}', b"[DONE]")

    assert last.response is not None
    assert last.response.reported_cost == 0.25


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (b'{"message":"m","type":"server_error"}', ServerError),
        (b'{"message":"m","type":"x","code":"rate_limit_exceeded"}', RateLimited),
        (b'{"message":"m","code":"context_length_exceeded"}', ContextTooLong),
        (b'"only words"', ServerError),
    ],
)
def test_an_error_inside_a_stream_has_its_kind(error: bytes, kind: type[CallError]) -> None:
    with pytest.raises(kind):
        read(b'{"error":%s}' % error)


def test_a_window_that_is_too_small_is_no_invalid_request() -> None:
    error = {"message": "too long", "code": "context_length_exceeded"}

    assert type(openai_response.refusal(400, error, target="t")) is ContextTooLong
    assert type(openai_response.refusal(400, {"message": "no"}, target="t")) is InvalidRequest


def test_openai_itself_needs_a_key_and_others_do_not() -> None:
    with pytest.raises(SpecError, match="key"):
        from_dsn(DSN.parse("cloud", "openai://"))
    with pytest.raises(SpecError, match="nothing"):
        from_dsn(DSN.parse("cloud", "openai://sk-secret@?nothing=1"))
    assert from_dsn(DSN.parse("box", "openai+http://h:8000/v1")).is_home is False
    home = from_dsn(DSN.parse("cloud", "openai://sk-secret@"))
    assert home.is_home
    assert (repr(home)).count("secret") == 0


@pytest.mark.parametrize(
    ("model", "context", "temperature"),
    [
        ("gpt-4o-mini", 128000, True),
        ("gpt-4", 8192, True),
        ("gpt-3.5-turbo", 16385, True),
        ("gpt-5.1", None, False),
        ("o3", None, False),
    ],
)
def test_what_is_known_of_openais_models(
    model: str, context: int | None, temperature: bool
) -> None:
    able = OpenAIProvider(url=HOME, token=Secret("k")).model(model).capabilities

    assert (able.context, able.temperature) == (context, temperature)
