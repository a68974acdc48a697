"""The processes of a benchmark: who they are, on which core they run, when they are ready."""

import http.client
import os
import socket
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import msgspec
import psutil  # type: ignore[import-untyped]  # comes without types

ROOT = Path(__file__).parents[2]
PATIENCE = 30.0  # seconds for a process to become ready
LOOK = 0.002  # seconds between two looks
STOP = 15.0  # seconds for a process to end when asked to


@dataclass(frozen=True, slots=True)
class Cores:
    """Which core the daemon has and which the others; None where the system cannot pin."""

    daemon: int | None
    others: int | None

    def __str__(self) -> str:
        if self.daemon is None:
            return "not pinned"
        return f"daemon on core {self.daemon}, clients and target on core {self.others}"


def cores() -> Cores:
    """The first two cores this process may use, one for the daemon and one for everybody else."""
    if sys.platform != "linux" or len(usable := sorted(os.sched_getaffinity(0))) < 2:
        return Cores(None, None)
    return Cores(usable[0], usable[1])


@dataclass(frozen=True, slots=True)
class Server:
    """A process that listens on `port` of 127.0.0.1."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def rss(self) -> float:
        """Resident memory in MB (10^6 bytes)."""
        return float(psutil.Process(self.process.pid).memory_info().rss) / 1e6

    @property
    def cpu(self) -> float:
        """Seconds of CPU that it has had."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of a GET. Raises OSError while nobody listens."""
        return self._ask("GET", path)

    def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of a POST."""
        return self._ask("POST", path, body)

    def _ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def wait(self, path: str) -> float:
        """Ask until the answer is a 200; the moment it was (`perf_counter`)."""
        until = perf_counter() + PATIENCE
        while perf_counter() < until:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.process.args!r} ended: {self.process.returncode}")
            try:
                status, _ = self.get(path)
            except OSError:
                status = 0
            if status == 200:
                return perf_counter()
            sleep(LOOK)
        raise TimeoutError(f"{self.process.args!r} is not ready")


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def fast_target(core: int | None) -> Generator[Server]:
    """The target that is never what limits."""
    port = free_port()
    with _running(["tests.bench.fast_target", str(port)], port, core) as server:
        server.wait("/")
        yield server


@contextmanager
def receiver(core: int | None) -> Generator[Server]:
    """The receiver of webhooks that is never what limits."""
    port = free_port()
    with _running(["tests.bench.receiver", str(port)], port, core) as server:
        server.wait("/counts")
        yield server


@contextmanager
def embedded(script: Path) -> Generator[Server]:
    """The embedded target, which keeps one model loaded at a time."""
    port = free_port()
    command = ["foreman.embedded", "--listen", f"127.0.0.1:{port}", "--max-loaded", "1"]
    with _running([*command, "--script", str(script)], port, None) as server:
        server.wait("/")
        yield server


@contextmanager
def daemon(
    directory: Path,
    target: Server,
    core: int | None = None,
    program: str = "actors",
    **settings: object,
) -> Generator[Server]:
    """`foreman serve`, just spawned, with its data and its log in `directory`.

    `settings` are set as FOREMAN_ variables; no others are. `program` is the module that runs it.
    """
    port = free_port()
    chosen = {
        "ollama_url": f"http://127.0.0.1:{target.port}",
        "listen": f"127.0.0.1:{port}",
        "data_dir": directory,
        **settings,
    }
    environment = {f"FOREMAN_{name.upper()}": str(value) for name, value in chosen.items()}
    with _running([program, "serve"], port, core, environment, directory) as server:
        yield server


@contextmanager
def _running(
    module: Sequence[str],
    port: int,
    core: int | None,
    environment: dict[str, str] | None = None,
    directory: Path | None = None,
) -> Generator[Server]:
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
    log = subprocess.DEVNULL if directory is None else (directory / "log").open("ab")
    process = subprocess.Popen(
        [sys.executable, "-m", *module],
        env=_plain() | (environment or {}),
        cwd=ROOT,
        stdout=log,
        stderr=log,
    )
    pin(process, core)
    try:
        yield Server(port, process)
    finally:
        process.terminate()
        try:
            process.wait(STOP)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if not isinstance(log, int):
            log.close()


def run_client(
    scenario: str, core: int | None, *, program: str = "client", **arguments: object
) -> Any:
    """What this scenario of one of the client programs measures, in a process of its own."""
    with subprocess.Popen(
        [sys.executable, "-m", f"tests.bench.{program}", scenario],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=_plain(),
        cwd=ROOT,
    ) as process:
        pin(process, core)
        measured, _ = process.communicate(msgspec.json.encode(arguments))
    if process.returncode:
        raise RuntimeError(f"the scenario {scenario} of {program} failed")
    return msgspec.json.decode(measured)


def pin(process: subprocess.Popen[bytes], core: int | None) -> None:
    """Keep a process that has just begun, and what it starts, on one core."""
    if core is not None and sys.platform == "linux":
        os.sched_setaffinity(process.pid, {core})


def _plain() -> dict[str, str]:
    """The environment without settings of foreman's: a benchmark measures the defaults.

    Python's own default too, which keeps what it has compiled: a start is not its first.
    """
    left_out = ("FOREMAN_", "PYTHONDONTWRITEBYTECODE")
    return {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
