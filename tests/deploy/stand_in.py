"""A stand-in for systemd: it keeps the port and a notify socket, starts, restarts and kills."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from tests.fakes.daemon import PATIENCE, SMALL

HANDOVER = Path(__file__).parent / "handover.py"
ROOT = Path(__file__).parents[2]


class StandIn:
    """One service. `heard` is what its present process has said, `log` where its stderr goes."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        listener: socket.socket,
        notify: trio.socket.SocketType,
        log: Path,
    ) -> None:
        self.url = "http://{}:{}".format(*listener.getsockname())
        self.log = log
        self.heard: list[str] = []
        self.process: trio.Process | None = None
        self._command = [sys.executable, str(HANDOVER), str(listener.fileno()), *command]
        self._environment = environment
        self._listener = listener
        self._notify = notify
        self._changed = trio.Event()

    async def start(self) -> None:
        """Start it, and return when it has said that it is ready."""
        self.heard = []
        with self.log.open("ab") as log:
            self.process = await trio.lowlevel.open_process(
                self._command,
                env=dict(self._environment),
                pass_fds=[self._listener.fileno()],
                stderr=log,
                stdout=subprocess.DEVNULL,
                cwd=ROOT,
            )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._must_not_end, self.process)
            with trio.fail_after(PATIENCE):
                await self.hears(lambda: "READY=1" in self.heard)
            nursery.cancel_scope.cancel("it is ready")

    async def _must_not_end(self, process: trio.Process) -> None:
        code = await process.wait()
        raise AssertionError(f"it ended with {code}: {self.log.read_text()}")

    async def ended_by(self, number: signal.Signals) -> int:
        """Send it, and return the exit status once it has ended."""
        assert self.process is not None
        self.process.send_signal(number)
        return await self.process.wait()

    async def restart(self) -> None:
        """As `systemctl restart`: SIGTERM, wait, start. It ends well, or AssertionError."""
        assert await self.ended_by(signal.SIGTERM) == 0, self.log.read_text()
        assert "STOPPING=1" in self.heard
        await self.start()

    async def watch(self, period: float) -> int:
        """Return the exit status of a process that gave no sign of life for so long: SIGABRT."""
        while True:
            fed = self.heard.count("WATCHDOG=1")
            with trio.move_on_after(period) as patience:
                await self.hears(lambda fed=fed: self.heard.count("WATCHDOG=1") > fed)  # type: ignore[misc]
            if patience.cancelled_caught:
                return await self.ended_by(signal.SIGABRT)

    async def hears(self, condition: Callable[[], bool]) -> None:
        """Return when it holds; it is looked at with each message."""
        while not condition():
            await self._changed.wait()

    async def listen(self) -> None:
        """Hear what comes, for ever."""
        while True:
            self.heard += (await self._notify.recv(4096)).decode().splitlines()
            self._changed.set()
            self._changed = trio.Event()

    async def end(self) -> None:
        """Whatever still runs, runs no longer."""
        if self.process is not None:
            self.process.kill()
            await self.process.wait()


@asynccontextmanager
async def stand_in(
    folder: Path,
    target_url: str,
    command: Sequence[str] = (sys.executable, "-m", "actors", "serve"),
    *,
    watchdog: float | None = None,
    **variables: str,
) -> AsyncGenerator[StandIn]:
    """Nothing runs yet; killed at the end of the block if it still runs. `watchdog` is seconds.

    `variables` are settings as they stand in the environment, without their prefix.
    """
    settings = {"ollama_url": target_url, "data_dir": str(folder / "data"), **SMALL, **variables}
    plain = {name: value for name, value in os.environ.items() if not name.startswith("FOREMAN_")}
    environment = plain | {f"FOREMAN_{name.upper()}": str(each) for name, each in settings.items()}
    environment["NOTIFY_SOCKET"] = str(folder / "notify")
    if watchdog is not None:
        environment["WATCHDOG_USEC"] = str(round(watchdog * 1e6))
    with (
        socket.socket() as listener,
        trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify,
    ):
        listener.bind(("127.0.0.1", 0))
        listener.listen(1024)
        await notify.bind(environment["NOTIFY_SOCKET"])
        service = StandIn(command, environment, listener, notify, folder / "log")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(service.listen)
            try:
                yield service
            finally:
                with trio.CancelScope(shield=True):
                    await service.end()
            nursery.cancel_scope.cancel("the test is over")
