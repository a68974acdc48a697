"""What the worker believes is loaded, what loads have cost, and what first come would have cost."""

from dataclasses import dataclass, field

from foreman.jobs import Fingerprint

SURE_FOR = 30.0
"""Seconds after a job's end for which its model is taken to be loaded still. Well below Ollama's
five minutes of keep_alive; after it, a load request goes first, which costs one round trip if the
model is there and turns a hidden load into one that is seen and timed if it is not."""

LOAD_FLOOR = 0.25
"""A load request that took less than this fraction of the last known load found the model there."""


@dataclass(slots=True)
class Residency:
    """Folds what happened at the target; all times are monotonic seconds."""

    resident: Fingerprint | None = None
    costs: dict[Fingerprint, float] = field(default_factory=dict[Fingerprint, float])
    loads: int = 0
    fcfs_loads: int = 0
    _sure_until: float = float("-inf")
    _last_arrival: Fingerprint | None = None

    def arrived(self, fingerprint: Fingerprint) -> None:
        """Count the load that first come, first served would spend on this arrival."""
        if fingerprint != self._last_arrival:
            self.fcfs_loads += 1
            self._last_arrival = fingerprint

    def is_sure(self, fingerprint: Fingerprint, now: float) -> bool:
        """Loaded, without having to ask."""
        return fingerprint == self.resident and now < self._sure_until

    def loaded(self, fingerprint: Fingerprint, seconds: float) -> bool:
        """A load request took `seconds`. True when it really was a load."""
        known = self.costs.get(fingerprint)
        was_there = (
            fingerprint == self.resident and known is not None and seconds < known * LOAD_FLOOR
        )
        self.resident = fingerprint
        if not was_there:
            self.costs[fingerprint] = seconds
            self.loads += 1
        return not was_there

    def used(self, fingerprint: Fingerprint, now: float, keep_alive: float | None) -> None:
        """A job has ended on `fingerprint`; the target keeps it `keep_alive` s (None: default)."""
        self.resident = fingerprint
        kept = SURE_FOR if keep_alive is None or keep_alive < 0 else min(SURE_FOR, keep_alive)
        self._sure_until = now + kept

    def forget(self, model_key: str | None = None) -> None:
        """The model (or whatever is loaded) may be gone."""
        if self.resident is not None and model_key in (None, self.resident.model):
            self.resident = None
        if self.resident is None:
            self._sure_until = float("-inf")
