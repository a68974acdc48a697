"""What happened on the way to an answer: calls that failed, and targets that were not called."""

from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from foreman.llm.errors import CallError


class SkipReason(StrEnum):
    """Why a candidate was not called."""

    COOLING_DOWN = "cooling down"  # benched; retry_in says for how long
    PROBING = "being probed by another call"
    DISABLED = "disabled by hand"
    INCAPABLE = "lacks what the request needs"
    WINDOW = "its window is not larger"  # after ContextTooLong
    TIER = "outside the tiers allowed"
    POLICY = "not allowed by the policy"
    PRICE = "above the price allowed"
    WAIT = "would start too late"


class Attempt(msgspec.Struct, frozen=True):
    """One call that failed. `seconds`: how long it took."""

    target: str
    error: "CallError"
    seconds: float

    def __str__(self) -> str:
        return f"{self.target}: {self.error.reason} (after {self.seconds:.3g} s)"


class Skip(msgspec.Struct, frozen=True):
    """One candidate that was not called. `retry_in`: seconds until it would be, where known."""

    target: str
    reason: SkipReason
    retry_in: float | None = None
    detail: str = ""

    def __str__(self) -> str:
        detail = f": {self.detail}" if self.detail else ""
        later = "" if self.retry_in is None else f", again in {self.retry_in:.3g} s"
        return f"{self.target}: skipped, {self.reason}{detail}{later}"


Step = Attempt | Skip
