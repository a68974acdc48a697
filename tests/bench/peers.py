"""The same durable submission on what one would otherwise take; run like `tests.bench.client`.

Each is asked in the process that stores: without HTTP, without a check of the request, without an
event log.
"""

import importlib
import importlib.util
from collections.abc import Callable
from time import perf_counter
from typing import Any

from tests.bench.client import play
from tests.bench.job_client import HELD

WARM_UP = 50
SYNCED = 2  # SQLite's `synchronous`: FULL


def installed() -> list[str]:
    """The peers that can be measured here."""
    return [name for name in PEERS if importlib.util.find_spec(name)]


def huey(file: str, seconds: float) -> float:
    """Tasks a second into a SqliteHuey with fsync."""
    queue: Any = importlib.import_module("huey").SqliteHuey(filename=file, fsync=True)
    [level] = queue.storage.conn.execute("PRAGMA synchronous").fetchone()
    _require_sync(level)

    @queue.task()  # type: ignore[untyped-decorator]  # it comes without types
    def generate(submission: bytes) -> None:
        raise AssertionError("nobody consumes it")

    return _rate(lambda: generate(HELD), seconds)


def hoglah(file: str, seconds: float) -> float:
    """Chats a second into hoglah's own store."""
    store: Any = importlib.import_module("hoglah.store").create_sqlite_store(file)
    models: Any = importlib.import_module("hoglah.models")
    message = {"role": "user", "content": "why is it blue?"}
    chat = models.JobRequest(kind="chat", model="held", messages=[message])
    return _rate(lambda: store.enqueue(chat), seconds)


def _require_sync(level: int) -> None:
    if level != SYNCED:
        raise RuntimeError(f"it does not wait for the disk: synchronous = {level}")


def _rate(submit: Callable[[], object], seconds: float) -> float:
    for _ in range(WARM_UP):
        submit()
    began, count = perf_counter(), 0
    while (spent := perf_counter() - began) < seconds:
        submit()
        count += 1
    return count / spent


PEERS: dict[str, Callable[..., object]] = {"huey": huey, "hoglah": hoglah}

if __name__ == "__main__":
    play(PEERS)
