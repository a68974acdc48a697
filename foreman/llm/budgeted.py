"""A model that keeps to budgets."""

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager

from foreman.llm.budgets import TOKENS, Budget, Reservation, reserve_all
from foreman.llm.capabilities import prompt_estimate
from foreman.llm.cost import cost
from foreman.llm.errors import BudgetExceeded, LLMError
from foreman.llm.model import Model, Stream
from foreman.llm.prices import MILLION, Prices
from foreman.llm.request import Request
from foreman.llm.response import Event, Response
from foreman.llm.wrapper import Tap, Wrapper

LONGEST = 4096  # tokens set aside for an answer whose length the request leaves open


class Budgeted(Wrapper):
    """Calls the model when each of its budgets has room for it.

    A budget in tokens needs nothing else; one in money needs `prices`, and sets aside what the
    dearest of the model's targets would take; where nobody knows a price, the call is refused.
    Calls raise BudgetExceeded before the model is called.

    A call that fails before its answer began takes nothing. One whose use nobody has told, because
    it broke off or was left, takes all that was set aside.
    """

    def __init__(
        self, model: Model, budgets: Sequence[Budget], *, prices: Prices | None = None
    ) -> None:
        super().__init__(model)
        self._budgets = budgets
        self._prices = prices

    async def complete(self, request: Request) -> Response:
        with self._held(request) as call:
            response = await self._model.complete(request)
            call.answered(response)
            return response

    def stream(self, request: Request) -> Stream:
        return self._stream(request)

    @asynccontextmanager
    async def _stream(self, request: Request) -> AsyncGenerator[AsyncIterator[Event]]:
        with self._held(request) as call:
            async with self._model.stream(request) as events:
                yield Tap(events, call.see)

    @contextmanager
    def _held(self, request: Request) -> Generator["_Call"]:
        amounts = [(budget, self._most(budget, request)) for budget in self._budgets]
        with reserve_all(amounts) as reservations:
            call = _Call(self._budgets, reservations, self._prices)
            try:
                yield call
            except LLMError:
                call.failed()
                raise
            except BaseException:
                call.lost()
                raise
            call.lost()  # of no effect on one that was answered

    def _most(self, budget: Budget, request: Request) -> float:
        """The most a call may take. Raises BudgetExceeded when nobody could say."""
        prompt, answer = prompt_estimate(request), request.options.max_tokens or LONGEST
        if budget.unit == TOKENS:
            return prompt + answer
        most = 0.0
        for target in self.targets:
            rates = None if self._prices is None else self._prices.rates(target)
            if rates is None or rates.unit != budget.unit:
                raise BudgetExceeded(
                    f"budget {budget.name!r}: nobody knows what {target} costs in {budget.unit}"
                )
            dearest = max(rates.input, rates.cache_read or 0, rates.cache_write or 0)
            tokens = prompt * dearest + answer * rates.output
            most = max(most, tokens / MILLION + rates.base_fee)
        return most


class _Call:
    """One call under way, and what is set aside for it."""

    def __init__(
        self,
        budgets: Sequence[Budget],
        reservations: Sequence[Reservation],
        prices: Prices | None,
    ) -> None:
        self._pairs = [*zip(budgets, reservations, strict=True)]
        self._prices = prices
        self._begun = False

    def see(self, event: Event) -> None:
        self._begun = self._begun or event.begins
        if event.response is not None:
            self.answered(event.response)

    def answered(self, response: Response) -> None:
        for budget, reservation in self._pairs:
            reservation.settle(self._took(budget, response))

    def failed(self) -> None:
        if self._begun:
            self.lost()

    def lost(self) -> None:
        """Nobody will say what it took."""
        for _, reservation in self._pairs:
            reservation.settle()

    def _took(self, budget: Budget, response: Response) -> float | None:
        if budget.unit == TOKENS:
            return response.usage.total
        took = None
        if self._prices is not None:
            took = cost(self._prices, response.target, response.usage)
        return took.amount if took is not None and took.unit == budget.unit else None
