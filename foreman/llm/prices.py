"""What tokens cost, as far as a choice has to know. `foreman.llm.cost` has the tables."""

from typing import Protocol

import msgspec

from foreman.llm.capabilities import prompt_estimate
from foreman.llm.request import Request
from foreman.llm.usage import Usage

ANSWER = 256  # tokens an answer is taken to have when its request does not say
MILLION = 1_000_000


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """Prices per 1,000,000 tokens, in `unit`; `base_fee` is per request.

    A cache rate that is None bills those tokens as input. What runs at home has rates of 0; a
    target whose price nobody knows has no Rates at all.

    >>> rates = Rates(input=10_000, output=30_000, base_fee=1, unit="sats")
    >>> rates.cost(Usage.uncached(input=100, output=200))
    8.0
    >>> rates.cost(Usage()) is None
    True

    Raises ValueError for a price below 0.
    """

    input: float
    output: float
    cache_read: float | None = None
    cache_write: float | None = None
    base_fee: float = 0.0
    unit: str = "USD"

    def __post_init__(self) -> None:
        prices = (self.input, self.output, self.cache_read, self.cache_write, self.base_fee)
        if not all(price is None or price >= 0 for price in prices):
            raise ValueError("prices have to be 0 or above")

    def cost(self, usage: Usage) -> float | None:
        """What this usage costs, in `unit`; None when a part of it is unknown."""
        read, write = self.cache_read, self.cache_write
        prices = (
            self.input,
            self.input if read is None else read,
            self.input if write is None else write,
            self.output,
        )
        total = 0.0
        for tokens, price in zip(usage.parts, prices, strict=True):
            if tokens is None:
                return None
            total += tokens * price
        return total / MILLION + self.base_fee

    def expected(self, request: Request) -> float:
        """What this request will cost, in `unit`, if its answer is as long as it may be.

        Without `max_tokens` an answer is taken to have 256.

        >>> Rates(input=3.0, output=15.0).expected(Request.of("x" * 400))
        0.00414
        """
        output = request.options.max_tokens or ANSWER
        tokens = prompt_estimate(request) * self.input + output * self.output
        return tokens / MILLION + self.base_fee

    def blended(self, ratio: float = 3.0) -> float:
        """A price for any request whose answers have `ratio` tokens for each of the prompt's.

        >>> Rates(input=3_000, output=10_000).blended()
        8250.0
        """
        return (self.input + ratio * self.output) / (1 + ratio) + self.base_fee


class Prices(Protocol):
    """Who knows what a target costs."""

    def rates(self, target: str) -> Rates | None:
        """Of `provider/model`; None when nobody knows, which is not the same as nothing."""
        ...
