"""The soak's judgement, and a smoke run of it."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.soak.samples import QUANTITIES, Quantity, Sample, growth

ROOT = Path(__file__).parents[2]
AT_REST = Sample(0.0, 80_000_000, 30, 5, 4_000_000, 200)
FIELDS = ("memory", "descriptors", "threads", "database", "files")


def run_of(field: str, values: list[int]) -> list[Sample]:
    return [
        replace(AT_REST, at=float(number), **{field: value}) for number, value in enumerate(values)
    ]


@pytest.mark.parametrize(("quantity", "field"), [*zip(QUANTITIES, FIELDS, strict=True)])
def test_what_goes_up_and_down_is_flat_and_what_only_goes_up_is_not(
    quantity: Quantity, field: str
) -> None:
    rest = getattr(AT_REST, field)
    step = max(1, rest // 5)
    waves = run_of(field, [rest + step * (number % 3) for number in range(100)])
    assert growth(quantity, waves).flat
    leak = run_of(field, [rest + step * number // 10 for number in range(100)])
    assert not growth(quantity, leak).flat


def test_what_a_start_costs_and_a_few_odd_samples_are_no_growth() -> None:
    memory = [60_000_000 + 500_000 * number for number in range(30)] + [75_000_000] * 70
    memory[60] = memory[90] = 400_000_000
    assert growth(QUANTITIES[0], run_of("memory", memory)).grown == 0


def test_a_leak_is_told_for_the_time_looked_at_and_for_a_day() -> None:
    leak = growth(QUANTITIES[0], run_of("memory", [1000 * number for number in range(100)]))
    assert leak.grown == 1000 * leak.seconds
    assert leak.a_day == 1000 * 86400


def test_two_samples_are_the_least_that_show_a_trend() -> None:
    with pytest.raises(ValueError, match="1 samples show no trend"):
        growth(QUANTITIES[0], [AT_REST])


def test_a_smoke_run_does_all_it_should_and_judges() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.soak", "--hours", str(5 / 3600), "--pace", "0.05"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert not done.stderr
    for deed in ("chat", "embed", "submit", "bulk", "ask", "subscribe", "be_rude", "hang_up"):
        assert f"'{deed}': " in done.stdout.partition(" not done ")[0], done.stdout
    assert all(each.name in done.stdout for each in QUANTITIES)
