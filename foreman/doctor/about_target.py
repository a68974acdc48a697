"""Checks of the target: is it there, is it Ollama, has it the models, and room for two at once?"""

import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import urlsplit

from foreman.doctor.context import Context, as_health
from foreman.doctor.findings import Fine, Kind, Outcome, Severity, Unseen
from foreman.errors import TargetError
from foreman.probe import TargetRefused
from foreman.units import Address

OLDEST = (0, 3, 4)  # the first with /api/embed
SOUND = (0, 33)  # before: a runner could keep its slot for good after a parser's error
PATIENCE = 2.0  # seconds for a connection to this machine's own address

UNREACHABLE = Kind(
    "target-unreachable",
    Severity.PROBLEM,
    "no answer from the target at {url}: {reason}",
    "Jobs are accepted and wait; nothing is worked on.",
    "Start it (ollama serve), or set FOREMAN_OLLAMA_URL; if it sleeps, it is tried again "
    "every 2 seconds",
)
REFUSES = Kind(
    "target-refuses",
    Severity.PROBLEM,
    "the target at {url} asks for a token, or does not take this one ({status})",
    "No call will get through.",
    "Set FOREMAN_OLLAMA_TOKEN to what the server, or the proxy before it, asks for",
)
NOT_OLLAMA = Kind(
    "target-not-ollama",
    Severity.PROBLEM,
    "what answers at {url} is no Ollama server: {reason}",
    "No call will get through.",
    "Set FOREMAN_OLLAMA_URL to the server's base URL, without /api or /v1",
)
IS_FOREMAN = Kind(
    "target-is-foreman",
    Severity.PROBLEM,
    "the target at {url} is a foreman itself",
    "If it is this one, each call calls itself until nothing is free; if it is another, jobs "
    "wait in two queues that know nothing of each other.",
    "Set FOREMAN_OLLAMA_URL to the Ollama server; for several boxes, see docs/how-to/two-boxes.md",
)
TOO_OLD = Kind(
    "target-too-old",
    Severity.PROBLEM,
    "the target is Ollama {version}; foreman needs {oldest}",
    "It lacks /api/embed, with which foreman loads and keeps the embedding model.",
    "Upgrade Ollama",
)
KNOWN_BAD = Kind(
    "target-known-bad",
    Severity.NOTE,
    "the target is Ollama {version}; before {sound} an error in its answer could block a model",
    "A job on that model then waits until FOREMAN_FIRST_BYTE_TIMEOUT, and so do its retries.",
    "Upgrade Ollama to {sound} or later",
)
NO_MODELS = Kind(
    "no-models",
    Severity.WARNING,
    "the target has no models",
    "Every call is answered with 404.",
    "ollama pull llama3.2",
)
SPILLED = Kind(
    "model-spilled",
    Severity.WARNING,
    "{model} is loaded with {percent} % of it in the GPU, the rest in main memory",
    "It runs several times slower than it would in the GPU alone.",
    "Use a smaller model or num_ctx, or free the GPU of other programs",
)
OPEN_TARGET = Kind(
    "target-open",
    Severity.NOTE,
    "the target can be reached without foreman, at {url}",
    "Calls that bypass the queue evict models under running jobs.",
    "Where ollama serve runs beside foreman, set OLLAMA_HOST=127.0.0.1 for it; elsewhere let a "
    "firewall admit foreman's machine alone",
)


def target(context: Context) -> Iterator[Outcome]:
    """Does it answer, and is it an Ollama server of a sound version?"""
    url, version = context.settings.ollama_url, context.version
    if _is_foreman(context):
        yield IS_FOREMAN(url=url)
        return
    match version:
        case TargetRefused(status=401 | 403 as status):
            yield REFUSES(url=url, status=status)
        case TargetRefused():
            yield NOT_OLLAMA(url=url, reason=version)
        case TargetError():
            yield UNREACHABLE(url=url, reason=version)
        case str():
            yield from _age(version)
            yield Fine(f"Ollama {version} answers at {url}")


def models(context: Context) -> Iterator[Outcome]:
    """Is there a model to work with, and is what is loaded loaded well?"""
    if not context.installed:
        yield NO_MODELS()
    for each in context.loaded():
        if 0 < each.size_vram < each.size:
            yield SPILLED(model=each.name, percent=each.size_vram * 100 // each.size)
    yield Fine(f"{len(context.installed)} installed")


def bypass(context: Context) -> Iterator[Outcome]:
    """Can others reach the target without foreman?"""
    target = urlsplit(context.settings.ollama_url)
    port = target.port or (443 if target.scheme == "https" else 80)
    if not Address(target.hostname or "", 0).loopback:
        yield OPEN_TARGET(url=context.settings.ollama_url)
        return
    for address in context.machine.addresses():
        with suppress(OSError), socket.create_connection((address, port), PATIENCE):
            yield OPEN_TARGET(url=f"{target.scheme}://{Address(address, port)}")
            return
    yield Fine("it listens to this machine alone")


def _is_foreman(context: Context) -> bool:
    """Its metadata look like Ollama's: only a route of its own tells."""
    probe = context.target
    try:
        return as_health(probe.ask("/healthz")) is not None
    except TargetError:
        return False


def _age(version: str) -> Iterator[Outcome]:
    numbers = tuple(map(int, re.findall(r"\d+", version.partition("-")[0])))
    if not any(numbers):  # 0.0.0 is what one calls itself that was built from source
        yield Unseen(f"how old the target is: it calls itself {version}")
    elif numbers < OLDEST:
        yield TOO_OLD(version=version, oldest=_dotted(OLDEST))
    elif numbers < SOUND:
        yield KNOWN_BAD(version=version, sound=_dotted(SOUND))


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
