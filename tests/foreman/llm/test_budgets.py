from threading import Thread

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from foreman.llm import BudgetExceeded
from foreman.llm.budgets import Budget, Reservation, reserve_all
from foreman.llm.providers.fake import Clock

LIMIT = 1000


def test_the_exact_limit_is_allowed_and_one_more_is_not() -> None:
    budget = Budget("tokens", LIMIT)
    budget.use(500)
    budget.use(500)

    with pytest.raises(BudgetExceeded, match="budget 'tokens': 0 of 1000 tokens are left") as found:
        budget.use(1)

    assert found.value.code == "RESOURCE_EXHAUSTED"
    assert (budget.used, budget.remaining, budget.percent) == (1000, 0, 100.0)
    assert budget.can_use(0)
    assert not budget.can_use(1)


def test_a_period_begins_anew_by_itself() -> None:
    clock = Clock()
    budget = Budget("tokens", LIMIT, period=0.1, clock=clock)
    budget.use(LIMIT)
    clock.advance(0.09)
    assert not budget.can_use(1)

    clock.advance(0.02)

    assert budget.remaining == LIMIT
    budget.use(LIMIT)


def test_periods_follow_each_other_whenever_somebody_looks() -> None:
    clock = Clock()
    budget = Budget("hourly", LIMIT, period=10, clock=clock)
    clock.advance(25)
    budget.use(LIMIT)
    clock.advance(4)
    assert budget.remaining == 0
    clock.advance(1)
    assert budget.remaining == LIMIT


def test_of_two_calls_for_the_last_tokens_one_is_refused() -> None:
    budget = Budget("tokens", LIMIT)
    budget.use(500)

    with budget.reserve(500), pytest.raises(BudgetExceeded), budget.reserve(500):
        pass

    assert budget.remaining == 500


def test_what_a_call_took_is_counted_and_the_rest_given_back() -> None:
    budget = Budget("tokens", LIMIT)

    with budget.reserve(600) as reservation:
        assert (budget.remaining, budget.reserved) == (400, 600)
        reservation.settle(150)
        reservation.settle(600)

    assert (budget.used, budget.reserved, budget.remaining) == (150, 0, 850)


def test_nothing_is_counted_for_a_call_that_failed_and_all_for_one_nobody_knows_of() -> None:
    budget = Budget("tokens", LIMIT)

    with pytest.raises(RuntimeError), budget.reserve(600):
        raise RuntimeError
    assert budget.used == 0

    with budget.reserve(600) as reservation:
        reservation.settle()
    assert budget.used == 600


def test_an_answer_beyond_its_limit_leaves_nothing_but_never_less() -> None:
    budget = Budget("tokens", LIMIT)

    with budget.reserve(900) as reservation:
        reservation.settle(1200)

    assert (budget.remaining, budget.used) == (0, 1200)


def test_calls_that_outlive_a_period_are_counted_where_they_end() -> None:
    clock = Clock()
    budget = Budget("tokens", LIMIT, period=10, clock=clock)
    with budget.reserve(400) as reservation:
        clock.advance(10)
        assert budget.remaining == 600
        reservation.settle(300)

    assert budget.remaining == 700
    budget.reset()
    assert budget.remaining == LIMIT


def test_several_budgets_give_all_or_nothing() -> None:
    wide, narrow = Budget("wide", LIMIT), Budget("narrow", 10)

    with pytest.raises(BudgetExceeded, match="narrow"), reserve_all([(wide, 50), (narrow, 50)]):
        pass
    assert wide.remaining == LIMIT

    with reserve_all([(wide, 50), (narrow, 10)]) as reservations:
        assert (wide.reserved, narrow.reserved, len(reservations)) == (50, 10, 2)
    assert (wide.reserved, narrow.reserved) == (0, 0)


def test_money_leaves_no_dust_behind() -> None:
    budget = Budget("money", 0.35, unit="USD")
    with budget.reserve(0.1), budget.reserve(0.1), budget.reserve(0.1):
        pass

    assert budget.reserved == 0.0
    assert budget.remaining == 0.35


def test_what_makes_no_sense_is_refused() -> None:
    for limit, period in ((-1, None), (1, 0)):
        with pytest.raises(ValueError, match="below 0"):
            Budget("odd", limit, period=period)
    for amount in (-1, float("nan")):
        with pytest.raises(ValueError, match="cannot be taken"):
            Budget("odd", 1).use(amount)
    assert Budget("none", 0).percent == 100.0


def test_threads_never_take_more_than_there_is() -> None:
    budget = Budget("tokens", LIMIT)
    taken: list[int] = []

    def take() -> None:
        for _ in range(500):
            try:
                budget.use(1)
            except BudgetExceeded:
                return
            taken.append(1)

    threads = [Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(taken) == budget.used == LIMIT


class AnyCalls(RuleBasedStateMachine):
    """Calls begin and end in any order, and time passes between."""

    under_way = Bundle("under_way")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.budget = Budget("tokens", LIMIT, period=60, clock=self.clock)
        self.period = 0
        self.taken = 0  # in this period
        self.held: dict[Reservation, int] = {}

    @rule(target=under_way, amount=st.integers(0, LIMIT + 1))
    def begin(self, amount: int) -> object:
        fits = self.taken + sum(self.held.values()) + amount <= LIMIT
        assert self.budget.can_use(amount) is fits
        call = self.budget.reserve(amount)
        try:
            reservation = call.__enter__()
        except BudgetExceeded:
            assert not fits
            return None
        assert fits
        self.held[reservation] = amount
        return call, reservation

    @rule(call=consumes(under_way), share=st.none() | st.floats(0, 1))
    def end(self, call: object, share: float | None) -> None:
        if not isinstance(call, tuple):
            return
        block, reservation = call
        amount = self.held.pop(reservation)
        if share is not None:
            self.taken += int(amount * share)
            reservation.settle(int(amount * share))
        block.__exit__(None, None, None)

    @rule(seconds=st.integers(1, 90))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)
        if self.clock() // 60 > self.period:
            self.period = int(self.clock() // 60)
            self.taken = 0

    @invariant()
    def nothing_is_overspent_or_leaked(self) -> None:
        assert self.budget.used == self.taken
        assert self.budget.reserved == sum(self.held.values())
        assert self.budget.used + self.budget.reserved <= LIMIT
        assert self.budget.remaining == LIMIT - self.taken - sum(self.held.values())


TestAnyCalls = AnyCalls.TestCase
