"""`foreman llm cost`: what a request would cost; nobody is called."""

import msgspec
import typer

from foreman.cli.llm_setup import Setup
from foreman.cli.terminal import Cell, Table, render
from foreman.llm.cost import Estimate
from foreman.llm.request import Options, Request
from foreman.llm.tiers import Tiers


def show(setup: Setup, spec: str, prompt: str, max_tokens: int | None, *, as_json: bool) -> None:
    """Print what each target of the spec would take. Raises SpecError."""
    prices, tiers = setup.settings.price_table(), setup.settings.tier_table()
    request = Request.of(prompt, options=Options(max_tokens=max_tokens))
    targets = setup.registry().parse(spec)
    estimates = [prices.estimate(str(target), request) for target in targets]
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(estimates)))
        return
    rows = [_row(each, tiers) for each in estimates]
    render(Table(("TARGET", "TIER", "IN", "OUT", "PER 1M IN", "PER 1M OUT", "COST"), rows))


def _row(estimate: Estimate, tiers: Tiers) -> tuple[Cell | str, ...]:
    rates = estimate.rates
    return (
        estimate.target,
        tiers.tier(estimate.target).name.lower(),
        f"{estimate.input:,}",
        f"{estimate.output:,}",
        "" if rates is None else f"{rates.input:g}",
        "" if rates is None else f"{rates.output:g}",
        Cell("unknown", "dim") if estimate.cost is None else str(estimate.cost),
    )
