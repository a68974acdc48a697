"""What people see of the request log: a span of time, its figures, single requests."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from math import ceil

import msgspec

RANGES = {"last_1h": 3600, "last_24h": 86_400, "last_7d": 7 * 86_400, "last_30d": 30 * 86_400}
USUAL = "last_7d"


class Span(msgspec.Struct, frozen=True):
    """From `since` until before `until`, in microseconds since 1970."""

    since: int = 0
    until: int = 2**62


def span(preset: str = USUAL, since: str = "", until: str = "", now: float | None = None) -> Span:
    """One of RANGES until now; `since` and `until`, in ISO 8601, go before it. UTC if unsaid.

    Raises ValueError.

    >>> span("last_1h", now=7200.0)
    Span(since=3600000000, until=7200000001)
    """
    if preset not in RANGES:
        raise ValueError(f"there is no range {preset!r} among: {', '.join(RANGES)}")
    at = round((time.time() if now is None else now) * 1_000_000)
    begin = _moment(since) if since else at - RANGES[preset] * 1_000_000
    return Span(begin, _moment(until) if until else max(at, begin) + 1)


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of some requests. Tokens and `costs` (by unit) add up what is known.

    `unreported` answers left a part of their usage out, of `unpriced` ones nobody knows the cost.
    Averages are in milliseconds, None without a request.
    """

    requests: int = 0
    answered: int = 0
    failed: int = 0
    """Including those that were left."""
    streamed: int = 0
    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    unreported: int = 0
    unpriced: int = 0
    costs: Mapping[str, float] = msgspec.field(default_factory=dict[str, float])
    average_latency_ms: float | None = None
    average_duration_ms: float | None = None

    @property
    def success_rate(self) -> float:
        """In percent; 0 without a request."""
        return 100.0 * self.answered / self.requests if self.requests else 0.0


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of a span. `p50_ms`, `p95_ms`: half, 95 % of the answers began within these."""

    since: int
    until: int
    totals: Totals
    p50_ms: float | None = None
    p95_ms: float | None = None
    groups: Mapping[str, Totals] = msgspec.field(default_factory=dict[str, Totals])
    empty: bool = False
    message: str = ""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A call that failed (`called`), or a candidate that was passed over, and why."""

    target: str
    called: bool
    reason: str
    detail: str = ""
    duration_ms: float | None = None


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One request, as `foreman.llm.record.Record` has it; `at` in microseconds since 1970."""

    id: str
    at: int
    asked: str
    provider: str
    model: str
    policy: str
    tier: str
    score: float | None
    streamed: bool
    outcome: str
    success: bool
    input: int | None
    cache_read: int | None
    cache_write: int | None
    output: int | None
    cost: float | None
    unit: str | None
    reported_cost: float | None
    latency_ms: float | None
    duration_ms: float
    status: int | None
    code: str
    error: str
    steps: tuple[Step, ...] = ()


class Page(msgspec.Struct, frozen=True):
    """Some of the entries. Pages are counted from 1; one beyond the end is empty."""

    entries: tuple[Entry, ...]
    page: int
    per_page: int
    total: int

    @property
    def pages(self) -> int:
        return ceil(self.total / self.per_page)


def _moment(text: str) -> int:
    """Microseconds since 1970. Raises ValueError."""
    at = datetime.fromisoformat(text)
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1_000_000)
