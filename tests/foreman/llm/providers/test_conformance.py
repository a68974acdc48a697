"""What every provider does alike, each against something that plays the same outcomes."""

import logging
import sys
import traceback
from collections.abc import Awaitable, Callable

import anyio
import pytest

from foreman.llm import (
    CallError,
    Closed,
    ContextTooLong,
    Event,
    FinishReason,
    InvalidRequest,
    InvalidResponse,
    Model,
    ModelNotFound,
    RateLimited,
    Request,
    Response,
    ServerError,
    StreamBroken,
    Thinking,
    ToolCall,
    Unauthorized,
    Unreachable,
    Unsupported,
    Usage,
    assistant,
    read_image,
    tool,
    user,
)
from foreman.llm.messages import ToolResult
from foreman.llm.providers.script import (
    Cut,
    EndEarly,
    ErrorLine,
    Garble,
    Hang,
    Outcome,
    Say,
    Status,
)
from foreman.llm.schemes import SCHEMES, make
from tests.fakes.vendors import Foreman, serving
from tests.foreman.llm.providers.rigs import ALL, REMOTE, SECRET, Rig, dsn, opened

GIF = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAACAkQBADs="

every = pytest.mark.parametrize("name", ALL)
remote = pytest.mark.parametrize("name", REMOTE)


def hi() -> Request:
    return Request.of("Hi")


async def events_of(model: Model, request: Request) -> list[Event]:
    async with model.stream(request) as events:
        return [event async for event in events if event.begins]


async def heard_until_it_fails(model: Model) -> tuple[list[Event], CallError]:
    heard: list[Event] = []
    with pytest.raises(CallError) as failed:
        async with model.stream(hi()) as events:
            async for event in events:
                heard.append(event)
    return heard, failed.value


# ---------------------------------------------------------------- answers


@every
async def test_a_whole_answer_has_its_text_its_target_and_its_usage(name: str) -> None:
    async with opened(name) as rig:
        rig.plays(Say("The answer is 42", usage=Usage.uncached(input=10, output=15)))

        response = await rig.model.complete(hi())

        assert response.text == "The answer is 42"
        assert response.target == rig.model.name == "box/m"
        assert response.finish is FinishReason.STOP
        assert response.usage == Usage.uncached(input=10, output=15)
        assert response.usage.total == 25


@every
async def test_a_stream_accumulates_and_ends_with_the_response(name: str) -> None:
    async with opened(name) as rig:
        rig.plays(Say(tokens=("The", " answer", " is 42")))

        *words, last = await events_of(rig.model, hi())

        assert [event.delta for event in words] == ["The", " answer", " is 42"]
        assert [event.text for event in words] == ["The", "The answer", "The answer is 42"]
        assert all(event.response is None for event in words)
        assert last.response is not None
        assert last.text == last.response.text == "The answer is 42"
        assert last.response.usage.total == 25


@every
@pytest.mark.parametrize("streamed", [False, True])
async def test_thoughts_come_apart_from_the_words(name: str, streamed: bool) -> None:
    async with opened(name) as rig:
        rig.plays(Say("Yes.", thinking="Hm."))

        response = await _response(rig.model, hi(), streamed)

        assert (response.thinking, response.text) == ("Hm.", "Yes.")


@every
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_tool_is_asked_for_and_its_result_is_taken(name: str, streamed: bool) -> None:
    def weather(city: str) -> str:
        """The weather."""
        return city

    asked = Request.of("Weather?", tools=[tool(weather)])
    wanted = ToolCall.of("call_1", "weather", {"city": "Oslo"})
    other = ToolCall.of("call_2", "weather", {"city": "Bergen"})
    async with opened(name) as rig:
        rig.plays(Say("", tool_calls=(wanted, other)), Say("Rain."))

        response = await _response(rig.model, asked, streamed)
        results = [ToolResult(call.id, call.name, "rain") for call in response.tool_calls]
        turns = (*asked.messages, response.message, user(*results))
        after = await _response(rig.model, Request.of(turns, tools=asked.tools), streamed)

        assert [call.name for call in response.tool_calls] == ["weather", "weather"]
        assert [call.arguments["city"] for call in response.tool_calls] == ["Oslo", "Bergen"]
        assert response.text == ""
        assert response.finish is FinishReason.TOOL_CALLS
        assert after.text == "Rain."


@every
async def test_a_complete_tool_call_is_an_event(name: str) -> None:
    call = ToolCall.of("call_1", "weather", {"city": "Oslo"})
    async with opened(name) as rig:
        rig.plays(Say("", tool_calls=(call,)))

        first, last = await events_of(rig.model, hi())

        assert first.tool_call is not None
        assert first.tool_call.arguments == {"city": "Oslo"}
        assert last.response is not None


@every
async def test_a_picture_can_be_shown(name: str) -> None:
    async with opened(name) as rig:
        rig.plays(Say("A dot."))

        response = await rig.model.complete(Request.of(user("What is this?", read_image(GIF))))

        assert response.text == "A dot."


@every
async def test_an_answer_that_was_cut_short_says_so(name: str) -> None:
    async with opened(name) as rig:
        rig.plays(Say("one two", finish=FinishReason.LENGTH), Say(finish=FinishReason.LENGTH))

        assert (await rig.model.complete(hi())).finish is FinishReason.LENGTH
        last = (await events_of(rig.model, hi()))[-1].response
        assert last is not None
        assert last.finish is FinishReason.LENGTH


@every
async def test_calls_at_once_do_not_mix(name: str) -> None:
    answers: list[Response] = []
    async with opened(name) as rig:
        rig.plays(*(Say(f"answer {number}") for number in range(5)))

        async def ask() -> None:
            answers.append(await rig.model.complete(hi()))

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(ask)

        assert sorted(answer.text for answer in answers) == [f"answer {n}" for n in range(5)]


@remote
async def test_characters_are_whole_wherever_the_network_cuts_them(name: str) -> None:
    async with opened(name) as rig:
        rig.server.step = 1
        rig.plays(Say(tokens=("Grüße", " 😀", "\u2028")))

        events = await events_of(rig.model, hi())

        assert [event.delta for event in events] == ["Grüße", " 😀", "\u2028", ""]


@remote
async def test_after_a_complete_answer_the_connection_is_used_again(name: str) -> None:
    async with opened(name) as rig:
        rig.plays(Say("one"), Say("two"), Say("three"))

        await events_of(rig.model, hi())
        await rig.model.complete(hi())
        await events_of(rig.model, hi())

        assert rig.server.connections == 1


@every
async def test_the_models_there_are_have_their_names(name: str) -> None:
    async with opened(name) as rig:
        listed = await rig.provider.models()

        assert listed is not None
        assert [each.name for each in listed] == (["m"] if name == "fake" else ["m", "other"])


@remote
async def test_a_request_has_the_same_key_in_each_try(name: str) -> None:
    request = hi()
    async with opened(name) as rig:
        rig.plays(Status(503), Say("Hello"))

        with pytest.raises(ServerError):
            await rig.model.complete(request)
        await rig.model.complete(request)

        tries = [seen for seen in rig.server.seen if seen.method == "POST"]
        first, second = (seen.headers["idempotency-key"] for seen in tries)
        assert first == second
        assert request.id in first


# ---------------------------------------------------------------- failures


@every
@pytest.mark.parametrize(
    ("outcome", "kind", "words"),
    [
        (Cut(), Unreachable, 0),
        (Cut(2), StreamBroken, 2),
        (Garble(), InvalidResponse, 0),
        (Garble(2), InvalidResponse, 2),
        (ErrorLine(2, text="out of memory"), ServerError, 2),
        (EndEarly(2), StreamBroken, 2),
        (EndEarly(0), StreamBroken, 0),
    ],
)
async def test_a_stream_that_fails_says_how_and_what_came_before_stays(
    name: str, outcome: Outcome, kind: type[CallError], words: int
) -> None:
    async with opened(name) as rig:
        rig.plays(outcome)

        heard, error = await heard_until_it_fails(rig.model)

        assert type(error) is (StreamBroken if name == "foreman" and kind is Unreachable else kind)
        assert len(heard) == words
        assert error.target == "box/m"
        if isinstance(outcome, ErrorLine):
            assert "out of memory" in str(error)


@every
@pytest.mark.parametrize("outcome", [Cut(), Garble(), EndEarly(0), ErrorLine(0)])
async def test_a_whole_answer_that_is_none_is_an_error_too(name: str, outcome: Outcome) -> None:
    async with opened(name) as rig:
        rig.plays(outcome)

        with pytest.raises((Unreachable, InvalidResponse, StreamBroken, ServerError)) as failed:
            await rig.model.complete(hi())

        assert isinstance(failed.value, CallError)
        assert failed.value.target == "box/m"


@every
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidRequest),
        (401, Unauthorized),
        (403, Unauthorized),
        (404, ModelNotFound),
        (413, ContextTooLong),
        (422, InvalidRequest),
        (429, RateLimited),
        (500, ServerError),
        (501, Unsupported),
        (503, ServerError),
        (529, ServerError),
    ],
)
async def test_a_status_is_an_error_of_its_kind(
    name: str, status: int, kind: type[CallError], streamed: bool
) -> None:
    async with opened(name) as rig:
        rig.plays(Status(status, text="in its own words", retry_after=3))

        with pytest.raises(CallError) as failed:
            await _response(rig.model, hi(), streamed)

        error = failed.value
        assert type(error) is kind
        assert (error.status, error.retry_after) == (status, 3)
        assert "in its own words" in str(error)
        assert rig.vendor is None or rig.server.seen[1:] == []  # it is not tried again


@remote
async def test_the_vendors_own_error_is_the_cause(name: str) -> None:
    async with opened(name) as rig:
        rig.plays(Status(500))

        with pytest.raises(ServerError) as failed:
            await rig.model.complete(hi())

        causes = {"openai": "openai", "anthropic": "anthropic", "foreman": "foreman"}
        cause = failed.value.__cause__
        module = type(cause).__module__.partition(".")[0] if cause else None
        assert module == causes.get(name)


@remote
async def test_nobody_at_the_address_is_unreachable(name: str) -> None:
    async with serving(Foreman()) as vendor:
        url = vendor.url
    provider = make(dsn(name, url), SCHEMES)

    with pytest.raises(Unreachable):
        await provider.model("m").complete(hi())
    with pytest.raises(Unreachable):
        await events_of(provider.model("m"), hi())
    await provider.aclose()


@pytest.mark.parametrize("package", ["openai", "anthropic"])
def test_without_its_sdk_a_provider_says_what_to_install(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, f"foreman.llm.providers.{package}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(Unsupported, match=rf"pip install 'foreman-ollama\[{package}\]'"):
        make(dsn(package, "http://127.0.0.1:1"), SCHEMES)


@every
async def test_a_closed_provider_refuses_every_call(name: str) -> None:
    async with opened(name) as rig:
        model = rig.model
        stream = model.stream(hi())
        await rig.provider.aclose()
        await rig.provider.aclose()

        with pytest.raises(Closed):
            await model.complete(hi())
        with pytest.raises(Closed):
            async with stream:
                pass


@remote
@pytest.mark.parametrize("streamed", [False, True])
async def test_no_secret_is_in_what_people_read(
    name: str, streamed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with opened(name) as rig:
        rig.plays(Status(401, text=f"{SECRET} is not a key; Bearer {SECRET} neither"))

        with pytest.raises(Unauthorized) as failed:
            await _response(rig.model, hi(), streamed)

        told = "".join(traceback.format_exception(failed.value))
        shown = repr(rig.provider) + repr(rig.model) + repr(vars(rig.provider))
        assert SECRET not in told + shown + repr(failed.value)
        assert SECRET not in caplog.text
        assert any(SECRET in value for value in rig.server.seen[0].headers.values())


# ---------------------------------------------------------------- leaving


@remote
@pytest.mark.parametrize("tokens", [0, 2])
async def test_leaving_early_hangs_up(name: str, tokens: int) -> None:
    async with opened(name) as rig:
        rig.plays(Hang(tokens))

        async with rig.model.stream(hi()) as events:
            for _ in range(tokens):
                await anext(aiter(events))

        dialect = rig.server.dialect
        if isinstance(dialect, Foreman):
            assert dialect.withdrawn == 1
        if tokens or name != "foreman":
            await rig.server.gone()


@every
@pytest.mark.parametrize("tokens", [0, 2])
async def test_silence_lasts_until_the_caller_ends_it(name: str, tokens: int) -> None:
    heard: list[Event] = []
    async with opened(name) as rig:
        rig.plays(Hang(tokens), Say("Hello"))

        async def listen() -> None:
            async with rig.model.stream(hi()) as events:
                async for event in events:
                    heard.append(event)

        await _cancelled(rig, listen, lambda: len(heard) == tokens)

        assert len(heard) == tokens
        assert (await rig.model.complete(hi())).text == "Hello"


@remote
async def test_a_whole_answer_can_be_cancelled(name: str) -> None:
    async with opened(name) as rig:
        rig.plays(Hang(), Say("Hello"))

        await _cancelled(rig, lambda: rig.model.complete(hi()), lambda: True)

        await rig.server.gone()
        assert (await rig.model.complete(hi())).text == "Hello"


@every
async def test_what_a_reader_raises_passes_as_it_is(name: str) -> None:
    async with opened(name) as rig:
        rig.plays(Say(tokens=("a", "b")))

        with pytest.raises(ZeroDivisionError):
            async with rig.model.stream(hi()) as events:
                async for _ in events:
                    raise ZeroDivisionError


@every
async def test_words_of_another_vendors_model_are_taken_up(name: str) -> None:
    async with opened(name) as rig:
        rig.plays(Say("Fine."))

        said = assistant(Thinking("Hm.", "elsewhere", "seal"), "Well.")
        response = await rig.model.complete(Request.of((user("A"), said, user("B"))))

        assert response.text == "Fine."
        if rig.vendor is not None:
            [asked] = [seen for seen in rig.server.seen if seen.method == "POST"]
            assert "<thinking>Hm.</thinking>" in str(asked.body)
            assert "seal" not in str(asked.body)


async def _response(model: Model, request: Request, streamed: bool) -> Response:
    if not streamed:
        return await model.complete(request)
    last = (await events_of(model, request))[-1].response
    assert last is not None
    return last


async def _cancelled(
    rig: Rig, call: Callable[[], Awaitable[object]], ready: Callable[[], bool]
) -> None:
    """Cancel the call in the middle of its answer; whoever asked for that sees it happen."""
    scope = anyio.CancelScope()

    async def scoped() -> None:
        with scope:
            await call()

    async with anyio.create_task_group() as group:
        group.start_soon(scoped)
        while not (rig.asked and ready()):
            await anyio.lowlevel.checkpoint()
        await anyio.wait_all_tasks_blocked()
        scope.cancel()

    assert scope.cancelled_caught
