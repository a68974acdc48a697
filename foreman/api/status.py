"""How the daemon is: /healthz, /readyz, /metrics and /queue.

On the raw exchange and not in the Quart app: these are asked of an idle daemon, every few seconds,
and are all that most daemons are ever asked of foreman's own API.
"""

import logging
import sqlite3
from collections.abc import Awaitable, Callable

import msgspec
import trio

from foreman import tables
from foreman.api.exchange import Exchange
from foreman.api.health import Ready, health
from foreman.api.ports import Desk
from foreman.api.problems import store_problem
from foreman.api.replies import EXPOSITION, PLAIN_JSON
from foreman.api.submissions import refuse
from foreman.errors import ForemanError, NoReply
from foreman.wire import Header

log = logging.getLogger("foreman.status")


class Status:
    """Answers them. `exposition` gives the metrics in Prometheus' text format."""

    def __init__(self, desk: Desk, exposition: Callable[[], Awaitable[bytes]]) -> None:
        self._desk = desk
        self._exposition = exposition

    async def handle(self, exchange: Exchange) -> None:
        """Answer it; with a problem, when an actor or the database cannot say."""
        try:
            kind, body = await self._answer(exchange.path)
        except ForemanError as error:
            await refuse(exchange, store_problem(error))
        except (sqlite3.Error, trio.BrokenResourceError) as error:
            log.error("%s: %s", exchange.path, error)
            await refuse(exchange, store_problem(NoReply()))
        else:
            await exchange.reply(200, [kind], body)

    async def _answer(self, path: str) -> tuple[Header, bytes]:
        match path:
            case "/healthz":
                return _json(health(self._desk.inventory()))
            case "/readyz":
                await self._desk.queue()  # the worker answers
                await self._desk.read(tables.queued_total)  # and so does the database
                return _json(Ready())
            case "/queue":
                return _json(await self._desk.queue())
            case "/metrics":
                return EXPOSITION, await self._exposition()
            case _:
                raise AssertionError("the table of routes says otherwise")


def _json(document: object) -> tuple[Header, bytes]:
    return PLAIN_JSON, msgspec.json.encode(document)
