"""Which of a chain's candidates a request may call, and in which order.

First what they can do, then their tier, then the policies, then the order. Their health comes
last, and is asked about just before each call.
"""

from collections.abc import Sequence

import msgspec

from foreman.llm.attempts import Skip, SkipReason
from foreman.llm.candidates import Candidate, Selection
from foreman.llm.ordering import Order, as_written
from foreman.llm.policies import Match, Policy, match
from foreman.llm.prices import Prices
from foreman.llm.request import Request
from foreman.llm.tiers import Tier, Tiers


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """How to choose. `always` is a policy that every request keeps to.

    `prices` are needed by policies that have a limit; an order brings its own.
    """

    order: Order = as_written
    tiers: Tiers = Tiers()
    policies: tuple[Policy, ...] = ()
    always: Policy | None = None
    prices: Prices | None = None

    def select(self, request: Request, candidates: Sequence[Candidate]) -> Selection:
        """Whom to call, and who was passed over and why. Raises InvalidRequest, see `policies`."""
        found = match(request, self.policies)
        rules = [self.always] if self.always is not None else []
        if found is not None and found.named:
            rules.append(found.policy)
        kept, skips = _capable(request, candidates)
        floor = max((rule.floor for rule in rules), default=Tier.LOCAL)
        tiered = self.tiers.select(request, kept, floor)
        kept, skips = [*tiered.candidates], [*skips, *tiered.skips]
        for rule in rules:
            kept, refused = self._permitted(request, kept, rule)
            skips += refused
        ordered = self._ordered(request, kept, found)
        return Selection(tuple(ordered), tuple(skips))

    def _permitted(
        self, request: Request, candidates: Sequence[Candidate], rule: Policy
    ) -> tuple[list[Candidate], list[Skip]]:
        kept: list[Candidate] = []
        skips: list[Skip] = []
        for each in candidates:
            refusal = rule.refuses(request, each, self.prices)
            if refusal is None:
                kept.append(each)
            else:
                skips.append(refusal)
        return kept, skips

    def _ordered(
        self, request: Request, candidates: Sequence[Candidate], found: Match | None
    ) -> Sequence[Candidate]:
        if found is None:
            return self.order(request, candidates)
        order = found.policy.order or self.order
        if found.named:
            return order(request, candidates)
        first, rest = self._steered(request, candidates, found.policy)
        return [*order(request, first), *self.order(request, rest)]

    def _steered(
        self, request: Request, candidates: Sequence[Candidate], policy: Policy
    ) -> tuple[list[Candidate], list[Candidate]]:
        """What a guessed policy prefers, and the others."""
        permitted, _ = self._permitted(request, candidates, policy)
        first = [each for each in permitted if self.tiers.tier(each.name) >= policy.floor]
        return first, [each for each in candidates if each not in first]


def _capable(
    request: Request, candidates: Sequence[Candidate]
) -> tuple[list[Candidate], list[Skip]]:
    kept: list[Candidate] = []
    skips: list[Skip] = []
    for each in candidates:
        missing = each.model.capabilities.lacks(request)
        if missing:
            skips.append(Skip(each.name, SkipReason.INCAPABLE, detail=missing))
        else:
            kept.append(each)
    return kept, skips
