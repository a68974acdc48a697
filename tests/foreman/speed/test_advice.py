from typing import Any

import pytest

from foreman.config import Settings
from foreman.speed.advice import Calls, advise, calls_an_hour, measured_calls_an_hour
from foreman.speed.measuring import ModelSpeed, Report


def speed(model: str = "a:latest", **figures: Any) -> ModelSpeed:
    usual: dict[str, Any] = {"load": 5.0, "first": 0.5, "prompt_rate": 1000.0, "output_rate": 50.0}
    return ModelSpeed(model, **usual | figures)


def advice(settings: dict[str, Any] | None = None, **figures: Any) -> dict[str, str]:
    report = Report("direct", [speed("quick:latest", load=0.1), speed(**figures)])
    return {each.key: each.value for each in advise(report, Settings(**settings or {}))}


@pytest.mark.parametrize(
    ("figures", "key", "value"),
    [
        ({"load": 240.0}, "FOREMAN_LOAD_TIMEOUT", "15m"),
        ({"load": 5.0, "swap": 240.0}, "FOREMAN_LOAD_TIMEOUT", "15m"),
        ({"load": 22.0}, "FOREMAN_LINGER", "25s"),
        ({"load": 300.0}, "FOREMAN_LINGER", "1m"),
        ({"load": 95.0}, "FOREMAN_MAX_WAIT", "20m"),
        ({"prompt_rate": 40.0}, "FOREMAN_FIRST_BYTE_TIMEOUT", "25m"),
        ({"output_rate": 0.1}, "FOREMAN_GAP_TIMEOUT", "3m30s"),
    ],
)
def test_what_is_slow_asks_for_more_patience(figures: dict[str, Any], key: str, value: str) -> None:
    assert advice(**figures)[key] == value


def test_figures_that_fit_ask_for_nothing() -> None:
    assert advice() == {}
    assert advice({"load_timeout": "30m", "linger": "1m", "max_wait": "2h"}, load=300.0) == {}


def test_an_embedding_model_that_is_installed_should_be_told() -> None:
    found = list(advise(Report("direct"), Settings(), ["nomic-embed-text:latest"]))
    assert [each.key for each in found] == ["FOREMAN_EMBED_MODEL"]
    assert not list(advise(Report("direct"), Settings(embed_model="x"), ["y"]))


def test_calls_an_hour_are_those_of_the_mix() -> None:
    report = Report("direct", [speed(swap=6.0), speed("b:latest", output_rate=None)])
    mix = {
        "a:latest": Calls(10, tokens_in=5000, tokens_out=500, loads=2),
        "b:latest": Calls(5, 1, 1, 0),
        "c:latest": Calls(5, 1, 1, 0),
    }
    # 10 calls take 5 s to read, 10 s to write and 12 s to load
    assert calls_an_hour(report, mix) == pytest.approx(10 * 3600 / 27)
    assert calls_an_hour(report, {"c:latest": Calls(5, 1, 1, 0)}) is None


def test_calls_like_those_measured() -> None:
    assert measured_calls_an_hour(speed(), 75, swapping=False) == pytest.approx(3600 / 2)
    assert measured_calls_an_hour(speed(), 75, swapping=True) == pytest.approx(3600 / 7)
    assert measured_calls_an_hour(speed(output_rate=None), 75, swapping=False) is None
