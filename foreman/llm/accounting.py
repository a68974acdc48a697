"""What every target and every provider has done so far: calls, tokens, money, time, failures.

ledger = Ledger()
model = Observed(chain, ledger.record, prices=table)
...
print(ledger.provider("openai").costs, ledger.target("m1/qwen3:8b").success_rate)
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import ceil

import msgspec

from foreman.llm.cost import Cost
from foreman.llm.record import Outcome, Record
from foreman.llm.usage import Usage

KEPT = 1000  # samples of an account; the oldest go


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One answer. `at` is in seconds since 1970, `seconds` until the answer, or its begin."""

    id: str
    at: float
    target: str
    usage: Usage = Usage()
    cost: Cost | None = None
    seconds: float | None = None
    metadata: Mapping[str, str] = msgspec.field(default_factory=dict[str, str])


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """An account as it was when somebody looked."""

    name: str
    requests: int
    answered: int
    failed: int
    success_rate: float
    usage: Usage
    unreported: int
    costs: Mapping[str, float]
    unpriced: int
    latency: float | None
    last_at: float | None
    last_error: str


class Account:
    """What was asked of one target, or of all of a provider's.

    `usage` and `costs` add up what is known: `unreported` answers left a part of their usage out,
    and of `unpriced` ones nobody knows the cost. A request here is one call to the target.
    """

    def __init__(
        self, name: str, *, keep: int = KEPT, clock: Callable[[], float] = time.time
    ) -> None:
        self.name = name
        self._clock = clock
        self._samples: deque[Sample] = deque(maxlen=keep)
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.answered = 0
        self.failed = 0
        self.usage = Usage.none()
        self.unreported = 0
        self.costs: dict[str, float] = {}
        self.unpriced = 0
        self.last_at: float | None = None
        self.last_error = ""
        self._whole_tokens = 0  # of the answers that told everything
        self._samples.clear()

    def record(self, sample: Sample) -> None:
        """One answer."""
        self.answered += 1
        self.last_at = sample.at
        self.add_usage(sample.usage)
        if sample.usage.total is None:
            self.unreported += 1
        else:
            self._whole_tokens += sample.usage.total
        if sample.cost is None:
            self.unpriced += 1
        else:
            unit = sample.cost.unit
            self.costs[unit] = self.costs.get(unit, 0.0) + sample.cost.amount
        self._samples.append(sample)

    def fail(self, reason: str) -> None:
        """One call that failed."""
        self.failed += 1
        self.last_at = self._clock()
        self.last_error = reason

    def add_usage(self, usage: Usage) -> None:
        """Tokens that no request is counted for."""
        self.usage += Usage(
            **{
                name: value or 0
                for name, value in zip(Usage.__struct_fields__, usage.parts, strict=True)
            }
        )

    @property
    def requests(self) -> int:
        """Calls, however they ended."""
        return self.answered + self.failed

    @property
    def success_rate(self) -> float:
        """In percent; 0 without a request."""
        return 100.0 * self.answered / self.requests if self.requests else 0.0

    @property
    def average_tokens(self) -> float | None:
        """Of the answers whose usage is known; None without one."""
        known = self.answered - self.unreported
        return self._whole_tokens / known if known else None

    @property
    def average_latency(self) -> float | None:
        """Seconds, over the samples that are kept; None without one."""
        known = self._latencies()
        return sum(known) / len(known) if known else None

    def latency(self, share: float = 0.5) -> float | None:
        """The shortest time that this share of the kept samples did not exceed; in seconds."""
        return quantile(sorted(self._latencies()), share)

    def tokens_per_second(self, elapsed: float) -> float:
        """All tokens over this many seconds; 0 when they are less than a thousandth."""
        return 0.0 if elapsed < 0.001 else (self.usage.total or 0) / elapsed

    def samples(self, since: float | None = None, until: float | None = None) -> list[Sample]:
        """Those that are kept, oldest first; strictly after `since` and before `until`."""
        return [
            each
            for each in self._samples
            if (since is None or each.at > since) and (until is None or each.at < until)
        ]

    def summary(self) -> Summary:
        return Summary(
            name=self.name,
            requests=self.requests,
            answered=self.answered,
            failed=self.failed,
            success_rate=self.success_rate,
            usage=self.usage,
            unreported=self.unreported,
            costs=dict(self.costs),
            unpriced=self.unpriced,
            latency=self.average_latency,
            last_at=self.last_at,
            last_error=self.last_error,
        )

    def _latencies(self) -> list[float]:
        return [each.seconds for each in self._samples if each.seconds is not None]


class Ledger:
    """The accounts of all targets and providers, each made when it is first needed.

    >>> from foreman.llm.observed import Observed
    >>> from foreman.llm.providers.fake import FakeProvider, Say, Status
    >>> fake, ledger = FakeProvider(models={"m": [Say("Hi")]}), Ledger()
    >>> answer = await Observed(fake.model("m"), ledger.record).complete(Request.of("Hello"))
    >>> ledger.target("fake/m").success_rate, ledger.provider("fake").usage.total
    (100.0, 25)
    """

    def __init__(self, *, keep: int = KEPT, clock: Callable[[], float] = time.time) -> None:
        self._keep = keep
        self._clock = clock
        self._targets: dict[str, Account] = {}
        self._providers: dict[str, Account] = {}

    def target(self, name: str) -> Account:
        """Of `provider/model`."""
        return self._account(self._targets, name)

    def provider(self, name: str) -> Account:
        """Of all its models together."""
        return self._account(self._providers, name)

    def __iter__(self) -> Iterator[Account]:
        """The targets', in the order of their first call."""
        return iter(tuple(self._targets.values()))

    def record(self, record: Record) -> None:
        """An observer: each failed call counts for whom it was made to, the answer for who gave it.

        A request that its caller left counts for nobody.
        """
        for attempt in record.attempts:
            for account in self._of(attempt.target):
                account.fail(attempt.error.reason)
        if record.outcome is Outcome.ANSWERED:
            sample = Sample(
                id=record.id,
                at=record.at,
                target=record.target,
                usage=record.usage,
                cost=record.cost,
                seconds=record.latency,
                metadata=record.metadata,
            )
            for account in self._of(record.target):
                account.record(sample)

    def _of(self, target: str) -> tuple[Account, Account]:
        return self.target(target), self.provider(target.partition("/")[0])

    def _account(self, accounts: dict[str, Account], name: str) -> Account:
        if name not in accounts:
            accounts[name] = Account(name, keep=self._keep, clock=self._clock)
        return accounts[name]


def quantile(values: Sequence[float], share: float) -> float | None:
    """Of sorted values: the smallest that this share of them do not exceed; None without any."""
    return values[max(0, ceil(share * len(values)) - 1)] if values else None
