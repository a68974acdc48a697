"""What the worker remembers of the runs so far, for the next decision. Plain data, no clock."""

from dataclasses import dataclass, field

from foreman.jobs import Fingerprint, JobClass
from foreman.scheduling import LaneKey, Run, Turn, after

SERVED_KEPT = 4096  # lanes whose last service is remembered
MEAN_WEIGHT = 0.2  # of the newest job in the running mean of their lengths


@dataclass(slots=True)
class Progress:
    """The turn, when each lane was last served, and how long a job takes; monotonic seconds."""

    turn: Turn | None = None
    served: dict[LaneKey, float] = field(default_factory=dict[LaneKey, float])
    mean_seconds: float = 1.0
    _interactive_end: tuple[Fingerprint, float] | None = None

    def concluded(self, run: Run, load_s: float, spent: float, now: float) -> None:
        """`run` has ended at `now`, after `spent` seconds, `load_s` of them loading."""
        lane = run.lane
        self.turn = after(self.turn, run, load_s, spent - load_s)
        self.served[lane.key] = now
        while len(self.served) > SERVED_KEPT:
            del self.served[min(self.served, key=self.served.__getitem__)]
        if lane.job_class is JobClass.INTERACTIVE:
            self._interactive_end = (lane.fingerprint, now)
        self.mean_seconds += MEAN_WEIGHT * (spent - self.mean_seconds)

    def interactive_end(self, resident: Fingerprint | None) -> float | None:
        """When an interactive job last ended, if that was on `resident`."""
        if self._interactive_end is None or self._interactive_end[0] != resident:
            return None
        return self._interactive_end[1]
