"""What the figures mean for the settings, and how many calls an hour there can be."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from foreman.config import Settings
from foreman.speed.measuring import ModelSpeed, Report
from foreman.units import format_duration

ROOM = 3  # times the measured load: another day the disk is busy, the file not in memory
CONTEXT = 32_768  # tokens of the longest prompt that is thought of
PIECES = 20  # tokens' time that a pause between two may take
LONG_LINGER = 60.0  # seconds; to hold a batch up for longer is a decision, not advice
SWAPS = 10  # loads that should fit into FOREMAN_MAX_WAIT
HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Advice:
    """A setting, what it should be, and why."""

    key: str
    value: str
    why: str


@dataclass(frozen=True, slots=True)
class Calls:
    """What clients asked of one model lately: how many calls, their tokens, how many loads."""

    count: int
    tokens_in: int
    tokens_out: int
    loads: int


def advise(report: Report, settings: Settings, embedders: Sequence[str] = ()) -> Iterator[Advice]:
    """What to set differently. `embedders` are the installed embedding models."""
    if settings.embed_model is None and embedders:
        why = "embeddings then go beside the queue, and evict nothing"
        yield Advice("FOREMAN_EMBED_MODEL", embedders[0], why)
    loads = [(max(each.load, each.swap or 0.0), each.model) for each in report.models]
    if not loads:
        return
    yield from _of_loads(*max(loads), settings)
    yield from _of_rates(report.models, settings)


def _of_loads(load: float, model: str, settings: Settings) -> Iterator[Advice]:
    took = f"{model} took {load:.1f} s to load"
    if load * ROOM > settings.load_timeout:
        why = f"{took}; a load that is cut short is lost work, and charged to the job"
        yield Advice("FOREMAN_LOAD_TIMEOUT", _rounded(load * ROOM), why)
    if settings.linger < min(load, LONG_LINGER) - 1:
        why = f"{took}; to wait that long for a client's next call never costs more than it saves"
        yield Advice("FOREMAN_LINGER", _rounded(min(load, LONG_LINGER)), why)
    if load * SWAPS > settings.max_wait:
        why = f"{took}; with several models in use, most of the time would go into loads"
        yield Advice("FOREMAN_MAX_WAIT", _rounded(load * SWAPS), why)


def _of_rates(models: Sequence[ModelSpeed], settings: Settings) -> Iterator[Advice]:
    reading = [(each.prompt_rate, each.model) for each in models if each.prompt_rate]
    if reading:
        rate, model = min(reading)
        if (seconds := CONTEXT / rate) > settings.first_byte_timeout:
            why = f"{model} reads {rate:.0f} tokens/s: {CONTEXT} of them take {seconds:.0f} s"
            yield Advice("FOREMAN_FIRST_BYTE_TIMEOUT", _rounded(seconds * 1.5), why)
    writing = [(each.output_rate, each.model) for each in models if each.output_rate]
    if writing:
        rate, model = min(writing)
        if (seconds := PIECES / rate) > settings.gap_timeout:
            why = f"{model} writes {rate:.2f} tokens/s"
            yield Advice("FOREMAN_GAP_TIMEOUT", _rounded(seconds), why)


def calls_an_hour(report: Report, mix: Mapping[str, Calls]) -> float | None:
    """How many calls like those of `mix` (by model) fit into an hour; None when none was like it.

    The waiting of clients is no limit: the target works all the time.
    """
    count, seconds = 0, 0.0
    for speed in report.models:
        calls = mix.get(speed.model)
        if calls is None or not speed.output_rate:
            continue
        count += calls.count
        seconds += calls.tokens_out / speed.output_rate + calls.loads * _swap(speed)
        seconds += calls.tokens_in / speed.prompt_rate if speed.prompt_rate else 0.0
    return HOUR * count / seconds if count and seconds else None


def measured_calls_an_hour(speed: ModelSpeed, tokens: int, *, swapping: bool) -> float | None:
    """Calls like those measured, with answers of `tokens`: one after the other, or a load each."""
    if not speed.output_rate or speed.first is None:
        return None
    seconds = speed.first + tokens / speed.output_rate + (_swap(speed) if swapping else 0.0)
    return HOUR / seconds if seconds else None


def _swap(speed: ModelSpeed) -> float:
    return speed.load if speed.swap is None else speed.swap


def _rounded(seconds: float) -> str:
    """Up to the next round figure."""
    step = 5 if seconds < 60 else 30 if seconds < 600 else 300
    return format_duration(math.ceil(seconds / step) * step)
