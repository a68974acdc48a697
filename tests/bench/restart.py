"""Restarts under load, with the port kept open by who starts the daemon: who notices, how long."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep

from tests.bench.effort import Bench
from tests.bench.figures import Figure, at_most, quantile
from tests.bench.processes import PATIENCE, ROOT, STOP, Server, fast_target, pin, run_client

HANDOVER = ROOT / "tests" / "deploy" / "handover.py"
CLIENTS = 16
BEFORE = 2.0  # seconds; the clients have begun
BETWEEN = 1.0  # seconds of rest between two restarts


def measure(bench: Bench) -> list[Figure]:
    """Failures, and the waits of the requests that met a restart."""
    restarts = bench.effort.restarts
    seconds = BEFORE + restarts * (BETWEEN + 1.0)
    directory = bench.directory / "restart"
    directory.mkdir()
    with (
        fast_target(bench.cores.others) as target,
        _service(directory, target, bench.cores.daemon) as service,
        ThreadPoolExecutor(1) as pool,
    ):
        service.start()
        crowd = pool.submit(
            run_client,
            "crowd",
            bench.cores.others,
            program="restart_client",
            port=service.port,
            clients=CLIENTS,
            seconds=seconds,
        )
        sleep(BEFORE)
        gaps = [service.restart() for _ in range(restarts)]
        found = crowd.result()
    return _figures(gaps, found["answered"], found["failed"])


def _figures(
    gaps: Sequence[tuple[float, float]],
    answered: Sequence[Sequence[float]],
    failed: Sequence[str],
) -> list[Figure]:
    met = [
        ((ended - max(began, start)), end - start)
        for start, end in gaps
        for began, ended in answered
        if began <= end and ended >= start
    ]
    lasted = quantile([end - start for start, end in gaps], 0.5)
    longest = max(wait for wait, _ in met)
    share = quantile([wait / gap for wait, gap in met], 0.99)
    how = (
        f"{CLIENTS} clients, {len(answered):,} answers, {len(gaps)} restarts on an inherited socket"
    )
    which = f"{len(met)} requests that met a restart, each against its own; longest "
    which += f"{1000 * longest:,.0f} ms; the first GET /jobs after a start loads Quart as well"
    refused = failed[0] if failed else "no failure"
    return [
        Figure(
            "restart_failures",
            "failed requests over restarts",
            len(failed),
            "",
            f"{how}; {refused}",
            at_most(0),
        ),
        Figure("restart_time", "restart, SIGTERM to answer", 1000 * lasted, "ms", f"{how}; median"),
        Figure(
            "restart_wait",
            "... p99 wait of requests, of that time",
            100 * share,
            "%",
            which,
            at_most(100),
        ),
    ]


@dataclass(slots=True)
class _Service:
    """The daemon, and the sockets that outlive it."""

    command: list[str]
    environment: dict[str, str]
    listener: socket.socket
    notify: socket.socket
    core: int | None
    log: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        port: int = self.listener.getsockname()[1]
        return port

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env=self.environment,
                pass_fds=[self.listener.fileno()],
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )
        pin(self.process, self.core)
        while b"READY=1" not in self.notify.recv(4096):
            pass

    def restart(self) -> tuple[float, float]:
        """When it was told to stop, and when the next one had answered; then a rest."""
        began = perf_counter()
        self.stop()
        self.start()
        assert self.process is not None
        answered = Server(self.port, self.process).wait("/api/version")
        sleep(BETWEEN)
        return began, answered

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            if self.process.wait(STOP) != 0:
                raise RuntimeError(self.log.read_text())


@contextmanager
def _service(directory: Path, target: Server, core: int | None) -> Generator[_Service]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("FOREMAN_")}
    settings = {
        "FOREMAN_OLLAMA_URL": f"http://127.0.0.1:{target.port}",
        "FOREMAN_DATA_DIR": str(directory / "data"),
        "NOTIFY_SOCKET": f"@foreman-bench-{os.getpid()}",
    }
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(1024)
        notify = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        notify.bind("\0" + settings["NOTIFY_SOCKET"][1:])
        notify.settimeout(PATIENCE)
        handover = [sys.executable, str(HANDOVER), str(listener.fileno())]
        command = [*handover, sys.executable, "-m", "actors", "serve"]
        service = _Service(command, plain | settings, listener, notify, core, directory / "log")
        try:
            yield service
        finally:
            service.stop()
