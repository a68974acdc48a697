"""`foreman doctor`: the checks as they are made, and what they found."""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec
import typer

from foreman import __version__
from foreman.cli.exits import Exit
from foreman.cli.terminal import Cell, Table, render, say
from foreman.doctor.checks import NAMES, Check, Result, examine
from foreman.doctor.context import Context
from foreman.doctor.findings import Finding, Severity

STYLES = {
    Severity.OK: "green",
    Severity.NOTE: "cyan",
    Severity.WARNING: "bold yellow",
    Severity.PROBLEM: "bold red",
}
ENDS = {Severity.WARNING: Exit.WARNED, Severity.PROBLEM: Exit.PROBLEMS}
UNSEEN = "unseen"
WORD = max(len(each.word) for each in Severity)
NAME = max(map(len, NAMES))
LABEL = len("why: ")

Row = tuple[Cell, Cell, Cell]


def diagnose(only: Sequence[str], *, load: bool, quick: bool, as_json: bool) -> Exit:
    """Run and print; the exit status. Raises BadParameter for a check that there is not."""
    if strangers := sorted(set(only) - set(NAMES)):
        raise typer.BadParameter(f"there is no check {strangers[0]}; there are {', '.join(NAMES)}")
    if load:
        say("foreman: models are loaded now; this may take minutes, and evict others")
    with Context(load=load, quick=quick) as context:
        results: list[Result] = []
        for result in examine(context, only or NAMES, _announce):
            _announce(None)
            if not as_json:
                _print(result, new_group=not results or _group(results[-1]) != _group(result))
            results.append(result)
    worst = max(result.severity for result in results)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(_document(results, worst))))
    else:
        typer.echo("\n" + _summary(results))
    return ENDS.get(worst, Exit.WELL)


def _announce(check: Check | None) -> None:
    """On a terminal, the check that runs; some take long."""
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K" if check is None else f"\r\x1b[K\x1b[2m{check.question}\x1b[0m")
        sys.stderr.flush()


def _group(result: Result) -> str:
    return result.check.group


def _print(result: Result, *, new_group: bool) -> None:
    if new_group:
        typer.echo("\n" + typer.style(_group(result), bold=sys.stdout.isatty()))
    render(Table((), list(_rows(result))))


def _rows(result: Result) -> Iterator[Row]:
    name = result.check.name
    for finding in result.findings:
        yield _row(finding.severity.word, STYLES[finding.severity], name, finding.found)
        for label, text in (("why", finding.why), ("do", finding.advice)):
            yield _row(
                " ", "", " ", f"{label}:".ljust(LABEL) + text, "" if label == "do" else "dim"
            )
    for text in result.said:
        yield _row(Severity.OK.word, STYLES[Severity.OK], name, text)
    for text in result.unseen:
        yield _row(UNSEEN, "dim", name, text, "dim")


def _row(word: str, style: str, name: str, text: str, text_style: str = "") -> Row:
    """Padded, because each check is a table of its own: it is printed as soon as it is done."""
    return Cell(word.ljust(WORD), style), Cell(name.ljust(NAME)), Cell(text, text_style)


def _summary(results: Sequence[Result]) -> str:
    found = Counter(finding.severity for result in results for finding in result.findings)
    parts = [
        f"{found[each]} {each.word}{'s' * (found[each] > 1)}"
        for each in sorted(STYLES, reverse=True)
        if found[each]
    ]
    well = sum(bool(result.said) for result in results)
    unseen = sum(bool(result.unseen) for result in results)
    parts.append(f"{well} of {len(results)} checks fine")
    if unseen:
        parts.append(f"{unseen} could not see all")
    return ", ".join(parts)


def _document(results: Sequence[Result], worst: Severity) -> dict[str, object]:
    return {
        "status": worst.word,
        "version": __version__,
        "checks": [
            {
                "name": result.check.name,
                "group": result.check.group,
                "status": result.severity.word,
                "findings": [_finding(each) for each in result.findings],
                "fine": result.said,
                "unseen": result.unseen,
            }
            for result in results
        ],
    }


def _finding(finding: Finding) -> dict[str, str]:
    return {
        "code": finding.code,
        "severity": finding.severity.word,
        "found": finding.found,
        "why": finding.why,
        "do": finding.advice,
    }
