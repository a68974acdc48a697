"""`foreman bench-target`: which way it goes, what it measures, what it says before."""

import sys
from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import typer

from foreman import config, names
from foreman.cli.bench_report import Measured, show
from foreman.cli.check_commands import Way
from foreman.cli.exits import Ended, Exit
from foreman.cli.terminal import say
from foreman.client.location import locate
from foreman.config import Settings
from foreman.errors import TargetError
from foreman.probe import Entry, Probe
from foreman.speed.advice import Calls, advise
from foreman.speed.measuring import Bench, Plan, Report

MOST = 3  # models measured when none is named
LATEST = 500  # jobs from which the mix of calls is taken


@dataclass(frozen=True, slots=True)
class Ask:
    """What the command was asked for."""

    models: Sequence[str]
    embed_model: str | None
    runs: int
    tokens: int
    way: Way
    yes: bool
    as_json: bool


def measure(ask: Ask) -> None:
    """Measure and print; what there is, when it breaks off.

    Raises ConfigError, TargetError, Ended (UNREACHABLE) and BadParameter for a strange model.
    """
    settings = config.load()
    with _direct(settings) as direct, _daemon() as daemon:
        way = _choose(ask.way, daemon, direct)
        probe = daemon if way is Way.DAEMON else direct
        installed = probe.installed()
        plan = _plan(ask, settings, installed)
        _warn(plan, probe, way, daemon, settings)
        if not ask.yes and sys.stdin.isatty():
            typer.confirm("Go on?", abort=True, err=True)
        report = Report(way)
        mix = _mix(daemon) if _answers(daemon, "/healthz") else {}  # before we add to it
        try:
            _run(plan, probe, report, direct if way is Way.DAEMON else None)
        except (KeyboardInterrupt, TargetError):
            report.unmeasured.append("what was still to come")
            show(Measured(report, mix, (), plan.tokens), as_json=ask.as_json)
            raise
    embedders = [names.display(each.name) for each in installed if _can(each, "embedding")]
    advice = tuple(advise(report, settings, embedders))
    show(Measured(report, mix, advice, plan.tokens), as_json=ask.as_json)


def _direct(settings: Settings) -> Probe:
    token = settings.ollama_token.get_secret_value() if settings.ollama_token else None
    return Probe(settings.ollama_url, token, settings.connect_timeout)


def _daemon() -> Probe:
    location = locate()
    return Probe(location.url, location.secret)


def _choose(wanted: Way, daemon: Probe, direct: Probe) -> Way:
    """Through the daemon where it runs: there, others' calls and ours take turns."""
    if wanted is not Way.DIRECT and _answers(daemon, "/healthz"):
        return Way.DAEMON
    if wanted is not Way.DAEMON and _answers(direct, "/api/version"):
        return Way.DIRECT
    tried = {Way.AUTO: f"{daemon.url} nor {direct.url}", Way.DAEMON: daemon.url}
    raise Ended(Exit.UNREACHABLE, f"no answer from {tried.get(wanted, direct.url)}")


def _answers(probe: Probe, path: str) -> bool:
    try:
        probe.get(path)
    except TargetError:
        return False
    return True


def _plan(ask: Ask, settings: Settings, installed: Sequence[Entry]) -> Plan:
    embed = _found(ask.embed_model or settings.embed_model, installed, "--embed")
    if ask.models:
        models = [_found(each, installed, "MODEL") or each for each in ask.models]
    else:
        able = [each for each in installed if _chats(each) and names.display(each.name) != embed]
        models = [names.display(each.name) for each in sorted(able, key=_size)[:MOST]]
    if not models:
        raise Ended(Exit.REFUSED, "the target has no model that chats; ollama pull llama3.2")
    return Plan(list(dict.fromkeys(models)), embed, ask.runs, ask.tokens)


def _found(model: str | None, installed: Sequence[Entry], where: str) -> str | None:
    if model is None:
        return None
    try:
        wanted = names.key(model)
    except names.InvalidName as error:
        raise typer.BadParameter(f"{model}: {error}", param_hint=where) from None
    if not any(names.key(each.name) == wanted for each in installed):
        raise typer.BadParameter(f"{model} is not installed at the target", param_hint=where)
    return names.display(model)


def _warn(plan: Plan, probe: Probe, way: Way, daemon: Probe, settings: Settings) -> None:
    through = f"through foreman at {daemon.url}: others' calls and these take turns"
    past = f"straight to the target at {settings.ollama_url}"
    say(f"foreman: measuring {through if way is Way.DAEMON else past}")
    if way is Way.DIRECT and _answers(daemon, "/healthz"):
        say(f"foreman: {daemon.url} runs, too: jobs and this will evict each other's models")
    loaded = ", ".join(each.name for each in probe.loaded()) or "nothing"
    say(
        f"foreman: loads and unloads {', '.join(plan.models)} (loaded now: {loaded}); about "
        f"{plan.steps} calls of up to {plan.tokens} tokens. Ctrl-C ends it"
    )


def _run(plan: Plan, probe: Probe, report: Report, other: Probe | None) -> None:
    with _progress(plan.steps + (other is not None)) as step:
        bench = Bench(probe, plan, report, step)
        bench.run()
        if other is None:
            return
        if not _answers(other, "/api/version"):
            report.unmeasured.append("what foreman adds: the target cannot be reached from here")
        elif _is_busy(probe):
            report.unmeasured.append("what foreman adds: jobs are waiting or running")
        else:
            report.overhead = bench.compare(other)


def _is_busy(daemon: Probe) -> bool:
    try:
        queue: Any = daemon.get("/queue")
    except TargetError:
        return True
    return bool(queue["running"] or queue["lanes"])


@contextmanager
def _progress(steps: int) -> Generator[Callable[[str], None]]:
    """Who is told what is waited for: a bar on a terminal, else a line each."""
    if not sys.stderr.isatty():
        yield lambda text: say(f"foreman: {text}")
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False)
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=steps, completed=-1)

        def step(text: str) -> None:
            progress.update(task, description=text, advance=1)

        yield step


def _mix(daemon: Probe) -> dict[str, Calls]:
    """What was asked for lately, by model as it is displayed."""
    try:
        jobs: list[Any] = daemon.get(f"/jobs?state=done&limit={LATEST}")["jobs"]
    except (TargetError, KeyError, TypeError):
        return {}
    found: dict[str, list[Any]] = defaultdict(list)
    for job in jobs:
        found[names.display(job["model"])].append(job)
    return {
        model: Calls(
            len(each),
            sum(job["tokens_in"] or 0 for job in each),
            sum(job["tokens_out"] or 0 for job in each),
            sum(job["resident"] is False for job in each),
        )
        for model, each in found.items()
    }


def _chats(model: Entry) -> bool:
    return not model.remote_model and (model.capabilities is None or _can(model, "completion"))


def _can(model: Entry, capability: str) -> bool:
    return capability in (model.capabilities or ())


def _size(model: Entry) -> int:
    return model.size
