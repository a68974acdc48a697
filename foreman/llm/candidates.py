"""Whom a chain may call, and what is left of them when the choosing is done."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from foreman.llm.attempts import Skip
from foreman.llm.capabilities import Capabilities, ImageLimits
from foreman.llm.model import Model
from foreman.llm.permit import TargetHealth

T = TypeVar("T")


class Candidate(msgspec.Struct, frozen=True):
    """A model, and the health of the target it stands for."""

    model: Model
    health: TargetHealth

    @property
    def name(self) -> str:
        """Its `provider/model`."""
        return self.health.name


class Selection(msgspec.Struct, frozen=True):
    """Whom to call, in this order, and who was passed over."""

    candidates: tuple[Candidate, ...]
    skips: tuple[Skip, ...] = ()


def setting(table: Mapping[str, T], target: str, default: T) -> T:
    """What a table says of a target: by `provider/model`, else by the provider alone.

    >>> setting({"openai": 20, "openai/gpt-4": 5}, "openai/gpt-4o", 100)
    20
    """
    if target in table:
        return table[target]
    return table.get(target.partition("/")[0], default)


def combined(known: Sequence[Capabilities]) -> Capabilities:
    """What one of them at least can do; a limit that one does not know is none.

    >>> combined([Capabilities(tools=False, context=8192), Capabilities(context=128_000)]).context
    128000
    """
    limits = [each.images for each in known if each.images is not None]
    values: dict[str, Any] = {
        field: any(getattr(each, field) for each in known)
        for field in Capabilities.__struct_fields__
    }
    values["context"] = _largest([each.context for each in known])
    values["max_output"] = _largest([each.max_output for each in known])
    values["images"] = (
        None
        if not limits
        else ImageLimits(
            media_types=frozenset[str]().union(*(each.media_types for each in limits)),
            edge=_largest([each.edge for each in limits]),
            size=_largest([each.size for each in limits]),
        )
    )
    return Capabilities(**values)


def _largest(limits: Sequence[int | None]) -> int | None:
    known = [limit for limit in limits if limit is not None]
    return max(known) if len(known) == len(limits) else None
