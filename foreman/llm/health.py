"""The health of every target, each with a breaker of its own, made when it is first asked for.

>>> health = Health(Breaking(threshold=1))
>>> try:
...     async with health["box/llama"].permit():
...         raise Unreachable("connection refused")
... except Unreachable:
...     print(health["box/llama"].snapshot())
box/llama: open, 1 failure in a row, again in 30 s (connection refused)
"""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import msgspec

from foreman.breaker import Breaker, State
from foreman.llm.permit import TargetHealth
from foreman.llm.snapshot import Snapshot, Status


class Breaking(msgspec.Struct, frozen=True, kw_only=True):
    """When a target is benched: after `threshold` failures in a row, for `cooldown` seconds.

    Each further time it is for `factor` times as long, up to `cap`. Then `probe` says how many
    calls at a time find out whether it is well. `enabled=False`: nothing is counted and nobody
    benched. Raises ValueError for what could not work.
    """

    threshold: int = 3
    cooldown: float = 30.0
    factor: float = 2.0
    cap: float = 300.0
    probe: Literal["single", "any"] = "single"
    enabled: bool = True

    def __post_init__(self) -> None:
        self.breaker(time.monotonic)

    def breaker(self, clock: Callable[[], float]) -> Breaker | None:
        """A new one; None when breaking is off."""
        new = Breaker(
            clock,
            threshold=self.threshold,
            cooldown=self.cooldown,
            factor=self.factor,
            cap=self.cap,
            probe=self.probe,
        )
        return new if self.enabled else None


class Health:
    """Health by target, which is `provider/model`. `clock` is monotonic, `wall` is time of day."""

    def __init__(
        self,
        breaking: Breaking = Breaking(),  # noqa: B008 - frozen
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._breaking = breaking
        self._clock = clock
        self._wall = wall
        self._targets: dict[str, TargetHealth] = {}

    def __getitem__(self, target: str) -> TargetHealth:
        found = self._targets.get(target)
        if found is None:
            found = TargetHealth(target, self._breaking.breaker(self._clock), self._wall)
            self._targets[target] = found
        return found

    def __iter__(self) -> Iterator[TargetHealth]:
        return iter(tuple(self._targets.values()))

    def snapshot(self) -> tuple[Snapshot, ...]:
        """Every target that was ever asked for, in that order."""
        return tuple(target.snapshot() for target in self)

    def reset(self) -> None:
        """Forget all failures and labels."""
        for target in self:
            target.reset()


def overall(snapshots: Iterable[Snapshot]) -> Status:
    """All of them in one word: UNAVAILABLE when each is benched, DEGRADED when some are not well.

    >>> overall(())
    <Status.AVAILABLE: 'available'>
    """
    states = {each.state if each.label.usable else State.OPEN for each in snapshots}
    if states <= {State.CLOSED}:
        return Status.AVAILABLE
    return Status.UNAVAILABLE if states == {State.OPEN} else Status.DEGRADED
