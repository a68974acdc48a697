"""Giving the room of deleted rows back to the disk, a few pages at a time, while nobody writes."""

import logging
import sqlite3
from collections.abc import Callable
from time import perf_counter

from foreman.commit import Committer

log = logging.getLogger("foreman.retention")

SPARE = 1024  # free pages (4 MiB) that are left: the next jobs take them, and need no others
MOST = 2048  # pages in one transaction
LONGEST = 0.003  # seconds that one transaction may hold up a write, before its commit


class Vacuum:
    """Shrinks an idle database, at a pace at which nobody waits for it."""

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        self._clock = clock

    def step(self, committer: Committer) -> bool:
        """Cut off a few pages; whether there are more to cut off. Raises DiskFailed."""
        if not committer.idle:
            return False
        connection = committer.database.connection
        try:
            [(free,)] = connection.execute("PRAGMA freelist_count").fetchall()
            if free <= SPARE:
                return False
            connection.execute("BEGIN IMMEDIATE")
            done = self._cut_off(connection, min(MOST, free - SPARE))
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            connection.rollback()
            committer.give_up_if_lost(error)
            log.warning("the database could not be made smaller: %s", error)
            return False
        committer.log_has_grown()
        return bool(free - done > SPARE)

    def _cut_off(self, connection: sqlite3.Connection, most: int) -> int:
        """How many pages it was time for."""
        until, done = self._clock() + LONGEST, 0
        while done < most and (not done or self._clock() < until):
            connection.execute("PRAGMA incremental_vacuum(1)").fetchall()
            done += 1
        return done
