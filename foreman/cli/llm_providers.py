"""`foreman llm providers`: who there is, how their last calls went, their tiers and prices."""

from collections.abc import Iterable

import msgspec
import typer

from foreman.cli.llm_setup import Setup
from foreman.cli.terminal import Cell, Table, render, say
from foreman.llm.errors import LLMError
from foreman.llm.log_queries import LogReader
from foreman.llm.log_schema import LogUnusable
from foreman.llm.log_views import Entry
from foreman.llm.prices import Rates

LOOKED_AT = 100  # requests of the log, the latest
UNTRIED = "untried"


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A provider, or one of its models that has a tier or a price of its own.

    `state` is `answered`, `untried`, or why its last call came to nothing.
    """

    name: str
    address: str
    token: str
    state: str
    tier: str
    rates: Rates | None


def show(setup: Setup, *, as_json: bool) -> None:
    """Print them. Nobody is called: the states are those of the request log."""
    words = last_words(_latest(setup))
    lines = [_line(setup, name, words) for name in _names(setup)]
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(lines)))
    elif lines:
        headings = ("PROVIDER", "ADDRESS", "TOKEN", "TIER", "PER 1M IN", "PER 1M OUT", "LAST CALL")
        render(Table(headings, [*map(_row, lines)]))
    else:
        say("there is no provider: set LLM_NAME=scheme://token@host")


def last_words(latest: Iterable[Entry]) -> dict[str, str]:
    """How the last call to each target and each provider went; entries come newest first."""
    words: dict[str, str] = {}
    for entry in latest:
        answered = [(f"{entry.provider}/{entry.model}", "answered")] if entry.success else []
        failed = [(step.target, step.reason) for step in reversed(entry.steps) if step.called]
        for target, word in [*answered, *failed]:
            words.setdefault(target, word)
            words.setdefault(target.partition("/")[0], word)
    return words


def _latest(setup: Setup) -> tuple[Entry, ...]:
    try:
        return LogReader(setup.log).requests(per_page=LOOKED_AT).entries if setup.log else ()
    except LogUnusable:
        return ()  # nobody has asked yet


def _names(setup: Setup) -> list[str]:
    """Each provider, then its models that have something of their own."""
    own = sorted({*setup.settings.tiers, *setup.settings.prices} - {"unit"})
    providers = dict.fromkeys([*setup.registry().providers, *(n.partition("/")[0] for n in own)])
    models = {each: [name for name in own if name.startswith(f"{each}/")] for each in providers}
    return [name for each in providers for name in (each, *models[each])]


def _line(setup: Setup, name: str, words: dict[str, str]) -> Line:
    address, token = _place(setup, name.partition("/")[0])
    return Line(
        name=name,
        address=address,
        token=token,
        state=words.get(name, UNTRIED),
        tier=setup.settings.tier_table().tier(name).name.lower(),
        rates=setup.settings.price_table().rates(name),
    )


def _place(setup: Setup, provider: str) -> tuple[str, str]:
    """Its address, and what may be shown of its token."""
    try:
        dsn = setup.dsn(provider)
    except LLMError as error:
        return str(error), ""
    if dsn is None:
        return "not defined", ""
    return dsn.url or f"{dsn.scheme}'s own", dsn.token.hint if dsn.token else ""


def _row(line: Line) -> tuple[Cell | str, ...]:
    rates = line.rates
    style = {"answered": "green", UNTRIED: "dim"}.get(line.state, "red")
    return (
        line.name,
        line.address,
        line.token,
        line.tier,
        "unknown" if rates is None else f"{rates.input:g} {rates.unit}",
        "unknown" if rates is None else f"{rates.output:g} {rates.unit}",
        Cell(line.state, style),
    )
