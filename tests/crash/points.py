"""Where a daemon can be made to die: wrappers round its seams, in the process that dies.

Installed by the victim only. Each wrapper says that its point was reached and does what it wraps.
"""

import os
import random
import signal
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from actors import system
from foreman import artifacts, commit, database
from foreman.api import submissions
from foreman.transitions import Transaction

STATES = ("queued", "loading", "working", "done")
DISK = ("create", "write", "sync", "rename", "sync_directory")

SERVING = (
    *(f"before commit of {state}" for state in STATES),
    *(f"after commit of {state}" for state in STATES),
    *(f"artifact {call}" for call in DISK),
    "artifact published",
    "inside a commit",
    "after the 202",
    "bulk stored",
)
"""Reached while it serves; those of `queued` and `artifact published` are before the answer."""

STARTING = ("statement of recovery", "recovery committed", "sweep")
"""Reached by every start."""


class Trap:
    """Kills this process, unless it is disarmed, at the `nth` passing of `point`."""

    def __init__(self, point: str, nth: int) -> None:
        self._point = point
        self._left = nth

    def reached(self, point: str) -> None:
        if self._passes(point):
            self.spring()

    def reached_soon(self, point: str, seconds: float) -> None:
        """As `reached`, but so much later, whatever the process does then."""
        if self._passes(point):
            threading.Thread(target=partial(self._later, seconds)).start()

    def spring(self) -> None:
        os.write(1, f"at {self._point}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)

    def _passes(self, point: str) -> bool:
        if point != self._point:
            return False
        self._left -= 1
        return self._left == 0

    def _later(self, seconds: float) -> None:
        until = perf_counter() + seconds  # under a scheduler's tick: spin
        while perf_counter() < until:
            pass
        self.spring()


def install(trap: Trap) -> None:
    """Set the trap at every point, and make checkpoints frequent so that kills hit them too."""
    database.WRITER_PRAGMAS["wal_autocheckpoint"] = 10  # pages
    now = _Now()
    _watch_transactions(trap, now)
    _watch_recovery(trap, now)
    _watch_artifacts(trap)
    _watch_answers(trap)
    _tell_when_it_serves()


@dataclass(slots=True)
class _Now:
    """What the writing connection is at."""

    tx: Transaction | None = None
    recovering: bool = False


def _watch_transactions(trap: Trap, now: _Now) -> None:
    def trace(statement: str) -> None:
        if now.recovering:
            trap.reached("statement of recovery")
        elif statement == "COMMIT" and now.tx is not None:
            for event in now.tx.events:
                trap.reached(f"before commit of {event.state}")
            trap.reached_soon("inside a commit", random.random() * 0.002)

    def connected(connection: sqlite3.Connection, path: Path, mode: str, _: object) -> None:
        if mode == "rw":
            connection.set_trace_callback(trace)

    def begun(tx: Transaction, *_: object) -> None:
        now.tx = tx

    def committed(done: commit.Committed, *_: object) -> None:
        for event in done.events:
            trap.reached(f"after commit of {event.state}")

    _after(database, "connect", connected)
    _after(commit.Committer, "_transaction", begun)
    _after(commit.Committer, "commit", committed)


def _watch_recovery(trap: Trap, now: _Now) -> None:
    def recovering(*_: object) -> None:
        now.recovering = True

    def recovered(*_: object) -> None:
        now.recovering = False

    _before(database, "recover", recovering)
    _after(database, "recover", recovered)
    _after(database, "_claim", lambda *_: trap.reached("recovery committed"))


def _watch_artifacts(trap: Trap) -> None:
    for call in DISK:
        _before(artifacts.RealDisk, call, partial(_reached, trap, f"artifact {call}"))
    files = artifacts.ArtifactFiles
    _after(files, "publish", partial(_reached, trap, "artifact published"))
    _after(files, "sweep", partial(_reached, trap, "sweep"))


def _watch_answers(trap: Trap) -> None:
    _after_async(submissions, "single", partial(_reached, trap, "after the 202"))
    _after_async(submissions, "_store", partial(_reached, trap, "bulk stored"))


def _tell_when_it_serves() -> None:
    _after(system, "_announce", lambda *_: os.write(1, b"serving\n"))


def _reached(trap: Trap, point: str, *_: object) -> None:
    trap.reached(point)


def _before(owner: object, name: str, tell: Callable[..., object]) -> None:
    """Have `tell` called with the arguments of each call."""
    does = getattr(owner, name)

    def wrapped(*arguments: Any, **named: Any) -> Any:
        tell(*arguments)
        return does(*arguments, **named)

    setattr(owner, name, wrapped)


def _after(owner: object, name: str, tell: Callable[..., object]) -> None:
    """Have `tell` called with what each call returned, and its arguments."""
    does = getattr(owner, name)

    def wrapped(*arguments: Any, **named: Any) -> Any:
        done = does(*arguments, **named)
        tell(done, *arguments)
        return done

    setattr(owner, name, wrapped)


def _after_async(owner: object, name: str, tell: Callable[..., object]) -> None:
    does = getattr(owner, name)

    async def wrapped(*arguments: Any) -> Any:
        done = await does(*arguments)
        tell(done, *arguments)
        return done

    setattr(owner, name, wrapped)
