from contextlib import suppress

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foreman.llm import BudgetExceeded, Options, Request, ServerError, StreamBroken, Usage
from foreman.llm.budgeted import LONGEST, Budgeted
from foreman.llm.budgets import Budget
from foreman.llm.chain import Chain
from foreman.llm.cost import PriceTable
from foreman.llm.model import whole
from foreman.llm.prices import Rates
from foreman.llm.providers.fake import Cut, FakeProvider, Hang, Outcome, Say, Status
from tests.foreman.llm.loops import BACKENDS, run

REQUEST = Request.of("x" * 400, options=Options(max_tokens=100))  # 200 tokens at most
PRICES = PriceTable(
    {
        "fake/a": Rates(input=1_000_000, output=2_000_000),
        "fake/b": Rates(input=3_000_000, output=4_000_000, cache_write=5_000_000),
    }
)


def model(*outcomes: Outcome, budget: Budget) -> Budgeted:
    return Budgeted(FakeProvider(models={"a": outcomes}).model("a"), [budget], prices=PRICES)


async def test_a_call_takes_what_it_used() -> None:
    budget = Budget("tokens", 1000)
    asked = model(Say(), Say(), budget=budget)

    await asked.complete(REQUEST)
    await whole(asked.stream(REQUEST))

    assert (budget.used, budget.reserved) == (50, 0)
    assert (asked.name, asked.targets) == ("fake/a", ("fake/a",))
    assert asked.capabilities.streaming


async def test_a_call_that_could_take_too_much_is_not_made() -> None:
    budget = Budget("tokens", 199)
    provider = FakeProvider(models={"a": [Say()]})
    asked = Budgeted(provider.model("a"), [budget])

    with pytest.raises(BudgetExceeded, match="the call could take 200"):
        await asked.complete(REQUEST)
    with pytest.raises(BudgetExceeded):
        await whole(asked.stream(REQUEST))

    assert provider.calls == []


async def test_an_answer_without_a_limit_has_a_long_one_set_aside() -> None:
    budget = Budget("tokens", 100 + LONGEST - 1)

    with pytest.raises(BudgetExceeded):
        await model(Say(), budget=budget).complete(Request.of("x" * 400))


async def test_a_failed_call_takes_nothing() -> None:
    budget = Budget("tokens", 1000)

    with pytest.raises(ServerError):
        await model(Status(500), budget=budget).complete(REQUEST)
    with pytest.raises(ServerError):
        await whole(model(Status(500), budget=budget).stream(REQUEST))

    assert (budget.used, budget.reserved) == (0, 0)


async def test_what_broke_off_or_was_left_takes_all_that_was_set_aside() -> None:
    budget = Budget("tokens", 1000)

    with pytest.raises(StreamBroken):
        await whole(model(Cut(after_tokens=2), budget=budget).stream(REQUEST))
    assert budget.used == 200

    async with model(Say(), budget=budget).stream(REQUEST) as events:
        await anext(aiter(events))
    assert budget.used == 400

    await model(Say(usage=Usage()), budget=budget).complete(REQUEST)
    assert (budget.used, budget.reserved) == (600, 0)


async def test_a_cancelled_call_takes_all_that_was_set_aside(virtual_time: None) -> None:
    budget = Budget("tokens", 1000)

    with anyio.move_on_after(5):
        await model(Hang(), budget=budget).complete(REQUEST)

    assert (budget.used, budget.reserved) == (200, 0)


async def test_money_is_set_aside_for_the_dearest_target_and_counted_for_who_answered() -> None:
    budget = Budget("money", 1000.0, unit="USD")
    fake = FakeProvider(models={"a": [Say()], "b": [Say()]})
    chain = Chain([fake.model("b"), fake.model("a")])
    asked = Budgeted(chain, [budget], prices=PRICES)

    async with asked.stream(REQUEST) as events:
        assert budget.reserved == 100 * 5 + 100 * 4
        async for _ in events:
            pass

    assert budget.used == 10 * 3 + 15 * 4


@pytest.mark.parametrize(
    "prices",
    [
        None,
        PriceTable(),
        PriceTable({"fake": Rates(input=0, output=0, unit="sats")}),
    ],
)
async def test_what_costs_nobody_knows_how_much_is_refused(prices: PriceTable | None) -> None:
    budget = Budget("money", 1000.0, unit="USD")
    asked = Budgeted(FakeProvider().model("a"), [budget], prices=prices)

    with pytest.raises(BudgetExceeded, match="nobody knows what fake/a costs in USD"):
        await asked.complete(REQUEST)


outcomes = st.sampled_from(
    [
        Say(),
        Say(usage=Usage()),
        Say(token_seconds=1.0),
        Say(usage=Usage.uncached(input=100, output=100)),
        Status(503),
        Cut(after_tokens=2),
        Hang(),
    ]
)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(outcomes, st.booleans(), st.floats(0, 9)), max_size=8),
    st.sampled_from(BACKENDS),
)
def test_whatever_happens_side_by_side_nothing_is_overspent_or_leaked(
    calls: list[tuple[Outcome, bool, float]], backend: str
) -> None:
    budget = Budget("tokens", 700)

    async def ask(outcome: Outcome, streamed: bool, patience: float) -> None:
        asked = model(outcome, budget=budget)
        with anyio.move_on_after(patience):
            with suppress(ServerError, StreamBroken, BudgetExceeded):
                await (whole(asked.stream(REQUEST)) if streamed else asked.complete(REQUEST))
        assert budget.used + budget.reserved <= budget.limit

    async def side_by_side() -> None:
        async with anyio.create_task_group() as group:
            for call in calls:
                group.start_soon(ask, *call)

    run(side_by_side, backend, virtual=True)
    assert budget.reserved == 0
    assert budget.used <= budget.limit
