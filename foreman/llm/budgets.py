"""Budgets: so many tokens, or so much money, and no call that could take more.

    daily = Budget("daily", 5.0, unit="USD", period=86_400)
    model = Budgeted(chain, [daily], prices=table)

Looking whether there is enough and taking it is one step. Before a call the most it may take is
set aside; after it, what it took is counted and the rest given back. So however many calls run
side by side, they take no more than there is. Only an answer that is longer than its `max_tokens`,
or a prompt longer than its estimate, can go beyond; then the next call waits for the next period.
"""

import math
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from threading import Lock

from foreman.llm.errors import BudgetExceeded

TOKENS = "tokens"


class Reservation:
    """What is set aside for one call; `settle` says what it took."""

    def __init__(self, budget: "Budget", amount: float) -> None:
        self._budget = budget
        self.amount = amount

    def settle(self, amount: float | None = None) -> None:
        """Count this much, and give the rest back; None: nobody knows, so count all of it.

        The first word is the one that counts.
        """
        self._budget.settle(self, self.amount if amount is None else amount)


class Budget:
    """An amount of tokens, or of money in the `unit` of the prices, for good or per `period`.

    `period` is in seconds; each begins where the last one ended. `clock` is monotonic. Loops and
    threads may share a budget. Raises ValueError for a limit or a period below 0.

    >>> budget = Budget("daily", 1000)
    >>> with budget.reserve(600) as reservation:
    ...     print(budget.remaining)
    ...     reservation.settle(150)
    400
    >>> budget.remaining, budget.percent
    (850, 15.0)
    """

    def __init__(
        self,
        name: str,
        limit: float,
        *,
        unit: str = TOKENS,
        period: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if limit < 0 or (period is not None and period <= 0):
            raise ValueError(f"budget {name!r}: neither its limit nor its period can be below 0")
        self.name = name
        self.limit = limit
        self.unit = unit
        self.period = period
        self._clock = clock
        self._began = clock()
        self._used: float = 0
        self._held: dict[Reservation, float] = {}
        self._lock = Lock()

    @property
    def used(self) -> float:
        """What was counted in this period."""
        with self._lock:
            return self._now_used()

    @property
    def reserved(self) -> float:
        """What is set aside for calls under way."""
        with self._lock:
            return self._reserved()

    @property
    def remaining(self) -> float:
        """What the next call may take; never below 0."""
        with self._lock:
            return self._remaining()

    @property
    def percent(self) -> float:
        """How much of the limit is used up."""
        return 100.0 * self.used / self.limit if self.limit else 100.0

    def can_use(self, amount: float) -> bool:
        """Whether there is this much now. Who means to take it calls `use` and sees."""
        with self._lock:
            return self._fits(amount)

    def use(self, amount: float) -> None:
        """Take it, all or nothing. Raises BudgetExceeded."""
        with self.reserve(amount) as reservation:
            reservation.settle()

    @contextmanager
    def reserve(self, amount: float) -> Generator[Reservation]:
        """Set it aside for the block; what is not settled by its end is given back.

        Raises BudgetExceeded, and ValueError for less than 0.
        """
        if not amount >= 0:
            raise ValueError(f"budget {self.name!r}: {amount} cannot be taken")
        reservation = Reservation(self, amount)
        with self._lock:
            if not self._fits(amount):
                raise BudgetExceeded(self._refusal(amount))
            self._held[reservation] = amount
        try:
            yield reservation
        finally:
            self.settle(reservation, 0)

    def settle(self, reservation: Reservation, amount: float) -> None:
        """See `Reservation.settle`."""
        with self._lock:
            if self._held.pop(reservation, None) is not None:
                self._used = self._now_used() + amount

    def reset(self) -> None:
        """Begin a new period now. Calls under way keep what is set aside for them."""
        with self._lock:
            self._began, self._used = self._clock(), 0

    def _now_used(self) -> float:
        if self.period is not None:
            periods = (self._clock() - self._began) // self.period
            if periods:
                self._began += periods * self.period
                self._used = 0
        return self._used

    def _reserved(self) -> float:
        """Added up anew each time: what came and went in floats would leave dust behind."""
        held = self._held.values()
        return sum(held) if self.unit == TOKENS else math.fsum(held)

    def _remaining(self) -> float:
        return max(0, self.limit - self._now_used() - self._reserved())

    def _fits(self, amount: float) -> bool:
        return self._now_used() + self._reserved() + amount <= self.limit

    def _refusal(self, amount: float) -> str:
        left = f"{self._remaining():.6g} of {self.limit:.6g} {self.unit} are left"
        return f"budget {self.name!r}: {left}, and the call could take {amount:.6g}"


@contextmanager
def reserve_all(
    amounts: Sequence[tuple[Budget, float]],
) -> Generator[tuple[Reservation, ...]]:
    """All of them or none. Raises BudgetExceeded."""
    if not amounts:
        yield ()
        return
    (budget, amount), *others = amounts
    with budget.reserve(amount) as first, reserve_all(others) as rest:
        yield (first, *rest)
