"""Measuring a target: loads, swaps, first tokens, tokens and embeddings a second.

All is asked of one `Probe`, which may lead through the daemon or past it. Raises TargetError.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from statistics import median

from foreman import names
from foreman.errors import TargetError
from foreman.probe import Entry, Probe, Timing

BATCH = 32  # texts embedded by one call
UNLOADING = 30.0  # seconds until an unloaded model is gone from /api/ps
LOOK = 0.05  # seconds between looks at it
WORDS = 150  # of a prompt
TEXT = "The lighthouse keeper wrote down what the sea had brought that morning."


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be measured: each model `runs` times with answers of `tokens` tokens."""

    models: Sequence[str]
    embed_model: str | None
    runs: int
    tokens: int

    @property
    def steps(self) -> int:
        """Calls that are waited for, about."""
        swaps = len(self.models) if len(self.models) > 1 else 0
        return len(self.models) * (1 + self.runs) + swaps + (self.embed_model is not None)


@dataclass(slots=True)
class ModelSpeed:
    """One model. Seconds; rates in tokens a second; None: not measured, or not told.

    `load` is from an empty memory, `swap` while `swapped_from` was loaded, which `evicted` says was
    thrown out. `first` and `first_cold` are until the first token, with and without the model
    loaded.
    """

    model: str
    load: float = 0.0
    first_cold: float = 0.0
    first: float | None = None
    prompt_rate: float | None = None
    output_rate: float | None = None
    swap: float | None = None
    swapped_from: str | None = None
    evicted: bool | None = None


@dataclass(frozen=True, slots=True)
class EmbeddingSpeed:
    """The embedding model: seconds for one text by itself, texts a second by the `BATCH`."""

    model: str
    one: float
    rate: float


@dataclass(slots=True)
class Report:
    """All that was measured so far. `overhead` is what foreman adds to a first token, in seconds.

    `unmeasured` says what was left out and why.
    """

    way: str
    models: list[ModelSpeed] = field(default_factory=list[ModelSpeed])
    embedding: EmbeddingSpeed | None = None
    overhead: float | None = None
    unmeasured: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, slots=True)
class Bench:
    """Measures by `probe` and fills `report`. `step` is told what is waited for next."""

    probe: Probe
    plan: Plan
    report: Report
    step: Callable[[str], None] = lambda text: None

    def run(self) -> None:
        """All of the plan."""
        for model in self.plan.models:
            speed = ModelSpeed(model)
            self.report.models.append(speed)
            self._measure(speed)
        for speed, before in zip(self.report.models, _before(self.plan.models), strict=True):
            if before is not None:
                self._swap(speed, before)
        if self.plan.embed_model:
            self.report.embedding = self._embed(self.plan.embed_model)

    def compare(self, other: Probe) -> float:
        """Seconds that a first token takes longer by `probe` than by `other`, model loaded."""
        model, runs = self.plan.models[-1], range(max(5, self.plan.runs))
        self.step("what foreman adds to a call")
        other.chat(model, _prompt(), 1)
        through = [self.probe.chat(model, _prompt(), 1).first for _ in runs]
        past = [other.chat(model, _prompt(), 1).first for _ in runs]
        return median(through) - median(past)

    def _measure(self, speed: ModelSpeed) -> None:
        self.step(f"{speed.model}: loading into an empty memory")
        self._clear()
        cold = self._asked(speed.model, self.plan.tokens)
        speed.first_cold, speed.load = cold.first, cold.load
        timings: list[Timing] = []
        for run in range(1, self.plan.runs + 1):
            self.step(f"{speed.model}: run {run} of {self.plan.runs}")
            timings.append(self._asked(speed.model, self.plan.tokens))
        speed.first = median(each.first for each in timings)
        speed.prompt_rate = _rate([(each.prompt_tokens, each.prompt) for each in timings])
        speed.output_rate = _rate([(each.output_tokens, each.output) for each in timings])

    def _swap(self, speed: ModelSpeed, before: str) -> None:
        self.step(f"{speed.model}: loading where {before} is")
        self._unload([speed.model])
        self._asked(before, 1)
        speed.swap, speed.swapped_from = self._asked(speed.model, 1).load, before
        speed.evicted = not any(_is(each, before) for each in self.probe.loaded())

    def _embed(self, model: str) -> EmbeddingSpeed:
        self.step(f"{model}: embeddings")
        texts = [f"{number}. {TEXT}" for number in range(BATCH)]
        self.probe.embed(model, texts[:1])  # loads it
        one = median(self.probe.embed(model, texts[:1]) for _ in range(self.plan.runs))
        return EmbeddingSpeed(model, one, BATCH / self.probe.embed(model, texts))

    def _asked(self, model: str, tokens: int) -> Timing:
        """One chat, without the time that it stood in foreman's line.

        foreman loads a model by a request of its own: there, the job knows how long that took.
        """
        timing = self.probe.chat(model, _prompt(), tokens)
        if timing.job is None:
            return timing
        waited, load = _of_job(self.probe, timing.job)
        first, total = (max(0.0, each - waited) for each in (timing.first, timing.total))
        return replace(timing, first=first, total=total, load=max(timing.load, load))

    def _clear(self) -> None:
        """Unload everything but the embedding model."""
        embed = self.plan.embed_model
        loaded = self.probe.loaded()
        self._unload([each.name for each in loaded if embed is None or not _is(each, embed)])

    def _unload(self, models: Sequence[str]) -> None:
        for model in models:
            self.probe.unload(model)
        until = time.monotonic() + UNLOADING
        while any(_is(each, model) for each in self.probe.loaded() for model in models):
            if time.monotonic() > until:
                raise TargetError(f"{', '.join(models)} stays loaded: somebody else uses it")
            time.sleep(LOOK)


def _before(models: Sequence[str]) -> Iterator[str | None]:
    """For each model, the one that is to be loaded when it comes."""
    for number in range(len(models)):
        yield models[number - 1] if len(models) > 1 else None


def _of_job(probe: Probe, job: str) -> tuple[float, float]:
    """Seconds from the job's arrival to its turn, and those of its load; 0 where not told."""
    try:
        found = probe.get(f"/jobs/{job}")
        times = (datetime.fromisoformat(found[key]) for key in ("created_at", "claimed_at"))
        arrived, claimed = times
        return max(0.0, (claimed - arrived).total_seconds()), float(found["load_s"] or 0.0)
    except (TargetError, KeyError, TypeError, ValueError):
        return 0.0, 0.0


def _prompt() -> str:
    """One that no server has in its cache: it differs from its first word on."""
    words = (TEXT.split() * (WORDS // 12 + 1))[:WORDS]
    return f"{time.time_ns()} {' '.join(words)} Tell the story from here."


def _rate(pairs: Sequence[tuple[int, float]]) -> float | None:
    tokens, seconds = sum(count for count, _ in pairs), sum(taken for _, taken in pairs)
    return tokens / seconds if tokens and seconds > 0 else None


def _is(entry: Entry, model: str) -> bool:
    return names.key(entry.name) == names.key(model)
