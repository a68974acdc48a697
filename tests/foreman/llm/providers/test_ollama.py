"""The ollama provider against the embedded target: its wire was not written for it."""

from collections.abc import Generator
from typing import Any, Literal

import pytest

from foreman.embedded.script import Cut, ErrorLine, Status
from foreman.embedded.script import ToolCall as Called
from foreman.llm import (
    Blocking,
    Event,
    FinishReason,
    InvalidRequest,
    ModelNotFound,
    Options,
    Request,
    ServerError,
    StreamBroken,
    Unreachable,
    Unsupported,
    assistant,
    read_image,
    tool,
    user,
)
from foreman.llm.dsn import DSN
from foreman.llm.errors import SpecError
from foreman.llm.messages import Thinking, ToolCall, ToolResult, system
from foreman.llm.model import whole
from foreman.llm.providers import ollama_request, ollama_response
from foreman.llm.providers.ollama import OllamaProvider, from_dsn
from foreman.llm.request import ToolChoice
from tests.foreman.llm.providers.homes import Home, embedded

GIF = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAACAkQBADs="


def weather(city: str) -> str:
    """The weather in a city."""
    return city


@pytest.fixture(scope="module")
def home() -> Generator[Home]:
    with embedded() as home:
        yield home


async def test_an_answer_is_the_same_whole_and_streamed(home: Home) -> None:
    name = home.play(text="The answer is 42", thinking="Hm. So")
    provider = OllamaProvider("box", url=home.url)
    model = provider.model(name)

    response = await model.complete(Request.of("Why?", instructions="Be brief."))
    streamed = await whole(model.stream(Request.of("Why?", instructions="Be brief.")))

    assert response.text == streamed.text == "The answer is 42"
    assert response.thinking == streamed.thinking == "Hm. So"
    assert response.usage == streamed.usage
    assert response.usage.total is not None
    assert {"total_s", "load_s"} >= set(response.details)
    await provider.aclose()


async def test_tools_go_there_and_back(home: Home) -> None:
    name = home.play(tool_calls=(Called("weather", {"city": "Oslo"}),))
    provider = OllamaProvider("box", url=home.url)
    asked = Request.of("Weather?", tools=[tool(weather)])

    response = await provider.model(name).complete(asked)
    [call] = response.tool_calls
    result = user(ToolResult(call.id, call.name, "Rain."))
    name = home.play(echo=True)
    after = await provider.model(name).complete(
        Request.of((*asked.messages, response.message, result))
    )

    assert (call.name, call.arguments) == ("weather", {"city": "Oslo"})
    assert response.finish is FinishReason.TOOL_CALLS
    assert after.text == "Rain."
    await provider.aclose()


async def test_options_reach_the_runner(home: Home) -> None:
    name = home.play(tokens=10)
    provider = OllamaProvider("box", url=home.url)

    response = await provider.model(name).complete(Request.of("Hi", options=Options(max_tokens=3)))

    assert response.finish is FinishReason.LENGTH
    assert response.usage.output == 3
    await provider.aclose()


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        (Cut(after_tokens=2), StreamBroken, 2),
        (Cut(), Unreachable, 0),
        (ErrorLine(after_tokens=2), ServerError, 2),
        (Status(status=503), ServerError, 0),
    ],
)
async def test_faults_of_a_real_wire_are_told_apart(
    home: Home, fault: Any, kind: type[Exception], words: int
) -> None:
    name = home.play(fault)
    provider = OllamaProvider("box", url=home.url)
    heard: list[Event] = []

    with pytest.raises(kind):
        async with provider.model(name).stream(Request.of("Hi")) as events:
            async for event in events:
                heard.append(event)

    assert len(heard) == words
    await provider.aclose()


async def test_what_the_server_has_tells_what_its_models_can(home: Home) -> None:
    name = home.play(context_length=4096)
    provider = OllamaProvider("box", url=home.url)

    [listed] = await provider.models() or ()

    able = provider.model(f"{name}:latest").capabilities
    assert (listed.name, listed.capabilities) == (f"{name}:latest", able)
    assert (able.context, able.tools, able.images is not None) == (4096, True, True)
    await provider.aclose()


async def test_its_refusals_are_those_of_the_table(home: Home) -> None:
    home.play()
    provider = OllamaProvider("box", url=home.url)

    with pytest.raises(ModelNotFound, match="not found"):
        await provider.model("zzz").complete(Request.of("Hi"))
    with pytest.raises(InvalidRequest, match="does not support chat"):
        await provider.model("e").complete(Request.of("Hi"))
    await provider.aclose()


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_a_program_without_a_loop_can_use_it(
    home: Home, backend: Literal["trio", "asyncio"]
) -> None:
    name = home.play(text="Hello there")
    provider = OllamaProvider("box", url=home.url)

    with Blocking(provider.model(name), aclose=provider.aclose, backend=backend) as model:
        response = model.complete(Request.of("Hi"))
        with model.stream(Request.of("Hi")) as events:
            first = next(events)
        with model.stream(Request.of("Hi")) as events:
            deltas = [event.delta for event in events]

    assert response.text == "".join(deltas) == "Hello there"
    assert first.delta == "Hello"


def body_of(request: Request) -> dict[str, Any]:
    return ollama_request.body("m", request, request.options, target="box/m")


def test_a_request_is_worded_as_ollama_wants_it() -> None:
    call = ToolCall("c1", "weather", '{"city": "Oslo"}')
    request = Request.of(
        (
            system("A"),
            system("B"),
            user("What is ", read_image(GIF), "this?"),
            assistant(Thinking("Hm.", "ollama"), Thinking("Ha.", "else"), "Look: ", call),
            user(ToolResult("c1", "weather", "Rain."), "So?"),
        ),
        tools=[tool(weather)],
        options=Options(
            max_tokens=5,
            temperature=0.5,
            stop=("x",),
            seed=7,
            thinking=False,
            json={"type": "object"},
            vendor={"ollama": {"keep_alive": "1h", "options": {"num_ctx": 99}}, "openai": {"a": 1}},
        ),
    )

    body = body_of(request)

    first, second, shown, said, result, after = body["messages"]
    assert (first["content"], second["content"]) == ("A", "B")
    assert shown["content"] == "What is this?"
    assert shown["images"] == [GIF.partition(",")[2]]
    assert said["thinking"] == "Hm."
    assert said["content"] == "<thinking>Ha.</thinking>\n\nLook: "
    assert said["tool_calls"][0]["function"] == {"name": "weather", "arguments": {"city": "Oslo"}}
    assert result == {
        "role": "tool",
        "content": "Rain.",
        "tool_name": "weather",
        "tool_call_id": "c1",
    }
    assert after == {"role": "user", "content": "So?"}
    assert body["options"] == {
        "num_predict": 5,
        "temperature": 0.5,
        "seed": 7,
        "stop": ("x",),
        "num_ctx": 99,
    }
    assert (body["think"], body["format"], body["keep_alive"]) == (False, {"type": "object"}, "1h")
    assert "a" not in body


@pytest.mark.parametrize(("choice", "offered"), [("auto", True), ("none", False)])
def test_a_tool_that_must_not_be_called_is_not_shown(choice: ToolChoice, offered: bool) -> None:
    request = Request(messages=(user("Hi"),), tools=(tool(weather),), tool_choice=choice)

    assert ("tools" in body_of(request)) == offered


def test_a_tool_that_has_to_be_called_is_more_than_ollama_can_be_told() -> None:
    request = Request(messages=(user("Hi"),), tools=(tool(weather),), tool_choice="required")

    with pytest.raises(Unsupported):
        body_of(request)


def test_arguments_that_were_no_object_are_shown_to_the_model_as_it_wrote_them() -> None:
    request = Request.of((user("Hi"), assistant(ToolCall("c", "weather", "Oslo!"))))

    [_, said] = body_of(request)["messages"]

    assert said["tool_calls"][0]["function"]["arguments"] == {"malformed": "Oslo!"}


def test_missing_counts_are_unknown_and_not_zero() -> None:
    reader = ollama_response.Reader("box/m")

    [last] = reader.read(b'{"message":{"content":""},"done":true,"done_reason":"stop"}')

    assert last.response is not None
    assert (last.response.usage.input, last.response.usage.output) == (None, None)
    assert last.response.usage.total is None


def test_an_option_it_does_not_know_is_refused() -> None:
    with pytest.raises(SpecError, match="keepalive"):
        from_dsn(DSN.parse("box", "ollama://tok@h?keepalive=1h"))
    assert from_dsn(DSN.parse("box", "ollama://h?keep_alive=1h")).fields == {"keep_alive": "1h"}


def test_a_token_that_no_header_can_carry_is_refused_without_showing_it() -> None:
    with pytest.raises(SpecError) as refused:
        from_dsn(DSN.parse("box", "ollama://gr%C3%BC%C3%9Fe@h"))
    assert "gr" not in str(refused.value)
