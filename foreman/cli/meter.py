"""How fast the running job is answered, by counting the records of its output as they come."""

import threading
import time
from collections import deque

from foreman.cli.connection import Daemon
from foreman.errors import ForemanError

WINDOW = 5.0  # seconds that a rate is taken over
CATCHING_UP = 0.5  # seconds in which the records of the past come, all at once
IDLE = 600.0  # seconds; a job that is silent for longer is not measured any more


class Meter:
    """Follows one job at a time, in a thread that ends with the job's output.

    A record is about a token. The daemon keeps the output of batch jobs; a client's call has none
    to read, and no speed.
    """

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._job: str | None = None
        self._came: deque[float] = deque()
        self._count = 0

    def follow(self, job: str | None) -> None:
        """Measure this job from now on."""
        if job == self._job:
            return
        self._job, self._came, self._count = job, deque(), 0
        if job is not None:
            threading.Thread(target=self._read, args=(job,), daemon=True).start()

    def shown(self) -> str | None:
        """In words; None when there is nothing to measure."""
        now = time.monotonic()
        while self._came and self._came[0] < now - WINDOW:
            self._came.popleft()
        if self._job is None or not self._count:
            return None
        return f"{len(self._came) / WINDOW:.1f} tokens/s, {self._count} so far"

    def _read(self, job: str) -> None:
        began = time.monotonic()
        try:
            with self._daemon.open("GET", f"/jobs/{job}/output", patience=IDLE) as answer:
                for _ in answer.lines():
                    if self._job != job:
                        return
                    self._count += 1
                    if (now := time.monotonic()) > began + CATCHING_UP:
                        self._came.append(now)
        except ForemanError:
            return  # it is measured for show only
