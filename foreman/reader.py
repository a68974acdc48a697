"""Reading beside the writer: whole answers from one moment, in a thread, never in its way."""

import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from foreman.database import open_reader
from foreman.executor import Executor, threaded

T = TypeVar("T")

READERS = 2  # a long listing must not hold up a look at one job


class Reader:
    """Answers questions about one database; `execute` may run READERS of them at a time.

    Each question has a connection to itself while it runs. Two threads on one connection would
    see each other's transactions, and wait for each other anyway.
    """

    def __init__(self, path: Path, execute: Executor | None = None) -> None:
        self._execute = execute or threaded(READERS)
        self._idle = [open_reader(path) for _ in range(READERS)]

    async def read(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """What `question` returns, every query in it seeing the same commit. It may not write."""
        return await self._execute(partial(self._answer, question))

    def _answer(self, question: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._idle.pop()
        try:
            connection.execute("BEGIN")
            return question(connection)
        finally:
            connection.rollback()
            self._idle.append(connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for connection in self._idle:
            connection.close()
