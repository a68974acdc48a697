"""Is it alive, can it take work?"""

import msgspec

from foreman import __version__
from foreman.inventory import Inventory


class TargetHealth(msgspec.Struct, frozen=True):
    """The target as it was last seen; `polled_at` is seconds since 1970, None before that."""

    up: bool
    reason: str
    models: int
    polled_at: float | None


class Health(msgspec.Struct, frozen=True):
    """The body of GET /healthz; `status` is ok, or degraded while the target is away."""

    status: str
    version: str
    target: TargetHealth


class Ready(msgspec.Struct, frozen=True):
    """The body of GET /readyz."""

    status: str = "ready"


def health(inventory: Inventory) -> Health:
    """What an inventory says of the daemon's health."""
    target = TargetHealth(
        not inventory.degraded, inventory.reason, len(inventory.models), inventory.polled_at
    )
    return Health("degraded" if inventory.degraded else "ok", __version__, target)
