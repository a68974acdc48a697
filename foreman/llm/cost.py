"""What calls cost: a table of prices, which the program or a TOML file brings.

    unit = "USD"                    # of every price below; per 1,000,000 tokens

    [openai]                        # every model of this provider ...
    input = 2.5
    output = 10

    ["openai/gpt-4o-mini"]          # ... but this one
    input = 0.15
    output = 0.6
    cache_read = 0.075              # without it, what the cache gave is billed as input
    base_fee = 0.0                  # per request

What is not in the table has a price nobody knows. What runs at home has prices of 0.
"""

import tomllib
from collections.abc import Iterable, Mapping
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import cast

import msgspec

from foreman.llm.candidates import setting
from foreman.llm.capabilities import prompt_estimate
from foreman.llm.errors import SpecError
from foreman.llm.prices import ANSWER, Prices, Rates
from foreman.llm.request import Request
from foreman.llm.usage import Usage

USUAL_UNIT = "USD"


class Cost(msgspec.Struct, frozen=True):
    """An amount of money, or of whatever the unit says.

    >>> print(Cost(0.006525), Cost(0.0000019), Cost(8.0, "sats"))
    0.006525 USD 0.0000019 USD 8 sats
    """

    amount: float
    unit: str = USUAL_UNIT

    def __str__(self) -> str:
        return f"{Decimal(f'{self.amount:.6g}'):f} {self.unit}"  # never 2e-06


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """What one target would take for a request, before it is asked. Nobody was called for it.

    `input` and `output` are tokens; `cost` and `rates` are None when nobody knows the price.
    """

    target: str
    input: int
    output: int
    cost: Cost | None
    rates: Rates | None


class PriceTable:
    """Rates by `provider/model`, or by provider for those of its models that have none.

    >>> table = PriceTable({"cloud": Rates(input=3, output=6, cache_read=0.3, cache_write=3.75)})
    >>> usage = Usage(input=1000, output=500, cache_read=500, cache_write=100)
    >>> print(table.cost("cloud/any-model", usage))
    0.006525 USD
    >>> table.cost("elsewhere/model", usage) is None
    True
    """

    def __init__(self, rates: Mapping[str, Rates] | None = None) -> None:
        self._rates: dict[str, Rates | None] = dict(rates or {})

    @classmethod
    def merged(cls, offers: Iterable[tuple[str, Rates]]) -> "PriceTable":
        """From offers of which several may be for one name; the cheapest, blended, is taken."""
        cheapest: dict[str, Rates] = {}
        for name, rates in offers:
            cheapest[name] = min(cheapest.get(name, rates), rates, key=Rates.blended)
        return cls(cheapest)

    @classmethod
    def parse(cls, document: Mapping[str, object]) -> "PriceTable":
        """From what a TOML file says. Raises SpecError, which names the entry that is wrong."""
        unit = document.get("unit", USUAL_UNIT)
        if not isinstance(unit, str):
            raise SpecError("prices: `unit` is a word, such as USD")
        entries = ((name, value) for name, value in document.items() if name != "unit")
        return cls({name: _rates(name, value, unit) for name, value in entries})

    @classmethod
    def read(cls, path: Path) -> "PriceTable":
        """From a TOML file. Raises SpecError for what it says, OSError when it cannot be read."""
        try:
            return cls.parse(tomllib.loads(path.read_text(encoding="utf-8")))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, SpecError) as error:
            raise SpecError(f"{path}: {error}") from error

    def rates(self, target: str) -> Rates | None:
        """Of `provider/model`; None when nobody knows."""
        return setting(self._rates, target, None)

    def cost(self, target: str, usage: Usage) -> Cost | None:
        """What this usage costs there; None without a price, or with a part of it unknown."""
        return cost(self, target, usage)

    def estimate(self, target: str, request: Request) -> Estimate:
        """What the request would cost there: a quarter of its characters in, `max_tokens` out.

        Without `max_tokens` an answer is taken to have 256.
        """
        rates = self.rates(target)
        return Estimate(
            target=target,
            input=prompt_estimate(request),
            output=request.options.max_tokens or ANSWER,
            cost=None if rates is None else Cost(rates.expected(request), rates.unit),
            rates=rates,
        )


def cost(prices: Prices, target: str, usage: Usage) -> Cost | None:
    """What this usage of a target costs; None without a price, or with a part of it unknown."""
    rates = prices.rates(target)
    amount = None if rates is None else rates.cost(usage)
    return None if rates is None or amount is None else Cost(amount, rates.unit)


def _rates(name: str, value: object, unit: str) -> Rates:
    if not isinstance(value, Mapping):
        raise SpecError(f"prices of {name!r}: write a table with `input` and `output`")
    fields = cast("Mapping[str, object]", value)
    known = Rates.__struct_fields__
    for field in fields:
        if field not in known:
            near = get_close_matches(field, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"
            raise SpecError(f"prices of {name!r}: there is no {field!r}; {hint}")
    try:
        return msgspec.convert({"unit": unit, **fields}, Rates)
    except msgspec.ValidationError as error:
        raise SpecError(f"prices of {name!r}: {error}") from error
