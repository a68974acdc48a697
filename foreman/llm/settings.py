"""A settings file: what a program would otherwise say in code, as TOML.

default = "fast"

[providers]                             # beside those of LLM_*; ${VAR} is the environment's
box = "foreman://${BOX_TOKEN}@box"

[aliases]
fast = "box/qwen3:8b, openai/gpt-4o-mini"

[tiers]                                 # by provider, or by provider/model
box = "local"

[prices]                                # as `foreman.llm.cost` has them
box = { input = 0, output = 0 }

[log]
path = "~/llm.db"                       # or: off = true
"""

import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, cast

import msgspec

from foreman.llm.cost import PriceTable
from foreman.llm.errors import SpecError
from foreman.llm.registry import Registry
from foreman.llm.tiers import Tier, Tiers

TierName = Literal["local", "standard", "frontier"]


class LogSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where requests are logged; "": the usual place."""

    path: str = ""
    off: bool = False


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the file says, checked. `prices` stays as written until `price_table` reads it."""

    default: str = ""
    providers: Mapping[str, str] = {}
    aliases: Mapping[str, str | list[str]] = {}
    tiers: Mapping[str, TierName] = {}
    prices: Mapping[str, Any] = {}
    log: LogSettings = LogSettings()

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> "Settings":
        """Raises SpecError, which names what is wrong and what it may have been meant to be."""
        _refuse_unknown(document, cls.__struct_fields__, "")
        log = document.get("log")
        names = cast("dict[str, Any]", log) if isinstance(log, dict) else ()
        _refuse_unknown(names, LogSettings.__struct_fields__, "log.")
        try:
            settings = msgspec.convert(document, cls)
        except msgspec.ValidationError as error:
            raise SpecError(str(error)) from error
        settings.price_table()
        return settings

    @classmethod
    def read(cls, path: Path) -> "Settings":
        """From a file. Raises SpecError, also when it cannot be read."""
        try:
            return cls.parse(tomllib.loads(path.read_text(encoding="utf-8")))
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, SpecError) as error:
            raise SpecError(f"{path}: {error}") from error

    def price_table(self) -> PriceTable:
        return PriceTable.parse(self.prices)

    def tier_table(self) -> Tiers:
        return Tiers(of={name: Tier[tier.upper()] for name, tier in self.tiers.items()})

    def fill(self, registry: Registry) -> None:
        """Tell a registry of the providers, the aliases and the default. Raises SpecError."""
        for name, dsn in self.providers.items():
            registry.describe(name, dsn)
        for name, means in self.aliases.items():
            registry.alias(name, means)
        registry.default = self.default


def _refuse_unknown(found: Iterable[str], known: tuple[str, ...], where: str) -> None:
    for key in found:
        if key not in known:
            near = get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"
            raise SpecError(f"there is no setting {where + key!r}; {hint}")
