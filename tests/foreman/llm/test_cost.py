from pathlib import Path

import msgspec
import pytest

from foreman.llm import Options, Request, SpecError, Usage
from foreman.llm.cost import Cost, PriceTable
from foreman.llm.prices import Rates

TABLE = PriceTable(
    {
        "cloud": Rates(input=10_000, output=30_000, base_fee=1, unit="sats"),
        "cloud/mini": Rates(input=5_000, output=15_000, unit="sats"),
        "home": Rates(input=0, output=0),
    }
)


def rates(price_in: float, price_out: float, fee: float = 0.0, **cache: float) -> PriceTable:
    own = Rates(input=price_in, output=price_out, base_fee=fee)
    return PriceTable({"x": msgspec.structs.replace(own, **cache)})


@pytest.mark.parametrize(
    ("table", "usage", "cost"),
    [
        (rates(10_000, 30_000, 1), Usage.uncached(input=100, output=200), 8.0),
        (rates(5_000, 15_000), Usage.uncached(input=10, output=5), 0.125),
        (rates(10_000, 30_000, 5), Usage.uncached(input=0, output=0), 5.0),
        (rates(10_000, 30_000), Usage.uncached(input=1000, output=1000), 40.0),
        (rates(10_000, 30_000), Usage.uncached(input=1000, output=4096), 132.88),
        (rates(10_000, 30_000, 2), Usage.uncached(input=100, output=4096), 125.88),
        (rates(3, 6), Usage.uncached(input=1000, output=500), 0.006),
        (
            rates(3, 6, cache_read=0.3, cache_write=3.75),
            Usage(input=1000, output=500, cache_read=500, cache_write=100),
            0.006525,
        ),
        (rates(3, 6), Usage(input=1000, output=500, cache_read=500, cache_write=100), 0.0078),
    ],
)
def test_a_cost_is_that_of_the_four_parts_and_the_fee(
    table: PriceTable, usage: Usage, cost: float
) -> None:
    found = table.cost("x/m", usage)

    assert found is not None
    assert found.amount == pytest.approx(cost, rel=1e-12)


def test_a_model_has_its_own_rates_or_its_providers() -> None:
    usage = Usage.uncached(input=100, output=200)

    assert TABLE.cost("cloud/other", usage) == Cost(8.0, "sats")
    assert TABLE.cost("cloud/mini", usage) == Cost(3.5, "sats")


def test_what_nobody_knows_the_price_of_does_not_cost_nothing() -> None:
    usage = Usage.uncached(input=100, output=200)

    assert TABLE.cost("elsewhere/m", usage) is None
    assert TABLE.cost("home/m", usage) == Cost(0.0, "USD")
    assert TABLE.cost("cloud/m", Usage.uncached(input=None, output=200)) is None


@pytest.mark.parametrize(
    ("characters", "options", "tokens"),
    [
        (400, Options(), (100, 256)),
        (400, Options(max_tokens=100), (100, 100)),
        (3, Options(), (1, 256)),
    ],
)
def test_an_estimate_takes_a_quarter_of_the_characters_and_the_longest_answer(
    characters: int, options: Options, tokens: tuple[int, int]
) -> None:
    estimate = TABLE.estimate("cloud/m", Request.of("x" * characters, options=options))

    assert (estimate.input, estimate.output) == tokens
    assert estimate.cost == Cost((tokens[0] * 10_000 + tokens[1] * 30_000) / 1e6 + 1, "sats")


def test_an_estimate_without_a_price_says_so() -> None:
    estimate = TABLE.estimate("elsewhere/m", Request.of("Hello"))

    assert estimate.cost is None
    assert estimate.rates is None


def test_of_two_offers_for_one_name_the_cheaper_is_taken() -> None:
    dear, cheap = Rates(input=10_000, output=30_000, base_fee=5), Rates(input=3_000, output=10_000)
    other = Rates(input=5_000, output=15_000, base_fee=2)
    table = PriceTable.merged([("alpha", dear), ("beta", other), ("alpha", cheap)])

    assert [dear.blended(), cheap.blended(), other.blended()] == [25_005.0, 8_250.0, 12_502.0]
    assert (table.rates("alpha/m"), table.rates("beta/m")) == (cheap, other)


def test_a_table_is_read_from_toml(tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(
        'unit = "EUR"\n[openai]\ninput = 2.5\noutput = 10\n'
        '["openai/mini"]\ninput = 1\noutput = 2\ncache_read = 0.1\nunit = "USD"\n'
    )

    table = PriceTable.read(file)

    assert table.rates("openai/big") == Rates(input=2.5, output=10, unit="EUR")
    assert table.rates("openai/mini") == Rates(input=1, output=2, cache_read=0.1)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[m]\ninput = 1", "prices of 'm': .*missing required field `output`"),
        ("[m]\ninput = 1\noutput = '2'", "prices of 'm': .*got `str`"),
        ("[m]\ninput = 1\noutput = -2", "prices of 'm': .*0 or above"),
        ("[m]\ninput = 1\noutput = 2\ncached_read = 1", "did you mean 'cache_read'"),
        ("[m]\ninput = 1\noutput = 2\nzzz = 1", "there are: input, output"),
        ("m = 3", "prices of 'm': write a table"),
        ("unit = 3", "`unit` is a word"),
        ("[m", "prices.toml"),
    ],
)
def test_a_table_that_is_wrong_says_where(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(text)

    with pytest.raises(SpecError, match=says):
        PriceTable.read(file)
