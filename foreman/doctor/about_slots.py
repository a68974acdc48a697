"""Checks of the two models at once: the embedding model, and room for a worker's beside it."""

from collections.abc import Iterator

from foreman import names
from foreman.doctor.context import Context
from foreman.doctor.findings import CannotLookError, Fine, Kind, Outcome, Severity, Unseen
from foreman.errors import TargetError
from foreman.probe import Entry, Probe
from foreman.units import format_size

EMBED_UNSET = Kind(
    "embed-model-unset",
    Severity.NOTE,
    "FOREMAN_EMBED_MODEL is not set, and {model} is installed",
    "Embeddings go past the queue, and may evict the model of a running job.",
    "FOREMAN_EMBED_MODEL={model}",
)
EMBED_MISSING = Kind(
    "embed-model-missing",
    Severity.PROBLEM,
    "FOREMAN_EMBED_MODEL={model} is not installed at the target",
    "Every embedding is answered with 404.",
    "ollama pull {model}",
)
EMBED_WRONG = Kind(
    "embed-model-wrong",
    Severity.PROBLEM,
    "FOREMAN_EMBED_MODEL={model} is no embedding model: it can {can}",
    "It takes the room that is meant for a small model, and its vectors are of little use.",
    "Set FOREMAN_EMBED_MODEL to one that can do embedding; ollama pull nomic-embed-text gets one",
)
EMBED_FAILS = Kind(
    "embed-model-fails",
    Severity.PROBLEM,
    "FOREMAN_EMBED_MODEL={model} does not embed: {reason}",
    "Every embedding fails.",
    "Look at the target's log; ollama pull {model} replaces a damaged file",
)
WORKER_FAILS = Kind(
    "worker-model-fails",
    Severity.PROBLEM,
    "{model} cannot be loaded: {reason}",
    "Jobs for it fail after {attempts} attempts.",
    "Look at the target's log; a smaller model or context may fit",
)
ONE_SLOT = Kind(
    "one-slot",
    Severity.PROBLEM,
    "the target does not keep {embed} and {worker} loaded together: only {left} is left",
    "Each embedding evicts the model of the jobs, and each job the embedding model: both load "
    "again and again.",
    "Set OLLAMA_MAX_LOADED_MODELS=2 where ollama serve runs, and restart it; if it is set, the "
    "two do not fit into memory together ({sizes})",
)
SLOTS_UNKNOWN = Kind(
    "two-slots-unknown",
    Severity.NOTE,
    "whether the target keeps the embedding model beside another is not known: {loaded} loaded now",
    "With one slot, embeddings and jobs evict each other's model.",
    "foreman doctor --load (it loads both, and may evict what is loaded now)",
)


def embed_model(context: Context) -> Iterator[Outcome]:
    """Is FOREMAN_EMBED_MODEL installed, and an embedding model?"""
    wanted = context.settings.embed_model
    if wanted is None:
        candidates = [each for each in context.installed if "embedding" in _told(context, each)]
        if candidates:
            yield EMBED_UNSET(model=names.display(candidates[0].name))
        yield Fine("none is set, and none is installed")
        return
    found = context.find(wanted)
    if found is None:
        yield EMBED_MISSING(model=wanted)
        return
    can = context.can(found)
    if found.remote_model or (can and "embedding" not in can):
        yield EMBED_WRONG(model=wanted, can=", ".join(can) or "be reached in the cloud")
    elif not can:
        yield Unseen(f"whether {wanted} is an embedding model: this Ollama does not say")
    yield Fine(f"{wanted} is installed")


def two_slots(context: Context) -> Iterator[Outcome]:
    """Does the target keep the embedding model and a worker's model loaded together?"""
    embed = _embed_entry(context)
    loaded = context.loaded()
    others = [each for each in loaded if not _same(each, embed)]
    if any(_same(each, embed) for each in loaded) and others:
        yield Fine(f"{embed.name} and {others[0].name} are loaded together")
    elif not context.load:
        yield SLOTS_UNKNOWN(loaded=", ".join(each.name for each in loaded) or "nothing")
    else:
        yield from _load_both(context, embed, others)


def _told(context: Context, model: Entry) -> tuple[str, ...]:
    """Capabilities, without asking for each model of a server that does not list them."""
    if model.capabilities is None and "embed" in model.name:
        return context.can(model)
    return model.capabilities or ()


def _embed_entry(context: Context) -> Entry:
    wanted = context.settings.embed_model
    if wanted is None:
        raise CannotLookError("FOREMAN_EMBED_MODEL is not set: no model needs a slot of its own")
    found = context.find(wanted)
    if found is None:
        raise CannotLookError(f"{wanted} is not installed")
    return found


def _same(one: Entry, other: Entry) -> bool:
    if names.key(one.name) == names.key(other.name):
        return True
    return bool(one.digest) and one.digest == other.digest


def _load_both(context: Context, embed: Entry, others: list[Entry]) -> Iterator[Outcome]:
    """Through the daemon where it runs: it must know what is loaded, and others wait in line."""
    worker = _worker(context, embed, others)
    with _way(context) as probe:
        try:
            probe.embed(embed.name, ["one"])
        except TargetError as error:
            yield EMBED_FAILS(model=embed.name, reason=error)
            return
        try:
            probe.load(worker.name)
        except TargetError as error:
            attempts = context.settings.max_attempts
            yield WORKER_FAILS(model=worker.name, reason=error, attempts=attempts)
            return
    loaded = context.loaded()
    left = [each for each in (embed, worker) if any(_same(each, other) for other in loaded)]
    if len(left) == 2:
        yield Fine(f"{embed.name} and {worker.name} were loaded, and stayed together")
        return
    sizes = ", ".join(f"{each.name} {format_size(each.size)}" for each in (embed, worker))
    words = " and ".join(each.name for each in left) or "neither"
    yield ONE_SLOT(embed=embed.name, worker=worker.name, left=words, sizes=sizes)


def _worker(context: Context, embed: Entry, others: list[Entry]) -> Entry:
    """What is loaded anyhow, else the smallest that can chat."""
    if others:
        return others[0]
    able = [each for each in context.installed if _chats(context, each, embed)]
    if not able:
        raise CannotLookError("no other model is installed")
    return min(able, key=lambda each: (each.size, each.name))


def _chats(context: Context, model: Entry, embed: Entry) -> bool:
    if model.remote_model or _same(model, embed):
        return False
    return "completion" in (model.capabilities or context.can(model) or ("completion",))


def _way(context: Context) -> Probe:
    daemon = context.daemon.health is not None and context.holder is not None
    if daemon:
        return Probe(context.location.url, context.location.secret)
    token = context.settings.ollama_token
    secret = token.get_secret_value() if token else None
    return Probe(context.settings.ollama_url, secret, context.settings.connect_timeout)
