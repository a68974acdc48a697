"""Options and arguments that several commands share, and how they complete."""

import sys
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer

from foreman.cli import completion
from foreman.jobs import JobClass, State

Json = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]
JobArgument = Annotated[
    str, typer.Argument(metavar="JOB", help="The job's id.", autocompletion=completion.jobs)
]
JobsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="JOB...",
        help="Ids of jobs; - reads them from standard input.",
        autocompletion=completion.jobs,
    ),
]
ModelOption = Annotated[
    str | None, typer.Option(help="Only jobs for this model.", autocompletion=completion.models)
]
StateOption = Annotated[State | None, typer.Option(help="Only jobs in this state.")]
ClassOption = Annotated[JobClass | None, typer.Option("--class", help="Only this class.")]
LabelOption = Annotated[
    str | None, typer.Option(metavar="NAME=VALUE", help="Only jobs with this label.")
]


def label(text: str) -> tuple[str, str]:
    """`name=value`. Raises BadParameter."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise typer.BadParameter(f"{text}: write --label name=value")
    return name, value


def label_filter(text: str | None) -> str | None:
    """`name=value` as the API's filters write it. Raises BadParameter."""
    return None if text is None else ":".join(label(text))


def given(options: Mapping[str, Any]) -> dict[str, str]:
    """Those that have a value, as parameters of a URL."""
    return {name: str(value) for name, value in options.items() if value is not None}


def listed(ids: Iterable[str]) -> list[str]:
    """The ids on the command line; `-` stands for those on standard input, one a line."""
    found: list[str] = []
    for each in ids:
        found += [line.strip() for line in sys.stdin] if each == "-" else [each]
    return list(dict.fromkeys(filter(None, found)))
