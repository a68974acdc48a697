"""What `foreman bench-target` says in the end: tables, calls an hour, advice."""

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import typer

from foreman.cli.terminal import Cell, Table, duration, render
from foreman.speed.advice import Advice, Calls, calls_an_hour, measured_calls_an_hour
from foreman.speed.measuring import ModelSpeed, Report


@dataclass(frozen=True, slots=True)
class Measured:
    """The figures, and what follows from them."""

    report: Report
    mix: dict[str, Calls]
    advice: tuple[Advice, ...]
    tokens: int


def show(measured: Measured, *, as_json: bool) -> None:
    """Print the tables and what follows, or one JSON object."""
    report = measured.report
    if as_json:
        document = msgspec.to_builtins(measured)
        document["calls_an_hour"] = calls_an_hour(report, measured.mix)
        typer.echo(msgspec.json.format(msgspec.json.encode(document)))
        return
    headings = ("MODEL", "LOAD", "SWAP", "FIRST TOKEN", "PROMPT", "OUTPUT")
    tables = [Table(headings, [_row(each) for each in report.models])] if report.models else []
    if report.embedding:
        one, rate = _seconds(report.embedding.one), f"{report.embedding.rate:.0f} texts/s"
        rows = [(report.embedding.model, one, rate)]
        tables.append(Table(("EMBEDDING MODEL", "ONE TEXT", "IN BATCHES"), rows))
    render(*tables)
    typer.echo("\n" + "\n".join(_remarks(measured)))


def _row(speed: ModelSpeed) -> tuple[str | Cell, ...]:
    return (
        speed.model,
        _seconds(speed.load),
        _swap(speed),
        _seconds(speed.first),
        _per_second(speed.prompt_rate),
        _per_second(speed.output_rate),
    )


def _swap(speed: ModelSpeed) -> str:
    if speed.swap is None:
        return ""
    return f"{_seconds(speed.swap)} {'evicts' if speed.evicted else 'beside'} {speed.swapped_from}"


def _remarks(measured: Measured) -> Iterator[str]:
    report, tokens = measured.report, measured.tokens
    if report.overhead is not None:
        yield f"foreman adds {report.overhead * 1000:.1f} ms to a call's first token."
    for speed in report.models:
        steady = measured_calls_an_hour(speed, tokens, swapping=False)
        swapping = measured_calls_an_hour(speed, tokens, swapping=True)
        if steady and swapping:
            yield (
                f"{speed.model}: {steady:.0f} calls an hour like these ({tokens} tokens), "
                f"{swapping:.0f} if each has to load it."
            )
    if hourly := calls_an_hour(report, measured.mix):
        calls = sum(
            measured.mix[each.model].count for each in report.models if each.model in measured.mix
        )
        yield f"Like the last {calls} jobs of these models: {hourly:.0f} calls an hour."
    for each in report.unmeasured:
        yield f"Not measured: {each}."
    for advice in measured.advice:
        yield f"Set {advice.key}={advice.value}: {advice.why}."
    if report.models and not measured.advice and not report.unmeasured:
        yield "The settings fit these figures."


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else duration(seconds)


def _per_second(rate: float | None) -> str:
    return "" if rate is None else f"{rate:.1f} tok/s"
