"""`foreman llm ask`: an answer as it comes, then where it came from."""

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import msgspec
import typer

from foreman.cli.answers import print_text
from foreman.cli.exits import Ended, Exit
from foreman.cli.llm_setup import Setup
from foreman.cli.submit import seconds
from foreman.cli.terminal import duration, prose, say
from foreman.llm.attempts import Attempt, Step
from foreman.llm.cost import Cost
from foreman.llm.media import read_image
from foreman.llm.messages import Message, system, user
from foreman.llm.observed import Observed
from foreman.llm.record import Record
from foreman.llm.registry import Registry
from foreman.llm.request import Options, Request
from foreman.llm.request_log import RequestLog
from foreman.llm.response import Event, Response


class Wanted(NamedTuple):
    """How it is to be answered."""

    instructions: str
    images: list[str]
    max_tokens: int | None
    temperature: float | None
    timeout: str | None


def ask(setup: Setup, spec: str, prompt: str, wanted: Wanted, *, as_json: bool) -> None:
    """Print the answer, and on standard error where it came from. Raises LLMError and Ended."""
    request = _request(prompt, wanted)
    patience = None if wanted.timeout is None else seconds(wanted.timeout)
    with ExitStack() as stack:
        records: list[Record] = []
        observers = [records.append]
        if setup.log is not None:
            observers.append(stack.enter_context(RequestLog(setup.log)).write)

        async def run() -> Response:
            async with setup.registry() as registry:
                model = _observed(setup, registry, spec, observers)
                with anyio.move_on_after(patience):
                    return await _streamed(model, request, quiet=as_json)
            raise Ended(Exit.TOO_LATE, f"no whole answer within {wanted.timeout}")

        response = anyio.run(run, backend="trio")
    [record] = records
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(_document(response, record))))
    else:
        for line in _origin(response, record):
            say(line)


def _request(prompt: str, wanted: Wanted) -> Request:
    """Raises MediaError, and BadParameter for a prompt without words."""
    if not prompt.strip() and not wanted.images:
        raise typer.BadParameter("the prompt is empty")
    images = [
        read_image(each if each.startswith("data:") else Path(each)) for each in wanted.images
    ]
    messages: list[Message] = [system(wanted.instructions)] if wanted.instructions else []
    options = Options(max_tokens=wanted.max_tokens, temperature=wanted.temperature)
    return Request.of([*messages, user(*images, prompt)], options=options)


def _observed(setup: Setup, registry: Registry, spec: str, observers: list[Any]) -> Observed:
    tiers = setup.settings.tier_table()
    prices = setup.settings.price_table()
    return Observed(registry.model(spec), *observers, prices=prices, tiers=tiers)


async def _streamed(model: Observed, request: Request, *, quiet: bool) -> Response:
    """The response; meanwhile its words are printed, unless `quiet`."""
    async with model.stream(request) as events:
        return await _printed(events, quiet=quiet)


async def _printed(events: AsyncIterator[Event], *, quiet: bool) -> Response:
    response: Response | None = None
    thinking = False
    async for event in events:
        response = event.response
        if event.place is not None:
            say(f"waiting: {event.place.position} ahead")
        if event.thinking and sys.stderr.isatty():
            thinking = True
            sys.stderr.write(f"\x1b[2m{prose(event.thinking)}\x1b[0m")
            sys.stderr.flush()
        if event.delta and not quiet:
            if thinking:
                say("\n")
                thinking = False
            print_text(event.delta, end="")
    if not quiet:
        print_text("")
    assert response is not None, "events end with a response, or raise"
    return response


def _origin(response: Response, record: Record) -> Iterator[str]:
    """Who answered, how long it took, what it cost, and why the others did not."""
    facts = [duration(record.seconds), f"{_tokens(response)} tokens", _cost(record.cost)]
    yield f"answered by {response.target}: {', '.join(facts)}"
    for text in dict.fromkeys(map(_why_not, response.history)):
        yield f"not by {text}"


def _why_not(step: Step) -> str:
    if isinstance(step, Attempt):
        return f"{step.target}: {step.error.reason}"
    return str(step)


def _tokens(response: Response) -> str:
    counts = response.usage.prompt, response.usage.output
    return " + ".join("?" if count is None else f"{count:,}" for count in counts)


def _cost(cost: Cost | None) -> str:
    return "cost unknown" if cost is None else str(cost)


def _document(response: Response, record: Record) -> dict[str, Any]:
    return {
        "id": record.id,
        "target": response.target,
        "text": response.text,
        "thinking": response.thinking,
        "finish": response.finish,
        "usage": response.usage,
        "cost": record.cost,
        "reported_cost": response.reported_cost,
        "seconds": record.seconds,
        "history": [
            {
                "target": step.target,
                "called": isinstance(step, Attempt),
                "reason": step.error.reason if isinstance(step, Attempt) else step.reason,
            }
            for step in response.history
        ],
    }
