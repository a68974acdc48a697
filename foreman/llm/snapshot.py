"""A target's health as people see it: worked out when it is read, stored nowhere."""

from enum import StrEnum

import msgspec

from foreman.breaker import State


class Label(StrEnum):
    """What people say of a target, whatever its breaker thinks."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"  # it may be called all the same
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"

    @property
    def usable(self) -> bool:
        return self in {Label.HEALTHY, Label.DEGRADED}


class Status(StrEnum):
    """A target, or all of them, in one word."""

    AVAILABLE = "available"
    DEGRADED = "degraded"
    UNAVAILABLE = "unavailable"


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A target as it was when somebody looked. Times are seconds since 1970; None: never."""

    target: str
    state: State
    label: Label
    failures: int  # in a row
    trips: int  # times it was benched, ever
    retry_in: float  # seconds until it may be called
    reason: str  # what its last failure said; "" since its last success
    last_failure: float | None
    last_success: float | None
    latency: float | None  # seconds, see TargetHealth

    @property
    def status(self) -> Status:
        if not self.label.usable or self.state is State.OPEN:
            return Status.UNAVAILABLE
        well = self.label is Label.HEALTHY and self.state is State.CLOSED
        return Status.AVAILABLE if well else Status.DEGRADED

    def __str__(self) -> str:
        parts = [str(self.state).replace("_", " ")]
        if self.label is not Label.HEALTHY:
            parts.append(f"{self.label} by hand")
        if self.failures:
            parts.append(f"{self.failures} failure{'s' * (self.failures > 1)} in a row")
        if self.retry_in:
            parts.append(f"again in {self.retry_in:.3g} s")
        reason = f" ({self.reason})" if self.reason else ""
        return f"{self.target}: {', '.join(parts)}{reason}"
