"""Tiers: how good, and how dear, a target is. A request has a ceiling, and a floor below it."""

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Protocol

import msgspec

from foreman.llm.attempts import Skip, SkipReason
from foreman.llm.candidates import Candidate, Selection, setting
from foreman.llm.request import Request

METADATA = "complexity"
"""The request's own word on how hard it is: `high`, `medium` or `low`. Others count for nothing."""


class Tier(IntEnum):
    """From what runs at home to the best there is."""

    LOCAL = 0
    STANDARD = 1
    FRONTIER = 2


_BY_WORD = {"low": Tier.LOCAL, "medium": Tier.STANDARD, "high": Tier.FRONTIER}


class Scoring(Protocol):
    """Says how hard a request is; see `foreman.llm.complexity`."""

    def score(self, request: Request) -> float: ...

    def tier(self, score: float) -> Tier: ...


class Tiers(msgspec.Struct, frozen=True, kw_only=True):
    """Keeps the candidates within the tiers that a request is worth.

    `of` has the tier of a `provider/model` or a provider; the others are STANDARD. The ceiling is
    what `scoring` says, or `ceiling`, whichever is lower. It rises while nobody below it could be
    called. Nothing below `floor` is called; with `protect` what `scoring` says is the floor too,
    so that a hard request never goes to a lesser model because that one is cheaper.
    """

    of: Mapping[str, Tier] = msgspec.field(default_factory=dict[str, Tier])
    scoring: Scoring | None = None
    ceiling: Tier = Tier.FRONTIER
    floor: Tier = Tier.LOCAL
    protect: bool = False

    def tier(self, target: str) -> Tier:
        return setting(self.of, target, Tier.STANDARD)

    def bounds(self, request: Request) -> tuple[Tier, Tier]:
        """The floor and the ceiling. Where they contradict, the floor holds."""
        worth = self._worth(request)
        floor = self.floor if worth is None or not self.protect else max(self.floor, worth)
        ceiling = self.ceiling if worth is None else min(self.ceiling, worth)
        return floor, max(floor, ceiling)

    def select(
        self, request: Request, candidates: Sequence[Candidate], floor: Tier = Tier.LOCAL
    ) -> Selection:
        """Those within the bounds; `floor` is one more, a policy's."""
        lowest, highest = self.bounds(request)
        lowest = max(lowest, floor)
        ceiling = Tier(max(lowest, highest))
        while ceiling < Tier.FRONTIER and not self._callable(candidates, lowest, ceiling):
            ceiling = Tier(ceiling + 1)
        kept = self._within(candidates, lowest, ceiling)
        skips = (
            Skip(each.name, SkipReason.TIER, detail=self.tier(each.name).name.lower())
            for each in candidates
            if each not in kept
        )
        return Selection(tuple(kept), tuple(skips))

    def _worth(self, request: Request) -> Tier | None:
        said = _BY_WORD.get(request.metadata.get(METADATA, ""))
        if said is not None or self.scoring is None:
            return said
        return self.scoring.tier(self.scoring.score(request))

    def _within(
        self, candidates: Sequence[Candidate], lowest: Tier, highest: Tier
    ) -> list[Candidate]:
        return [each for each in candidates if lowest <= self.tier(each.name) <= highest]

    def _callable(self, candidates: Sequence[Candidate], lowest: Tier, highest: Tier) -> bool:
        return any(each.health.usable for each in self._within(candidates, lowest, highest))
