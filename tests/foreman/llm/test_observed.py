import logging

import anyio
import pytest

from foreman.llm import Exhausted, Place, Request, ServerError, StreamBroken, Unauthorized
from foreman.llm.attempts import SkipReason
from foreman.llm.budgeted import Budgeted
from foreman.llm.budgets import Budget
from foreman.llm.chain import Chain
from foreman.llm.complexity import Complexity
from foreman.llm.cost import Cost, PriceTable
from foreman.llm.errors import BudgetExceeded
from foreman.llm.health import Breaking, Health
from foreman.llm.model import Model, whole
from foreman.llm.observed import Observed
from foreman.llm.prices import Rates
from foreman.llm.providers.fake import Clock, Cut, FakeProvider, Hang, Outcome, Say, Status
from foreman.llm.record import Outcome as Ended
from foreman.llm.record import Record
from foreman.llm.tiers import Tier, Tiers

REQUEST = Request.of("Hello there, old friend")


class Seen:
    """A model, and the records of what was asked of it."""

    def __init__(self, model: Model, clock: Clock | None = None, **options: object) -> None:
        self.records: list[Record] = []
        clock = clock or Clock()
        self.model = Observed(
            model,
            self.records.append,
            clock=clock,
            wall=lambda: 1_800_000_000.0 + clock(),
            **options,  # type: ignore[arg-type]
        )

    @property
    def last(self) -> Record:
        return self.records[-1]


def fake(*outcomes: Outcome, clock: Clock | None = None) -> Model:
    sleep = clock.sleep if clock else anyio.sleep
    return FakeProvider(models={"a": outcomes}, sleep=sleep).model("a")


async def test_an_answer_is_recorded_with_what_it_took() -> None:
    clock = Clock()
    prices = PriceTable({"fake": Rates(input=1_000_000, output=2_000_000)})
    tiers = Tiers(of={"fake": Tier.LOCAL}, scoring=Complexity())
    said = Say("a b c", first_token_seconds=2.0, token_seconds=1.0, reported_cost=0.5)
    seen = Seen(fake(said, clock=clock), clock, prices=prices, tiers=tiers)

    response = await whole(seen.model.stream(REQUEST))

    assert response.text == "a b c"
    assert len(seen.records) == 1
    last = seen.last
    assert (last.id, last.at, last.asked) == (REQUEST.id, 1_800_000_000.0, "fake/a")
    assert (last.target, last.provider, last.model) == ("fake/a", "fake", "a")
    assert (last.outcome, last.streamed, last.error) == (Ended.ANSWERED, True, "")
    assert (last.usage, last.cost, last.reported_cost) == (response.usage, Cost(40.0), 0.5)
    assert (last.latency, last.seconds) == (2.0, 4.0)
    assert (last.tier, last.score) == ("local", Complexity().score(REQUEST))


async def test_a_whole_answer_has_its_latency_too() -> None:
    clock = Clock()
    seen = Seen(fake(Say("a b", token_seconds=3.0), clock=clock), clock)

    await seen.model.complete(REQUEST)

    assert (seen.last.latency, seen.last.seconds) == (3.0, 3.0)
    assert (seen.last.streamed, seen.last.tier, seen.last.cost) == (False, "", None)


async def test_a_place_in_a_queue_is_no_begin_of_an_answer() -> None:
    clock = Clock()
    waits = Say("a", token_seconds=5.0, places=(Place(1), Place(0)))
    seen = Seen(fake(waits, clock=clock), clock)

    await whole(seen.model.stream(REQUEST))

    assert seen.last.latency == 10.0


async def test_what_a_chain_tried_and_passed_over_is_recorded() -> None:
    provider = FakeProvider(models={"a": [Status(503)], "b": [Status(503)], "c": [Say()]})
    health = Health(Breaking(threshold=1))
    chain = Chain([provider.model(name) for name in "abc"], health=health)
    seen = Seen(chain)

    await seen.model.complete(REQUEST)
    await whole(seen.model.stream(REQUEST))

    first, second = seen.records
    assert first.asked == "fake/a, fake/b, fake/c"
    assert seen.model.targets == ("fake/a", "fake/b", "fake/c")
    assert (first.target, first.outcome) == ("fake/c", Ended.ANSWERED)
    assert [each.target for each in first.attempts] == ["fake/a", "fake/b"]
    assert [each.target for each in second.skips] == ["fake/a", "fake/b"]
    assert {each.reason for each in second.skips} == {SkipReason.COOLING_DOWN}


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_call_that_fails_is_recorded_as_an_attempt(streamed: bool) -> None:
    seen = Seen(fake(Status(401, "who are you?")))

    with pytest.raises(Unauthorized):
        await (whole(seen.model.stream(REQUEST)) if streamed else seen.model.complete(REQUEST))

    last = seen.last
    assert (last.outcome, last.target, last.status) == (Ended.FAILED, "fake/a", 401)
    assert (last.code, last.error) == ("AUTHENTICATION_FAILED", "fake/a: who are you?")
    assert [each.target for each in last.attempts] == ["fake/a"]
    assert last.usage.total is None
    assert last.latency is None


async def test_a_chain_that_gives_up_is_recorded_with_all_it_tried() -> None:
    provider = FakeProvider(otherwise=Status(503))
    seen = Seen(Chain([provider.model("a"), provider.model("b")]))

    with pytest.raises(Exhausted):
        await seen.model.complete(REQUEST)

    assert [each.target for each in seen.last.attempts] == ["fake/a"] * 2 + ["fake/b"] * 2
    assert (seen.last.target, seen.last.code) == ("fake/b", "PROVIDER_NOT_AVAILABLE")


async def test_an_answer_that_breaks_off_is_a_failure_once() -> None:
    seen = Seen(Chain([fake(Cut(after_tokens=2))]))

    with pytest.raises(StreamBroken):
        await whole(seen.model.stream(REQUEST))

    assert (seen.last.outcome, len(seen.last.attempts)) == (Ended.FAILED, 1)
    assert seen.last.latency == 0.0


async def test_a_stream_that_is_left_is_no_failure() -> None:
    seen = Seen(fake(Say(), Say(), Say()))

    async with seen.model.stream(REQUEST) as events:
        await anext(aiter(events))
    with pytest.raises(KeyError):
        async with seen.model.stream(REQUEST) as events:
            raise KeyError("the reader's own bug")
    with pytest.raises(KeyError):
        async with seen.model.stream(REQUEST) as events:
            async for _ in events:
                pass
            raise KeyError("after the end")

    assert [each.outcome for each in seen.records] == [Ended.LEFT, Ended.LEFT, Ended.ANSWERED]
    assert [each.error for each in seen.records] == ["", "", ""]


async def test_a_cancelled_call_is_recorded(virtual_time: None) -> None:
    seen = Seen(fake(Hang(), Hang(after_tokens=1)))

    with anyio.move_on_after(5):
        await seen.model.complete(REQUEST)
    with anyio.move_on_after(5):
        await whole(seen.model.stream(REQUEST))

    assert [each.outcome for each in seen.records] == [Ended.LEFT, Ended.LEFT]


async def test_a_bug_of_the_model_is_a_failure_and_passes() -> None:
    seen = Seen(fake(ZeroDivisionError("oops"), ZeroDivisionError()))

    with pytest.raises(ZeroDivisionError):
        await seen.model.complete(REQUEST)
    with pytest.raises(ZeroDivisionError):
        await whole(seen.model.stream(REQUEST))

    assert [(each.outcome, each.error, each.code) for each in seen.records] == [
        (Ended.FAILED, "oops", ""),
        (Ended.FAILED, "ZeroDivisionError", ""),
    ]


async def test_a_refused_request_is_recorded_without_a_target() -> None:
    seen = Seen(Budgeted(fake(Say()), [Budget("none", 0)]))

    with pytest.raises(BudgetExceeded):
        await seen.model.complete(REQUEST)

    last = seen.last
    assert (last.outcome, last.target, last.model) == (Ended.FAILED, "", "fake/a")
    assert (last.code, last.history) == ("RESOURCE_EXHAUSTED", ())


async def test_an_observer_that_fails_hurts_nobody(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Record] = []

    def broken(record: Record) -> None:
        raise OSError("the disk is full")

    with caplog.at_level(logging.ERROR):
        response = await Observed(fake(Say("Hi")), broken, seen.append).complete(REQUEST)

    assert (response.text, len(seen)) == ("Hi", 1)
    assert "an observer of fake/a failed" in caplog.text


async def test_an_error_is_the_models_own_with_its_history_untouched() -> None:
    seen = Seen(fake(Status(500)))

    with pytest.raises(ServerError) as found:
        await seen.model.complete(REQUEST)

    assert seen.last.attempts[0].error is found.value
    assert found.value.history == ()
