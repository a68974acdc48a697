"""GET /metrics: everything is told that can be found out, whatever is in trouble right now."""

import logging
import sqlite3
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import trio

from foreman.api.ports import Desk
from foreman.errors import ForemanError
from foreman.metrics.counts import Metrics
from foreman.metrics.gauges import Stock

T = TypeVar("T")

Look = Callable[[sqlite3.Connection], Stock]
"""What the disk holds; runs where it may block."""

log = logging.getLogger("foreman.metrics")

PATIENCE = 3.0  # seconds for each question; Prometheus waits 10 for the whole


class Scrape:
    """The metrics in Prometheus' text format, when it is called."""

    def __init__(self, desk: Desk, metrics: Metrics, look: Look) -> None:
        self._desk = desk
        self._metrics = metrics
        self._look = look
        self._one_at_a_time = trio.Lock()

    async def __call__(self) -> bytes:
        async with self._one_at_a_time:
            queue = await _unless_in_trouble(self._desk.queue)
            stock = await _unless_in_trouble(partial(self._desk.read, self._look))
            self._metrics.fill(queue, stock)
            # In a thread: that takes some milliseconds, for which nobody's tokens wait.
            return await trio.to_thread.run_sync(self._metrics.text)


async def _unless_in_trouble(ask: Callable[[], Awaitable[T]]) -> T | None:
    try:
        with trio.fail_after(PATIENCE):
            return await ask()
    except trio.TooSlowError:
        log.warning("the metrics are not complete: no answer within %g s", PATIENCE)
    except (ForemanError, sqlite3.Error, OSError, trio.BrokenResourceError) as error:
        log.warning("the metrics are not complete: %s", error)
    return None
