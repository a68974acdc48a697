"""In which order candidates are called. An order is a function; these are the usual ones.

What an order cannot compare keeps the order of the spec.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

from foreman.llm.candidates import Candidate, setting
from foreman.llm.prices import Prices
from foreman.llm.request import Request

Order = Callable[[Request, Sequence[Candidate]], Sequence[Candidate]]
"""Puts the candidates into an order; it may name one twice, which is then called twice."""

USUAL = 100  # the priority of those who were given none


def as_written(_request: Request, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
    """As the spec has them."""
    return candidates


def priority(priorities: Mapping[str, int]) -> Order:
    """The lowest number first, by `provider/model` or by provider; 100 where none is given."""

    def order(_request: Request, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        return sorted(candidates, key=lambda each: setting(priorities, each.name, USUAL))

    return order


def cheapest(prices: Prices, ratio: float | None = None) -> Order:
    """The lowest cost expected of this request first; those of one price by name.

    With a `ratio` it is the same order for every request: the blended price, see `Rates`. Those
    whose price nobody knows come last. All prices have to be in the same unit.
    """

    def cost(request: Request, target: str) -> float:
        rates = prices.rates(target)
        if rates is None:
            return math.inf
        return rates.expected(request) if ratio is None else rates.blended(ratio)

    def order(request: Request, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        return sorted(candidates, key=lambda each: (cost(request, each.name), each.name))

    return order


def lowest_latency(_request: Request, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
    """The one that answers fastest first; those never called before all, or nobody would know."""
    return sorted(candidates, key=lambda each: each.health.latency or 0.0)


def round_robin() -> Order:
    """Each request begins with the next one. Make one per chain: it counts."""
    turns = itertools.count()

    def order(_request: Request, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        start = next(turns) % max(1, len(candidates))
        return [*candidates[start:], *candidates[:start]]

    return order
