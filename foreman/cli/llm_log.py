"""`foreman llm stats` and `foreman llm log`: what the request log tells."""

from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
import typer

from foreman.cli.llm_setup import Setup
from foreman.cli.terminal import Cell, Table, duration, render, say
from foreman.llm.cost import Cost
from foreman.llm.log_queries import LogReader
from foreman.llm.log_views import Entry, Span, Totals, span


class Asked(NamedTuple):
    """Which requests."""

    within: str
    since: str | None
    until: str | None
    model: str | None
    provider: str | None

    def span(self) -> Span:
        """Raises BadParameter for a time that is none."""
        try:
            return span(self.within, self.since or "", self.until or "")
        except ValueError as error:
            raise typer.BadParameter(f"--since, --until: {error}") from None


class Listing(NamedTuple):
    """Which of them, and in which order."""

    success: bool | None
    streamed: bool | None
    page: int
    per_page: int
    sort: str
    order: str


def stats(setup: Setup, asked: Asked, group_by: str, *, as_json: bool) -> None:
    """Print the figures. Raises NotInLog and LogUnusable."""
    found = _reader(setup).stats(
        asked.span(),
        model=asked.model or "",
        provider=asked.provider or "",
        group_by=group_by,
        also=_configured(setup, group_by) if not (asked.model or asked.provider) else (),
    )
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found)))
        return
    if found.message:
        say(found.message)
    rows = [_figures(name, each) for name, each in sorted(found.groups.items())]
    rows.append(_figures("all", found.totals))
    render(Table((group_by.upper(), *_HEADINGS), rows))
    if found.p50_ms is not None and found.p95_ms is not None:
        say(f"latency: half within {_ms(found.p50_ms)}, 95 % within {_ms(found.p95_ms)}")


def requests(setup: Setup, asked: Asked, listing: Listing, *, as_json: bool) -> None:
    """Print one page of them. Raises NotInLog and LogUnusable."""
    page = _reader(setup).requests(
        asked.span(),
        model=asked.model or "",
        provider=asked.provider or "",
        success=listing.success,
        streamed=listing.streamed,
        page=listing.page,
        per_page=listing.per_page,
        sort=listing.sort,
        order=listing.order,
    )
    if as_json:
        document = {"total": page.total, "pages": page.pages, "page": page.page}
        encoded = msgspec.json.encode({**document, "requests": page.entries})
        typer.echo(msgspec.json.format(encoded))
        return
    if page.entries:
        headings = ("AT", "TARGET", "TOOK", "IN", "OUT", "COST", "NOTE")
        render(Table(headings, [*map(_row, page.entries)]))
    say(f"page {page.page} of {page.pages}, {page.total:,} requests")


def _reader(setup: Setup) -> LogReader:
    known = {*setup.registry().providers, *_configured(setup, "model")}
    return LogReader(setup.log_to_read(), known)


def _configured(setup: Setup, group_by: str) -> set[str]:
    """What the settings name and nobody may have used."""
    named = {*setup.settings.tiers, *setup.settings.prices} - {"unit"}
    match group_by:
        case "model":
            return {each.partition("/")[2] for each in named if "/" in each}
        case "provider":
            return {each.partition("/")[0] for each in named} | {*setup.registry().providers}
        case _:
            return {*setup.settings.tiers.values()}


_HEADINGS = ("REQUESTS", "ANSWERED", "STREAMED", "IN", "OUT", "LATENCY", "COST")


def _figures(name: str, totals: Totals) -> tuple[Cell | str, ...]:
    unknown = f"{totals.unpriced} unknown" if totals.unpriced else ""
    costs = [str(Cost(amount, unit)) for unit, amount in sorted(totals.costs.items())]
    return (
        name,
        f"{totals.requests:,}",
        f"{totals.success_rate:.0f} %" if totals.requests else "",
        f"{totals.streamed:,}",
        f"{totals.input + totals.cache_read + totals.cache_write:,}",
        f"{totals.output:,}",
        "" if totals.average_latency_ms is None else _ms(totals.average_latency_ms),
        " + ".join(filter(None, [*costs, unknown])),
    )


def _row(entry: Entry) -> tuple[Cell | str, ...]:
    at = datetime.fromtimestamp(entry.at / 1_000_000, UTC)
    parts = (entry.input, entry.cache_read, entry.cache_write)
    known = [part for part in parts if part is not None]
    return (
        f"{at:%Y-%m-%d %H:%M:%S}",
        f"{entry.provider}/{entry.model}" if entry.provider else entry.model,
        _ms(entry.duration_ms),
        f"{sum(known):,}" if len(known) == len(parts) else "",
        "" if entry.output is None else f"{entry.output:,}",
        "" if entry.cost is None else str(Cost(entry.cost, entry.unit or "")),
        Cell(_note(entry), "dim" if entry.success else "red"),
    )


def _note(entry: Entry) -> str:
    """Who did not answer, and why; without such, what ended it."""
    steps = "; ".join(dict.fromkeys(f"not {step.target}: {step.reason}" for step in entry.steps))
    return steps or entry.error or ("" if entry.success else entry.outcome)


def _ms(milliseconds: float) -> str:
    return duration(milliseconds / 1000)
