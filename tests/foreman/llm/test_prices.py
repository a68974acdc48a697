import pytest

from foreman.llm import Options, Request, Usage
from foreman.llm.prices import Rates


@pytest.mark.parametrize(
    ("tokens", "prices", "cost"),
    [
        ((100, 200), (10_000, 30_000, 1), 8.0),
        ((10, 5), (5_000, 15_000, 0), 0.125),
        ((0, 0), (5_000, 15_000, 5), 5.0),
        ((1000, 1000), (10_000, 30_000, 0), 40.0),
    ],
)
def test_what_a_call_costs(
    tokens: tuple[int, int], prices: tuple[float, float, float], cost: float
) -> None:
    rates = Rates(input=prices[0], output=prices[1], base_fee=prices[2])
    assert rates.cost(Usage.uncached(input=tokens[0], output=tokens[1])) == pytest.approx(cost)


def test_what_the_cache_gave_and_took_has_prices_of_its_own() -> None:
    rates = Rates(input=3.0, output=6.0)
    usage = Usage(input=1000, cache_read=0, cache_write=0, output=500)
    assert rates.cost(usage) == pytest.approx(0.006)
    cached = Rates(input=3.0, output=6.0, cache_read=0.3, cache_write=3.75)
    usage = Usage(input=1000, cache_read=500, cache_write=100, output=500)
    assert cached.cost(usage) == pytest.approx(0.006525)
    assert rates.cost(usage) == pytest.approx(0.0078)  # without such prices it is input


def test_a_free_read_is_not_an_unknown_one() -> None:
    rates = Rates(input=3.0, output=6.0, cache_read=0.0)
    assert rates.cost(Usage(input=0, cache_read=500, cache_write=0, output=0)) == 0.0


def test_what_is_unknown_costs_nobody_knows_what() -> None:
    assert Rates(input=0, output=0).cost(Usage(input=1, output=1)) is None


@pytest.mark.parametrize(
    ("prices", "score"),
    [
        ((3_000, 10_000, 0), 8250),
        ((8_000, 20_000, 5), 17005),
        ((15_000, 40_000, 10), 33760),
        ((5_000, 10_000, 8000), 16750),
        ((8_000, 15_000, 0), 13250),
    ],
)
def test_the_blended_price(prices: tuple[float, float, float], score: float) -> None:
    assert Rates(input=prices[0], output=prices[1], base_fee=prices[2]).blended() == score


def test_what_a_request_is_expected_to_cost() -> None:
    rates = Rates(input=10_000, output=30_000)
    request = Request.of("x" * 400)
    assert rates.expected(request) == pytest.approx((100 * 10_000 + 256 * 30_000) / 1e6)
    limited = Request.of("x" * 400, options=Options(max_tokens=100))
    assert rates.expected(limited) == pytest.approx(4.0)


def test_a_fee_is_paid_once_per_request_and_not_per_million_tokens() -> None:
    small = Request.of("x" * 400, options=Options(max_tokens=100))
    with_fee = Rates(input=1000, output=1000, base_fee=5)
    without = Rates(input=5000, output=5000)
    assert with_fee.expected(small) == pytest.approx(5.2)
    assert without.expected(small) == pytest.approx(1.0)


@pytest.mark.parametrize("wrong", [{"input": -1.0}, {"cache_read": -1.0}, {"base_fee": -1.0}])
def test_nobody_pays_you(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="0 or above"):
        Rates(**{"input": 1.0, "output": 1.0, **wrong})  # type: ignore[arg-type]
