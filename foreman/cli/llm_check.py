"""`foreman llm check`: tries every provider, and says of each what is wrong."""

from collections.abc import Iterator, Mapping

import anyio
import msgspec
import typer

from foreman.cli.exits import Ended, Exit
from foreman.cli.llm_setup import Setup
from foreman.cli.terminal import Cell, Table, duration, render, say
from foreman.llm import checking, environment
from foreman.llm.checking import Finding
from foreman.llm.registry import Registry


def check(setup: Setup, names: list[str], *, as_json: bool) -> None:
    """Print a line for each. Raises Ended (REFUSED) when something is wrong with one."""
    findings = anyio.run(_findings, setup, names, backend="trio")
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(findings)))
    elif findings:
        render(Table(("PROVIDER", "TOOK", "RESULT"), [*map(_row, findings)]))
    else:
        say("there is no provider: set LLM_NAME=scheme://token@host, or name one: ollama, openai")
    wrong = sum(bool(each.problem) for each in findings)
    if wrong:
        raise Ended(Exit.REFUSED, f"{wrong} of {len(findings)} cannot be used")


async def _findings(setup: Setup, names: list[str]) -> list[Finding]:
    async with setup.registry() as registry:
        return await checking.check(registry, names or _defined(registry, setup.environ))


def _defined(registry: Registry, environ: Mapping[str, str]) -> list[str]:
    """Those the registry knows, and those whose DSN it could not read."""
    return list(dict.fromkeys([*registry.providers, *_meant(environ)]))


def _meant(environ: Mapping[str, str]) -> Iterator[str]:
    """Names whose variable looks like a DSN, whatever its scheme."""
    for key in sorted(environ):
        name = key.removeprefix(environment.PREFIX)
        if key.startswith(environment.PREFIX) and name and "://" in environ[key]:
            yield name.lower()


def _row(finding: Finding) -> tuple[Cell | str, ...]:
    took = duration(finding.seconds)
    if finding.problem:
        return finding.name, took, Cell(finding.problem, "red")
    models = "it does not list its models" if finding.models is None else _count(finding.models)
    return finding.name, took, Cell(f"well: {models}", "green")


def _count(models: int) -> str:
    return f"{models} model{'s' * (models != 1)}"
