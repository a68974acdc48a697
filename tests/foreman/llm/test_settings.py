from pathlib import Path
from typing import Any

import pytest

from foreman.llm.errors import SpecError
from foreman.llm.prices import Rates
from foreman.llm.registry import Registry
from foreman.llm.settings import Settings
from foreman.llm.tiers import Tier

WHOLE = """
default = "fast"
[providers]
box = "foreman://${BOX_TOKEN}@box"
[aliases]
fast = "box/qwen3:8b, openai/gpt-4o-mini"
slow = ["box/big", "fast"]
[tiers]
box = "local"
[prices]
unit = "EUR"
box = { input = 0, output = 0 }
[log]
path = "~/llm.db"
"""


def test_a_file_fills_a_registry(tmp_path: Path) -> None:
    file = tmp_path / "llm.toml"
    file.write_text(WHOLE)
    settings = Settings.read(file)
    registry = Registry(environ={"BOX_TOKEN": "s3cret"})
    settings.fill(registry)

    assert registry.model().targets == ("box/qwen3:8b", "openai/gpt-4o-mini")
    assert str(registry.parse("slow")[0]) == "box/big"
    assert settings.tier_table().tier("box/any") is Tier.LOCAL
    assert settings.price_table().rates("box/any") == Rates(input=0, output=0, unit="EUR")
    assert settings.log.path == "~/llm.db"


def test_an_empty_file_says_nothing() -> None:
    settings = Settings.parse({})
    registry = Registry(environ={})
    settings.fill(registry)

    assert (registry.providers, registry.aliases, registry.default) == ((), (), "")


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"alias": {}}, "no setting 'alias'; did you mean 'aliases'"),
        ({"zzz": 1}, "there are: default, providers"),
        ({"log": {"file": "x"}}, "no setting 'log.file'"),
        ({"log": 3}, r"Expected `object`.*\$.log"),
        ({"tiers": {"box": "best"}}, "best"),
        ({"aliases": {"a": 3}}, r"\$.aliases"),
        ({"prices": {"box": {"input": 1}}}, "prices of 'box'"),
    ],
)
def test_a_setting_that_is_wrong_is_named(document: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        Settings.parse(document)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "odd.toml").write_text("[a")
    for name in ("odd.toml", "none.toml"):
        with pytest.raises(SpecError, match=name):
            Settings.read(tmp_path / name)
