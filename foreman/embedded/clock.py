"""The time of day, told by trio's clock, so that virtual time moves the timestamps too."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import cached_property

import trio

MAX_SECONDS = (2**63 - 1) / 1e9  # Go's longest duration, 292 years: what "for ever" is on the wire


class Clock:
    """Anchored to the system's clock when it is first read, which a trio program must do."""

    @cached_property
    def _zero(self) -> datetime:
        return datetime.now(UTC) - timedelta(seconds=trio.current_time())

    def at(self, moment: float) -> datetime:
        """The time of day at that trio time."""
        return self._zero + timedelta(seconds=moment)

    def stamp(self, moment: float | None = None) -> str:
        """RFC 3339 in UTC, of now or of that trio time."""
        when = trio.current_time() if moment is None else moment
        return self.at(when).isoformat(timespec="microseconds").replace("+00:00", "Z")

    def unix(self) -> int:
        """Whole seconds since 1970."""
        return int(self.at(trio.current_time()).timestamp())

    def http_date(self) -> bytes:
        """The value of a Date header."""
        return format_datetime(self.at(trio.current_time()), usegmt=True).encode()
