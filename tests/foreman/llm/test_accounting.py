import pytest

from foreman.llm import Request, Unauthorized, Usage
from foreman.llm.accounting import Account, Ledger, Sample
from foreman.llm.chain import Chain
from foreman.llm.cost import Cost, PriceTable
from foreman.llm.observed import Observed
from foreman.llm.prices import Rates
from foreman.llm.providers.fake import FakeProvider, Say, Status

REQUEST = Request.of("Hi")


def sample(usage: Usage = Usage(), at: float = 0.0, **fields: object) -> Sample:  # noqa: B008
    return Sample(id="1", at=at, target="a/m", usage=usage, **fields)  # type: ignore[arg-type]


def account(*usages: Usage) -> Account:
    made = Account("a/m")
    for usage in usages:
        made.record(sample(usage))
    return made


def tokens(given: int, made: int, read: int = 0, written: int = 0) -> Usage:
    return Usage(input=given, output=made, cache_read=read, cache_write=written)


@pytest.mark.parametrize(
    ("calls", "sums"),
    [
        ([tokens(100, 50), tokens(200, 100)], tokens(300, 150)),
        ([tokens(1000, 500, 100, 200)], tokens(1000, 500, 100, 200)),
        ([tokens(50, 25), tokens(100, 50), tokens(150, 75)], tokens(300, 150)),
    ],
)
def test_calls_add_up(calls: list[Usage], sums: Usage) -> None:
    found = account(*calls)

    assert (found.usage, found.requests) == (sums, len(calls))


def test_totals_are_those_of_all_four_parts() -> None:
    assert account(tokens(100, 50), tokens(200, 100)).usage.total == 450
    assert account(tokens(1000, 500, 100, 200)).usage.total == 1800


def test_the_newest_samples_are_kept() -> None:
    found = Account("a/m", keep=5)
    for number in range(10):
        found.record(sample(at=number))

    assert [each.at for each in found.samples()] == [5, 6, 7, 8, 9]
    assert [each.at for each in found.samples(since=6)] == [7, 8, 9]
    assert [each.at for each in found.samples(since=5, until=8)] == [6, 7]
    assert found.requests == 10


def test_the_average_is_over_what_is_known() -> None:
    found = account(tokens(100, 50), Usage(output=7), tokens(100, 50))

    assert (found.average_tokens, found.unreported) == (150, 1)
    assert found.usage.output == 107
    assert Account("a/m").average_tokens is None


def test_tokens_may_be_added_without_a_request() -> None:
    found = account(tokens(100, 50))
    found.add_usage(tokens(1, 2, 3, 4))

    assert (found.usage, found.requests) == (tokens(101, 52, 3, 4), 1)


def test_the_success_rate_is_in_percent() -> None:
    found = account(tokens(1, 1), tokens(1, 1), tokens(1, 1))
    assert found.success_rate == 100.0

    found.fail("connection refused")

    assert (found.success_rate, found.failed, found.last_error) == (75.0, 1, "connection refused")
    assert Account("a/m").success_rate == 0.0


def test_tokens_per_second_need_some_time() -> None:
    found = account(tokens(100, 50))

    assert found.tokens_per_second(3) == 50
    assert found.tokens_per_second(0.0009) == 0


def test_latencies_are_those_of_the_samples_that_are_kept() -> None:
    found = Account("a/m", keep=100)
    for number in range(1, 121):
        found.record(sample(seconds=float(number)))
    found.record(sample())

    assert (found.latency(0.5), found.latency(0.95), found.latency(1)) == (71, 116, 120)
    assert found.average_latency == 71.0
    assert (Account("a/m").latency(), Account("a/m").average_latency) == (None, None)


def test_costs_add_up_by_unit_and_an_unknown_one_is_not_zero() -> None:
    found = Account("a/m")
    for cost in (Cost(1.5), Cost(2.5), Cost(8.0, "sats"), None):
        found.record(sample(cost=cost))

    assert (found.costs, found.unpriced) == ({"USD": 4.0, "sats": 8.0}, 1)


def test_a_reset_forgets_everything() -> None:
    found = account(tokens(100, 50))
    found.fail("x")
    found.reset()

    assert found.summary() == Account("a/m").summary()
    assert found.samples() == []


async def test_a_ledger_keeps_an_account_of_each_target_and_each_provider() -> None:
    fake = FakeProvider(models={"a": [Status(503), Status(503)], "b": [Say(), Say()]})
    other = FakeProvider("other", otherwise=Say())
    ledger, prices = Ledger(clock=lambda: 5.0), PriceTable({"fake": Rates(input=1e6, output=0)})
    chain = Chain([fake.model("a"), fake.model("b")])
    model = Observed(chain, ledger.record, prices=prices, wall=lambda: 7.0)

    await model.complete(REQUEST)
    await Observed(other.model("x"), ledger.record).complete(REQUEST)

    assert [each.name for each in ledger] == ["fake/a", "fake/b", "other/x"]
    assert (ledger.target("fake/a").success_rate, ledger.target("fake/b").success_rate) == (0, 100)
    assert ledger.target("fake/a").last_error == "scripted failure"
    summary = ledger.provider("fake").summary()
    assert (summary.requests, summary.answered, summary.failed) == (3, 1, 2)
    assert (summary.costs, summary.last_at) == ({"USD": 10.0}, 7.0)
    assert summary.success_rate == pytest.approx(100 / 3)
    assert ledger.provider("other").unpriced == 1


async def test_a_request_that_its_caller_left_counts_for_nobody() -> None:
    ledger = Ledger()
    model = Observed(FakeProvider().model("a"), ledger.record)

    async with model.stream(REQUEST):
        pass

    assert list(ledger) == []


async def test_an_attempt_before_the_one_that_ended_it_all_is_counted_once() -> None:
    fake = FakeProvider(models={"a": [Status(503), Status(401)]})
    ledger = Ledger()

    with pytest.raises(Unauthorized):
        await Observed(Chain([fake.model("a")]), ledger.record).complete(REQUEST)

    assert (ledger.target("fake/a").failed, ledger.target("fake/a").answered) == (2, 0)
