"""A daemon whose metrics count nothing, to stand beside one whose metrics do.

`python -m tests.bench.uncounted` takes the arguments of `foreman`. What is counted when it happens
is left out, what is looked up at a scrape is not.
"""

import inspect
from contextlib import AbstractContextManager, nullcontext

from foreman.metrics.counts import Embedding, Metrics
from foreman.metrics.http_series import Answered, Asked, HttpSeries
from foreman.metrics.job_series import JobSeries

LOOKED_UP = ("begin", "fill", "text")  # at a scrape


class _Nothing(Asked):
    def __init__(self) -> None: ...

    def enter(self, route: object) -> None: ...


_NOTHING = _Nothing()


def _request(_self: HttpSeries, _answered: Answered) -> AbstractContextManager[Asked]:
    return nullcontext(_NOTHING)


def _embedding(_self: Metrics) -> AbstractContextManager[Embedding]:
    return nullcontext(Embedding())


def _ignore(*_arguments: object, **_named: object) -> None: ...


def count_nothing() -> None:
    """Take the counting out of every `Metrics` of this process."""
    for series in (Metrics, JobSeries, HttpSeries):
        for name, _ in inspect.getmembers(series, inspect.isfunction):
            if not name.startswith("_") and name not in LOOKED_UP:
                setattr(series, name, _ignore)
    HttpSeries.request = _request  # type: ignore[method-assign,assignment]
    Metrics.embedding = _embedding  # type: ignore[method-assign,assignment]


if __name__ == "__main__":
    from actors.__main__ import main

    count_nothing()
    main()
