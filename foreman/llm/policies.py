"""Policies: which targets a kind of request may use, what it may cost, and how they are ordered.

A request names its policy in `metadata["policy"]`: then it holds. One found by a keyword in the
last thing the user said is a guess: it puts what it allows in front and forbids nothing.
"""

import re
from collections.abc import Sequence

import msgspec

from foreman.llm.attempts import Skip, SkipReason
from foreman.llm.candidates import Candidate
from foreman.llm.errors import InvalidRequest
from foreman.llm.messages import Role
from foreman.llm.ordering import Order
from foreman.llm.prices import Prices
from foreman.llm.request import Request
from foreman.llm.tiers import Tier

METADATA = "policy"


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """One rule. What is None, or empty, limits nothing.

    `allowed` has targets (`provider/model`), providers or models. `max_output_price` is per
    1,000,000 tokens, `max_cost` for the whole request, both in the unit of the prices; a target
    whose price nobody knows keeps to no limit. `keywords` are whole words, in any case.
    """

    name: str = ""
    allowed: tuple[str, ...] = ()
    max_output_price: float | None = None
    max_cost: float | None = None
    floor: Tier = Tier.LOCAL
    order: Order | None = None
    keywords: tuple[str, ...] = ()

    def matches(self, text: str) -> bool:
        """Whether one of the keywords stands in the text.

        >>> Policy(keywords=("code",)).matches("Read the barcode")
        False
        """
        words = "|".join(re.escape(word.lower()) for word in self.keywords)
        return bool(words) and bool(re.search(rf"(?<!\w)(?:{words})(?!\w)", text.lower()))

    def refuses(self, request: Request, candidate: Candidate, prices: Prices | None) -> Skip | None:
        """Why this candidate may not be called; None when it may."""
        if not self._allows(candidate.name):
            return Skip(candidate.name, SkipReason.POLICY, detail=self.name)
        reason = self._too_dear(request, candidate.name, prices)
        return Skip(candidate.name, SkipReason.PRICE, detail=reason) if reason else None

    def _allows(self, target: str) -> bool:
        provider, _, model = target.partition("/")
        return not self.allowed or not {target, provider, model}.isdisjoint(self.allowed)

    def _too_dear(self, request: Request, target: str, prices: Prices | None) -> str:
        if self.max_output_price is None and self.max_cost is None:
            return ""
        rates = None if prices is None else prices.rates(target)
        if rates is None:
            return "nobody knows its price"
        if self.max_output_price is not None and rates.output > self.max_output_price:
            return f"{rates.output:g} {rates.unit} per 1M tokens"
        cost = rates.expected(request)
        if self.max_cost is not None and cost > self.max_cost:
            return f"{cost:.3g} {rates.unit} expected"
        return ""


class Match(msgspec.Struct, frozen=True):
    """The policy of a request; `named`: the request asked for it, so it holds."""

    policy: Policy
    named: bool


def match(request: Request, policies: Sequence[Policy]) -> Match | None:
    """The one the request names, else the first with a keyword in the user's last message.

    Raises InvalidRequest for a name that no policy has.
    """
    name = request.metadata.get(METADATA)
    if name is not None:
        found = next((each for each in policies if each.name == name), None)
        if found is None:
            known = ", ".join(each.name for each in policies) or "none is defined"
            raise InvalidRequest(f"there is no policy {name!r} among: {known}")
        return Match(found, named=True)
    said = next((each.text for each in reversed(request.messages) if each.role is Role.USER), "")
    guess = next((each for each in policies if each.matches(said)), None)
    return None if guess is None else Match(guess, named=False)
