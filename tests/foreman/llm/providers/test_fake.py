import anyio
import pytest

from foreman.llm import (
    CallError,
    Capabilities,
    Closed,
    Event,
    FinishReason,
    InvalidResponse,
    Model,
    ModelNotFound,
    Place,
    Provider,
    RateLimited,
    Request,
    Response,
    ServerError,
    StreamBroken,
    ToolCall,
    Unreachable,
    Usage,
)
from foreman.llm.model import whole
from foreman.llm.providers.fake import (
    Clock,
    Cut,
    End,
    EndEarly,
    ErrorLine,
    FakeProvider,
    Garble,
    Hang,
    Outcome,
    Refuse,
    Say,
    Status,
)

HI = Request.of("Hi")


def model_of(provider: Provider, name: str = "m") -> Model:
    return provider.model(name)  # typed as the ports: the fake has to fit them


async def events_of(model: Model) -> list[Event]:
    async with model.stream(HI) as events:
        return [event async for event in events]


async def test_a_stream_has_deltas_and_all_text_and_one_end() -> None:
    fake = FakeProvider(otherwise=Say(tokens=("The", " answer", " is 42")))

    *words, last = await events_of(model_of(fake))

    assert [event.delta for event in words] == ["The", " answer", " is 42"]
    assert [event.text for event in words] == ["The", "The answer", "The answer is 42"]
    assert all(event.response is None for event in words)
    assert last.response is not None
    assert last.response.text == last.text == "The answer is 42"


async def test_a_whole_answer_is_the_streams_last_word() -> None:
    said = Say("Hello there", usage=Usage.uncached(input=1, output=2), reported_cost=0.5)
    model = model_of(FakeProvider("box", otherwise=said))

    response = await model.complete(HI)

    assert response == await whole(model.stream(HI))
    assert response.target == model.name == "box/m"
    assert (response.usage.total, response.reported_cost) == (3, 0.5)
    assert response.finish is FinishReason.STOP


async def test_outcomes_are_good_for_one_call_each() -> None:
    fake = FakeProvider(models={"a": [Status(503)], "b": []}, otherwise=Say("later"))
    fake.script("a", Say("first"), Status(429, retry_after=3))
    a, b = model_of(fake, "a"), model_of(fake, "b")

    with pytest.raises(ServerError):
        await a.complete(HI)
    assert (await a.complete(HI)).text == "first"
    with pytest.raises(RateLimited) as limited:
        await a.complete(HI)
    assert (await a.complete(HI)).text == (await b.complete(HI)).text == "later"

    assert limited.value.retry_after == 3
    assert fake.made("a") == 4


@pytest.mark.parametrize(
    ("outcome", "kind", "words"),
    [
        (Status(500), ServerError, 0),
        (Refuse(), Unreachable, 0),
        (Cut(), Unreachable, 0),
        (Cut(2), StreamBroken, 2),
        (Garble(), InvalidResponse, 0),
        (Garble(3), InvalidResponse, 3),
        (ErrorLine(), ServerError, 1),
        (EndEarly(4), StreamBroken, 4),
        (EndEarly(0), StreamBroken, 0),
        (ModelNotFound("gone"), ModelNotFound, 0),
    ],
)
async def test_a_fault_strikes_where_it_is_told_to(
    outcome: Outcome, kind: type[CallError], words: int
) -> None:
    fake = FakeProvider(otherwise=outcome)
    heard: list[Event] = []

    with pytest.raises(kind):
        async with model_of(fake).stream(HI) as events:
            async for event in events:
                heard.append(event)

    assert len(heard) == words
    assert [call.end for call in fake.calls] == [End.FAILED]


async def test_calls_are_remembered() -> None:
    fake = FakeProvider()
    await fake.model("a/b:c").complete(HI)
    await events_of(fake.model("d"))

    assert [(call.model, call.streamed) for call in fake.calls] == [("a/b:c", False), ("d", True)]
    assert all(call.request is HI and call.end is End.ANSWERED for call in fake.calls)


async def test_a_reader_who_leaves_early_is_remembered_too() -> None:
    fake = FakeProvider()

    async with fake.model("m").stream(HI) as events:
        await anext(aiter(events))
        before = fake.calls[0].end

    assert (before, fake.calls[0].end) == (End.OPEN, End.LEFT)


@pytest.mark.parametrize("after", [0, 2])
async def test_silence_lasts_until_it_is_cancelled(virtual_time: None, after: int) -> None:
    fake = FakeProvider(otherwise=Hang(after))
    heard: list[Event] = []

    with anyio.move_on_after(3600) as scope:
        async with fake.model("m").stream(HI) as events:
            async for event in events:
                heard.append(event)

    assert scope.cancelled_caught
    assert len(heard) == after
    assert fake.calls[0].end is End.LEFT


async def test_delays_pass_on_the_loops_clock(virtual_time: None) -> None:
    slow = Say(tokens=("a", "b", "c"), first_token_seconds=10, token_seconds=1)

    start = anyio.current_time()
    await FakeProvider(otherwise=slow).model("m").complete(HI)

    assert anyio.current_time() - start == pytest.approx(12)


async def test_delays_pass_on_a_clock_that_is_handed_in() -> None:
    clock = Clock(100)
    slow = Say(tokens=("a", "b", "c"), first_token_seconds=10, token_seconds=1)

    await FakeProvider(otherwise=slow, sleep=clock.sleep).model("m").complete(HI)
    clock.advance(0.5)

    assert clock() == 112.5


async def test_every_step_lets_others_run() -> None:
    model = FakeProvider(otherwise=Say(tokens=("a",) * 100_000)).model("m")

    with anyio.CancelScope() as scope:
        async with model.stream(HI) as events, anyio.create_task_group() as group:
            group.start_soon(_cancel, scope)
            async for _ in events:
                pass

    assert scope.cancelled_caught


async def _cancel(scope: anyio.CancelScope) -> None:
    scope.cancel()


async def test_places_thoughts_and_calls_come_in_their_order() -> None:
    call = ToolCall("1", "f")
    said = Say("Hi", thinking="Hm", tool_calls=(call,), places=(Place(1, 4.0), Place(0)))

    events = await events_of(model_of(FakeProvider(otherwise=said)))

    assert [event.begins for event in events] == [False, False, True, True, True, True]
    assert [event.place for event in events[:2]] == [Place(1, 4.0), Place(0)]
    assert (events[2].thinking, events[3].delta, events[4].tool_call) == ("Hm", "Hi", call)
    last = events[5].response
    assert last is not None
    assert (last.finish, last.thinking) == (FinishReason.TOOL_CALLS, "Hm")


async def test_a_provider_with_a_list_has_no_other_models() -> None:
    fake = FakeProvider(models={"m": []}, capabilities={"m": Capabilities(context=10)})

    listed = await fake.models()
    with pytest.raises(ModelNotFound):
        await fake.model("zzz").complete(HI)

    assert listed is not None
    assert [(each.name, each.capabilities.context) for each in listed] == [("m", 10)]


async def test_one_without_a_list_cannot_say_what_it_has() -> None:
    assert await FakeProvider().models() is None
    assert await FakeProvider(models={}).models() == ()


async def test_after_closing_every_call_is_refused() -> None:
    fake = FakeProvider()
    await fake.aclose()
    await fake.aclose()

    with pytest.raises(Closed):
        await fake.model("m").complete(HI)
    with pytest.raises(Closed):
        async with fake.model("m").stream(HI):
            pass
    assert fake.calls == []


async def test_several_calls_at_once_keep_their_answers_apart() -> None:
    fake = FakeProvider(models={"m": [Say(f"answer {n}") for n in range(5)]})
    answers: list[Response] = []

    async def ask() -> None:
        answers.append(await fake.model("m").complete(HI))

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(ask)

    assert sorted(answer.text for answer in answers) == [f"answer {n}" for n in range(5)]
