"""How a chain goes on when a call fails: how often, how long, and with whom."""

import msgspec


class Failover(msgspec.Struct, frozen=True, kw_only=True):
    """The settings; what an error means is the classifier's to say. Times are in seconds.

    Raises ValueError for what could not work.
    """

    retries: int = 1
    """Further calls to a target that failed."""
    fallback_retries: int | None = None
    """The same for every target but the first that is called; None: as for the first."""
    backoff: tuple[float, ...] = ()
    """Pauses before each retry; the last one is for all that follow. None: at once."""
    longest_rest: float = 10.0
    """The longest a target may ask to be let alone and be waited for; else the next is called."""
    targets: int | None = None
    """Targets that are called at most."""
    deadline: float | None = None
    """For a whole answer, or the begin of a streamed one, with all retries and pauses."""
    advance_on_permanent: bool = False
    """The next target is called although this one knew the request, or the key, to be wrong."""
    probe_first: bool = False
    """A target whose pause is over goes in front, whatever its place, so that it gets its probe."""

    def __post_init__(self) -> None:
        counts = (self.retries, self.fallback_retries or 0, self.longest_rest, *self.backoff)
        limits = (each for each in (self.targets, self.deadline) if each is not None)
        if not all(count >= 0 for count in counts) or not all(limit > 0 for limit in limits):
            raise ValueError("retries and pauses have to be 0 or above, targets and deadline more")

    def pause(self, failures: int) -> float:
        """Seconds before the next call to a target that failed so many times."""
        if not self.backoff:
            return 0.0
        return self.backoff[min(failures, len(self.backoff)) - 1]


CHAIN = Failover()
"""Every target in turn, each once more at once."""
ROUTER = Failover(
    retries=2,
    fallback_retries=0,
    backoff=(1.0, 2.0, 4.0),
    targets=2,
    deadline=30.0,
    probe_first=True,
)
"""arbstr's: the first target three times, then another one once, within 30 s."""
