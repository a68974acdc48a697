from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import aclosing, asynccontextmanager

import anyio
import anyio.lowlevel
import pytest

from foreman.breaker import State, Verdict
from foreman.llm import (
    CallError,
    Capabilities,
    ContextTooLong,
    DeadlinePassed,
    Event,
    Exhausted,
    Place,
    Request,
    Response,
    ServerError,
    SkipReason,
    StreamBroken,
    TimedOut,
)
from foreman.llm.attempts import Step
from foreman.llm.chain import Chain
from foreman.llm.classification import TRANSIENT, Treatment
from foreman.llm.failover import CHAIN, ROUTER, Failover
from foreman.llm.health import Breaking, Health
from foreman.llm.model import whole
from foreman.llm.providers.fake import (
    Clock,
    Cut,
    FakeProvider,
    Hang,
    Outcome,
    Refuse,
    Say,
    Status,
)
from foreman.llm.snapshot import Label

HI = Request.of("Hi")


def chain(
    scripts: dict[str, list[Outcome]],
    failover: Failover = CHAIN,
    *,
    clock: Callable[[], float] = anyio.current_time,
    capabilities: dict[str, Capabilities] | None = None,
    breaking: Breaking | None = None,
) -> tuple[Chain, FakeProvider]:
    """Over models of those names, by the loop's own time unless there is a `clock` to sleep on."""
    sleep = clock.sleep if isinstance(clock, Clock) else anyio.sleep
    fake = FakeProvider("p", models=scripts, capabilities=capabilities, sleep=sleep)
    models = [fake.model(name) for name in scripts]
    health = Health(breaking or Breaking(), clock=clock)
    return Chain(models, failover=failover, health=health, clock=clock, sleep=sleep), fake


def steps(history: Iterable[Step]) -> list[str]:
    return [str(step) for step in history]


async def read(model: Chain) -> list[Event]:
    async with model.stream(HI) as events:
        return [event async for event in events]


def made(fake: FakeProvider) -> list[str]:
    return [call.model for call in fake.calls]


async def test_a_chain_is_a_model_named_after_its_models() -> None:
    model, _ = chain({"a": [], "b": []})
    assert model.name == "p/a, p/b"
    assert model.targets == ("p/a", "p/b")
    with pytest.raises(ValueError, match="needs a model"):
        Chain([])


async def test_a_chain_can_do_what_one_of_its_models_can() -> None:
    small = Capabilities(context=8, tools=False, images=None)
    model, _ = chain({"a": [], "b": []}, capabilities={"a": small, "b": Capabilities(context=99)})
    assert model.capabilities.tools
    assert model.capabilities.images is not None
    assert model.capabilities.context == 99


async def test_the_answer_tells_what_came_before_it() -> None:
    model, _ = chain({"a": [Status(503, "down"), Refuse()], "b": [Say("fine")]}, clock=Clock())
    answer = await model.complete(HI)
    assert answer.text == "fine"
    assert steps(answer.history) == [
        "p/a: down (after 0 s)",
        "p/a: connection refused (after 0 s)",
    ]


async def test_an_answer_at_once_has_no_history() -> None:
    model, _ = chain({"a": []})
    assert (await model.complete(HI)).history == ()


async def test_a_stream_is_passed_on_as_it_comes() -> None:
    model, _ = chain({"a": [Say("one two")]})
    events = await read(model)
    assert [event.text for event in events] == ["one", "one two", "one two"]
    assert events[-1].response is not None
    assert events[-1].response.text == "one two"


async def test_each_attempt_carries_the_same_id() -> None:
    model, fake = chain({"a": [Status(503)], "b": []})
    await model.complete(HI)
    assert {call.request.id for call in fake.calls} == {HI.id}


async def test_a_failed_stream_makes_no_further_events() -> None:
    model, _ = chain({"a": [Cut(1)], "b": []})
    async with model.stream(HI) as events:
        await anext(events)
        with pytest.raises(StreamBroken):
            await anext(events)
        assert await anext(events, None) is None


class Silent:
    """Its stream ends without any event."""

    name = "s/m"
    capabilities = Capabilities()

    async def complete(self, request: Request) -> Response:
        return await whole(self.stream(request))

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncGenerator[AsyncIterator[Event]]:
        async with aclosing(self.events()) as events:
            yield events

    async def events(self) -> AsyncGenerator[Event]:
        await anyio.lowlevel.checkpoint()
        nothing: list[Event] = []
        for event in nothing:
            yield event


async def test_a_stream_that_just_ends_is_broken() -> None:
    model = Chain([Silent(), FakeProvider("p").model("b")], failover=Failover(retries=0))
    last = (await read(model))[-1].response
    assert last is not None
    assert steps(last.history)[0].startswith("s/m: the stream ended before the answer did")


async def test_no_classifier_starts_an_answer_anew_that_has_begun() -> None:
    def always(error: CallError, begun: bool) -> Treatment:
        return TRANSIENT

    fake = FakeProvider("p", models={"a": [Cut(1)], "b": []})
    model = Chain([fake.model("a"), fake.model("b")], classifier=always)
    with pytest.raises(StreamBroken):
        await read(model)
    assert made(fake) == ["a"]


async def test_nobody_pauses_for_a_target_that_is_benched() -> None:
    clock = Clock()
    patient = Failover(retries=5, backoff=(1.0,))
    model, fake = chain({"a": [Status(503)] * 9, "b": []}, patient, clock=clock)
    await model.complete(HI)
    assert made(fake) == ["a", "a", "a", "b"]
    assert clock() == 2


async def test_one_that_is_benched_by_others_during_the_pause_is_not_called_again() -> None:
    fake = FakeProvider("p", models={"a": [Status(503)], "b": []})

    async def others(seconds: float) -> None:
        await anyio.lowlevel.checkpoint()
        model.health["p/a"].rest(30)

    failover = Failover(backoff=(1.0,))
    model = Chain([fake.model("a"), fake.model("b")], failover=failover, sleep=others)
    answer = await model.complete(HI)
    assert made(fake) == ["a", "b"]
    assert [step.target for step in answer.history] == ["p/a"]


class Queued:
    """A foreman that is stopped while the call stands in its queue."""

    name = "q/m"
    capabilities = Capabilities()

    def __init__(self) -> None:
        self.closed = False

    async def complete(self, request: Request) -> Response:
        return await whole(self.stream(request))

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncGenerator[AsyncIterator[Event]]:
        try:
            async with aclosing(self.events()) as events:
                yield events
        finally:
            self.closed = True

    async def events(self) -> AsyncGenerator[Event]:
        for position in (1, 0):
            await anyio.lowlevel.checkpoint()
            yield Event(place=Place(position, 5.0))
        raise ServerError("the foreman was stopped", target=self.name)


async def test_who_shows_places_may_still_be_replaced() -> None:
    queued = Queued()
    fake = FakeProvider("p", otherwise=Say("fine"))
    model = Chain([queued, fake.model("m")], failover=Failover(retries=0, deadline=60))
    async with model.stream(HI) as events:
        seen = [await anext(events)]
        with anyio.move_on_after(30):
            seen += [event async for event in events]
    places = [event.place.position for event in seen if event.place]
    assert places == [1, 0]
    assert queued.closed
    response = seen[-1].response
    assert response is not None
    assert steps(response.history)[0].startswith("q/m: the foreman was stopped")


async def test_leaving_a_stream_early_ends_its_call_and_blames_nobody() -> None:
    model, fake = chain({"a": [Say("one two three")]})
    async with model.stream(HI) as events:
        await anext(events)
    assert [str(call.end) for call in fake.calls] == ["left"]
    assert model.health["p/a"].snapshot().failures == 0


async def test_an_error_of_the_reader_is_the_readers() -> None:
    model, fake = chain({"a": [Say("one two three")], "b": []}, breaking=Breaking(threshold=1))
    with pytest.raises(ServerError, match="another call") as caught:
        async with model.stream(HI) as events:
            await anext(events)
            raise ServerError("another call's")
    assert caught.value.history == ()
    assert made(fake) == ["a"]
    assert model.health["p/a"].state is State.CLOSED


async def test_a_complete_answer_is_a_success_whatever_its_reader_does_then() -> None:
    model, _ = chain({"a": [Status(503), Say("one")]})
    with pytest.raises(ZeroDivisionError):
        async with model.stream(HI) as events:
            assert [event async for event in events][-1].response is not None
            raise ZeroDivisionError
    assert model.health["p/a"].snapshot().failures == 0


async def test_a_bug_passes_through_and_blames_nobody() -> None:
    model, fake = chain({"a": [ZeroDivisionError("oops")], "b": []}, breaking=Breaking(threshold=1))
    with pytest.raises(ZeroDivisionError):
        await model.complete(HI)
    assert made(fake) == ["a"]
    assert model.health["p/a"].state is State.CLOSED


async def test_being_cancelled_blames_nobody_and_frees_the_probe(virtual_time: None) -> None:
    model, _ = chain(
        {"a": [Status(503), Hang(), Say("well")]},
        Failover(retries=0),
        breaking=Breaking(threshold=1, cooldown=1),
    )
    with pytest.raises(Exhausted):
        await model.complete(HI)
    await anyio.sleep(1)
    with anyio.move_on_after(5):
        await model.complete(HI)
    assert model.health["p/a"].state is State.HALF_OPEN
    assert (await model.complete(HI)).text == "well"


async def test_the_deadline_counts_against_who_was_silent(virtual_time: None) -> None:
    model, _ = chain({"a": [Status(503), Hang()], "b": []}, Failover(deadline=30))
    start = anyio.current_time()
    with pytest.raises(DeadlinePassed) as caught:
        await model.complete(HI)
    assert anyio.current_time() - start == pytest.approx(30)
    assert [type(attempt.error) for attempt in caught.value.attempts] == [ServerError, TimedOut]
    assert "p/a: no answer within 30 s (after 30 s)" in str(caught.value)
    assert model.health["p/a"].snapshot().failures == 2


async def test_the_deadline_of_a_stream_ends_with_its_first_event(virtual_time: None) -> None:
    slow = Say("one two", token_seconds=60)
    model, _ = chain({"a": [slow, Hang()]}, Failover(deadline=30))
    assert (await read(model))[-1].response is not None
    with pytest.raises(DeadlinePassed):
        await read(model)
    assert model.health["p/a"].snapshot().failures == 1


async def test_a_deadline_while_another_call_probes_is_no_attempt(virtual_time: None) -> None:
    model, fake = chain(
        {"a": [Status(503)]},
        Failover(retries=0, deadline=5),
        breaking=Breaking(threshold=1, cooldown=1),
    )
    with pytest.raises(Exhausted):
        await model.complete(HI)
    await anyio.sleep(1)
    async with model.health["p/a"].permit():
        with pytest.raises(DeadlinePassed) as caught:
            await model.complete(HI)
    assert caught.value.attempts == ()
    assert [skip.reason for skip in caught.value.skips] == [SkipReason.PROBING]
    assert len(fake.calls) == 1


async def test_a_callers_deadline_is_no_verdict(virtual_time: None) -> None:
    model, _ = chain({"a": [Hang()]}, Failover(deadline=30))
    with pytest.raises(TimeoutError), anyio.fail_after(3):
        await model.complete(HI)
    assert model.health["p/a"].snapshot().failures == 0


async def test_a_limited_target_is_called_again_when_it_said() -> None:
    clock = Clock()
    model, fake = chain({"a": [Status(429, retry_after=7), Say("ok")], "b": []}, clock=clock)
    answer = await model.complete(HI)
    assert answer.target == "p/a"
    assert made(fake) == ["a", "a"]
    assert clock() == 7


async def test_one_that_asks_for_too_long_a_rest_gets_it_and_the_next_is_called() -> None:
    clock = Clock()
    model, fake = chain({"a": [Status(429, retry_after=60)], "b": []}, clock=clock)
    assert (await model.complete(HI)).target == "p/b"
    assert clock() == 0
    answer = await model.complete(HI)
    assert steps(answer.history) == ["p/a: skipped, cooling down, again in 60 s"]
    assert model.health["p/a"].snapshot().failures == 0
    clock.advance(60)
    assert (await model.complete(HI)).target == "p/a"
    assert made(fake) == ["a", "b", "b", "a"]


async def test_a_rest_that_does_not_fit_the_deadline_is_not_waited_for(virtual_time: None) -> None:
    model, _ = chain({"a": [Status(429, retry_after=9)], "b": []}, Failover(deadline=8))
    start = anyio.current_time()
    assert (await model.complete(HI)).target == "p/b"
    assert anyio.current_time() == start


async def test_one_that_does_not_say_when_is_not_called_again() -> None:
    model, fake = chain({"a": [Status(429)], "b": []})
    await model.complete(HI)
    assert made(fake) == ["a", "b"]


async def test_a_failed_target_may_ask_to_be_let_alone_before_the_retry() -> None:
    clock = Clock()
    model, _ = chain({"a": [Status(503, retry_after=3), Say("ok")]}, clock=clock)
    await model.complete(HI)
    assert clock() == 3


@pytest.mark.parametrize(
    ("windows", "called"),
    [
        ({"a": 8, "b": 8, "c": 32}, ["a", "c"]),
        ({"a": 8, "b": 32, "c": 32}, ["a", "b"]),
        ({"a": 8, "b": 8, "c": None}, ["a", "c"]),
    ],
)
async def test_a_prompt_too_long_goes_to_a_larger_window(
    windows: dict[str, int | None], called: list[str]
) -> None:
    model, fake = chain(
        {"a": [Status(413)], "b": [], "c": []},
        capabilities={name: Capabilities(context=size) for name, size in windows.items()},
    )
    await model.complete(HI)
    assert made(fake) == called


async def test_without_a_larger_window_the_error_is_the_callers() -> None:
    same = {name: Capabilities(context=8) for name in "ab"}
    model, fake = chain({"a": [Status(413)], "b": []}, capabilities=same)
    with pytest.raises(ContextTooLong) as caught:
        await model.complete(HI)
    assert [skip.reason for skip in caught.value.skips] == [SkipReason.WINDOW]
    assert made(fake) == ["a"]


async def test_one_taken_out_by_hand_is_passed_over() -> None:
    model, fake = chain({"a": [], "b": []})
    model.health["p/a"].label = Label.UNHEALTHY
    answer = await model.complete(HI)
    assert steps(answer.history) == ["p/a: skipped, disabled by hand"]
    assert made(fake) == ["b"]


async def test_a_probe_under_way_is_waited_for_only_at_the_end(virtual_time: None) -> None:
    model, fake = chain(
        {"a": [Status(503)], "b": [Status(503), Say("b"), Say("b")]},
        Failover(retries=0),
        breaking=Breaking(threshold=1, cooldown=1),
    )
    with pytest.raises(Exhausted):
        await model.complete(HI)
    await anyio.sleep(1)
    answers: list[Response] = []

    async def ask() -> None:
        answers.append(await model.complete(HI))

    async with model.health["p/a"].permit(), anyio.create_task_group() as tasks:
        async with model.health["p/b"].permit():
            tasks.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            assert made(fake) == ["a", "b"]
    assert steps(answers[0].history) == ["p/a: skipped, being probed by another call"]
    assert answers[0].target == "p/b"


async def test_a_chain_in_a_chain_adds_what_it_went_through() -> None:
    inner, _ = chain({"a": [Status(503)] * 2})
    outer = Chain([inner, FakeProvider("q").model("m")])
    answer = await outer.complete(HI)
    assert answer.target == "q/m"
    assert [step.target for step in answer.history] == ["p/a", "p/a"]


class TestRouter:
    """arbstr's way: three calls to the first with 1 s and 2 s between, one to the second, 30 s."""

    async def test_a_retry_that_helps(self) -> None:
        model, fake = chain({"alpha": [Status(503)], "beta": []}, ROUTER, clock=Clock())
        answer = await model.complete(HI)
        assert len(fake.calls) == 2
        assert len(answer.history) == 1

    async def test_three_calls_alone_three_seconds_in_all(self) -> None:
        clock = Clock()
        model, fake = chain({"alpha": [Status(503)] * 9}, ROUTER, clock=clock)
        with pytest.raises(Exhausted):
            await model.complete(HI)
        assert len(fake.calls) == 3
        assert clock() == 3

    async def test_then_the_fallback(self) -> None:
        model, fake = chain({"alpha": [Status(503)] * 9, "beta": []}, ROUTER, clock=Clock())
        answer = await model.complete(HI)
        assert len(fake.calls) == 4
        assert len(answer.history) == 3

    async def test_which_is_called_once_and_is_the_last(self) -> None:
        down: list[Outcome] = [Status(500)] * 9
        model, _ = chain({"alpha": down, "beta": down, "gamma": []}, ROUTER, clock=Clock())
        with pytest.raises(Exhausted) as caught:
            await model.complete(HI)
        called = [attempt.target for attempt in caught.value.attempts]
        assert called == ["p/alpha"] * 3 + ["p/beta"]

    async def test_a_refusal_ends_it(self) -> None:
        model, fake = chain({"alpha": [Status(400)], "beta": []}, ROUTER, clock=Clock())
        with pytest.raises(CallError):
            await model.complete(HI)
        assert made(fake) == ["alpha"]

    async def test_a_benched_one_is_no_target(self) -> None:
        clock = Clock()
        scripts: dict[str, list[Outcome]] = {"a": [Status(500)] * 9, "b": [Status(500)], "c": []}
        model, _ = chain(scripts, ROUTER, clock=clock)
        with pytest.raises(Exhausted):
            await model.complete(HI)
        assert (await model.complete(HI)).target == "p/b"

    async def test_time_runs_out_and_the_attempts_are_told(self, virtual_time: None) -> None:
        model, _ = chain({"alpha": [Status(503), Hang()], "beta": []}, ROUTER)
        start = anyio.current_time()
        with pytest.raises(DeadlinePassed) as caught:
            await model.complete(HI)
        assert anyio.current_time() - start == pytest.approx(30)
        assert len(caught.value.attempts) == 2

    async def test_one_that_has_rested_goes_in_front(self) -> None:
        clock = Clock()
        model, _ = chain({"a": [], "b": [Status(500)]}, ROUTER, clock=clock)
        for _ in range(3):
            async with model.health["p/b"].permit() as permit:
                permit.conclude(Verdict.FAILED)
        assert (await model.complete(HI)).target == "p/a"
        clock.advance(30)
        answer = await model.complete(HI)
        assert [step.target for step in answer.history] == ["p/b"]
        assert answer.target == "p/a"


@pytest.mark.parametrize(
    "settings", [{"retries": -1}, {"targets": 0}, {"deadline": 0}, {"backoff": (-1.0,)}]
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="0 or above"):
        Failover(**settings)  # type: ignore[arg-type]
