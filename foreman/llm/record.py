"""What is known of one request when it is over."""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from foreman.llm.attempts import Attempt, Skip
from foreman.llm.cost import Cost
from foreman.llm.policies import METADATA
from foreman.llm.usage import Usage


class Outcome(StrEnum):
    """How a request ended."""

    ANSWERED = "answered"
    FAILED = "failed"
    LEFT = "left"  # its caller cancelled it, or went before the end


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One request, as it went. Times are in seconds, `at` since 1970.

    `target` has answered, or was the last one to fail; "" when nobody was called.
    """

    id: str
    at: float
    asked: str
    """What the program asked: a model's name, or a chain's spec."""
    outcome: Outcome
    streamed: bool
    target: str = ""
    usage: Usage = Usage()
    cost: Cost | None = None
    reported_cost: float | None = None
    """What the vendor says it costs, in the vendor's unit."""
    latency: float | None = None
    """Until the answer, or the begin of a streamed one."""
    seconds: float = 0.0
    """Until it was over."""
    error: str = ""
    code: str = ""
    """The error's `Code`; "" for what is none of the library's."""
    status: int | None = None
    """The HTTP status that ended it, if one did."""
    history: tuple[Attempt | Skip, ...] = ()
    metadata: Mapping[str, str] = msgspec.field(default_factory=dict[str, str])
    """The request's own."""
    tier: str = ""
    score: float | None = None
    """How hard the request looked, from 0 to 1, where somebody scored it."""

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Calls that failed."""
        return tuple(step for step in self.history if isinstance(step, Attempt))

    @property
    def skips(self) -> tuple[Skip, ...]:
        """Candidates that were not called."""
        return tuple(step for step in self.history if isinstance(step, Skip))

    @property
    def policy(self) -> str:
        """The one the request named."""
        return self.metadata.get(METADATA, "")

    @property
    def provider(self) -> str:
        return self.target.partition("/")[0]

    @property
    def model(self) -> str:
        """The target's, or what was asked when nobody was called."""
        return self.target.partition("/")[2] if self.target else self.asked
