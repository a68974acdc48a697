"""What a subscriber asks for in its query string."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from foreman.api.parameters import given, label, model_key, one_of
from foreman.api.problems import Problem
from foreman.event_log import EventFilter
from foreman.jobs import JobClass, JobId, State

_DIGITS = 18  # of a seq; what fits into 64 bits for sure


@dataclass(frozen=True, slots=True)
class EventQuery:
    """`after` is None where the client did not say; without `follow` the log ends at its head."""

    after: int | None
    follow: bool
    wanted: EventFilter


def parse(query: bytes, wanted: EventFilter) -> EventQuery:
    """The query string's meaning; its filters add to those of `wanted`.

    Raises Problem (400), whose `field` is the parameter's name.
    """
    known = _PARAMETERS if wanted.job is None else _PARAMETERS - {"job"}
    asked = given(query, known)
    for name, terms in _FILTERS.items():
        if name in asked:
            wanted = terms(wanted, asked[name])
    return EventQuery(_after(asked.get("after")), _follow(asked.get("follow", "1")), wanted)


def _after(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
        raise _wrong("after", f"after={text}: write the seq of the last event you have, or 0")
    return int(text)


def _follow(text: str) -> bool:
    if text not in ("0", "1"):
        raise _wrong("follow", f"follow={text}: write 0 to end at the last event, else 1")
    return text == "1"


def _states(wanted: EventFilter, text: str) -> EventFilter:
    states = frozenset(one_of(State, "state", each) for each in text.split(","))
    return replace(wanted, states=states)


def _job_class(wanted: EventFilter, text: str) -> EventFilter:
    return replace(wanted, job_class=one_of(JobClass, "class", text))


def _job(wanted: EventFilter, text: str) -> EventFilter:
    return replace(wanted, job=JobId(text))


def _model(wanted: EventFilter, text: str) -> EventFilter:
    return replace(wanted, model=model_key(text))


def _label(wanted: EventFilter, text: str) -> EventFilter:
    return replace(wanted, label=label(text))


def _wrong(name: str, detail: str) -> Problem:
    return Problem(400, "bad_parameter", detail, field=name)


_FILTERS: dict[str, Callable[[EventFilter, str], EventFilter]] = {
    "job": _job,
    "state": _states,
    "model": _model,
    "label": _label,
    "class": _job_class,
}
_PARAMETERS = frozenset({"after", "follow", *_FILTERS})
