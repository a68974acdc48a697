"""Where a call stands in line, said on standard error while its client waits."""

import sys
import threading
import time
from types import TracebackType
from typing import Self

from foreman import names
from foreman.cli.connection import Daemon, decode
from foreman.cli.terminal import prose
from foreman.errors import ForemanError
from foreman.queue_view import QueueView

PATIENT_FOR = 0.6  # seconds without a word before anything is said
PERIOD = 1.0  # seconds between looks


class Place:
    """Looks at the queue from a thread of its own until the block ends or `found` is called.

    The call's own id comes with the answer's head, which foreman holds back for a while. Until
    `job` is known, the call is the one for its model that has waited as long as we have.
    """

    def __init__(self, daemon: Daemon, model: str) -> None:
        self.job: str | None = None
        self._daemon = daemon
        self._model = model
        self._began = time.monotonic()
        self._over = threading.Event()
        self._writing = threading.Lock()
        self._said = ""
        self._live = sys.stderr.isatty()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.found()

    def found(self) -> None:
        """The answer is here: say no more, and take back what stands on a terminal."""
        with self._writing:
            if not self._over.is_set() and self._said and self._live:
                self._write("\r\x1b[K")
            self._over.set()

    def _watch(self) -> None:
        self._over.wait(PATIENT_FOR)
        while not self._over.is_set():
            try:
                view = decode(self._daemon.get("/queue"), QueueView)
            except ForemanError:
                pass  # the call itself will tell what is wrong
            else:
                waited = time.monotonic() - self._began
                self._say(where(view, self.job, self._model, waited))
            self._over.wait(PERIOD)

    def _say(self, text: str) -> None:
        with self._writing:
            if self._over.is_set() or not text or text == self._said:
                return
            self._said = text
            self._write(f"\r\x1b[K\x1b[2m{prose(text)}\x1b[0m" if self._live else f"{text}\n")

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()


def where(view: QueueView, job: str | None, model: str, waited: float) -> str:
    """In words; empty when the call is nowhere to be seen. `waited` is in seconds."""
    running = view.running
    calls = [call for call in view.calls if (call.id == job if job else _same(call.model, model))]
    nearest = min(calls, key=lambda call: abs(call.seconds - waited), default=None)
    if nearest is not None:
        away = ", and the target is away" if view.target_away else ""
        return f"position {nearest.position} in line{away}"
    if running and (running.id == job if job else _same(running.model, model)):
        return f"{running.model} is {running.state}"
    return ""


def _same(one: str, other: str) -> bool:
    try:
        return names.key(one) == names.key(other)
    except names.InvalidName:
        return False
