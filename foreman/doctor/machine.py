"""The machine foreman runs on, as far as checks ask about it."""

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 5.0  # seconds that another program may take to answer
ELSEWHERE = ("192.0.2.1", "2001:db8::1")  # for documentation: nobody is there


def own_addresses() -> list[str]:
    """This machine's addresses as others would reach it. Nothing is sent."""
    found: list[str] = []
    for family, somewhere in zip((socket.AF_INET, socket.AF_INET6), ELSEWHERE, strict=True):
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((somewhere, 9))
            found.append(str(probe.getsockname()[0]))
    return found


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a check looks; a test may look elsewhere. `wall` is in seconds since 1970."""

    platform: str = sys.platform
    proc: Path = Path("/proc")
    mounts: Path = Path("/proc/self/mountinfo")
    systemd: Path = Path("/run/systemd/system")  # exists where systemd runs the machine
    sqlite: tuple[int, ...] = sqlite3.sqlite_version_info
    addresses: Callable[[], list[str]] = own_addresses
    clock: Callable[[], float] = time.perf_counter
    wall: Callable[[], float] = time.time

    def ask(self, program: str, *arguments: str) -> str | None:
        """What another program prints; None where there is no such program, or it hangs."""
        path = shutil.which(program)
        if path is None:
            return None
        with suppress(OSError, subprocess.TimeoutExpired):
            ran = subprocess.run(
                [path, *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False
            )
            return ran.stdout.strip()
        return None

    def file_system(self, path: Path) -> str | None:
        """The type of the file system on which `path` lies; None where that is not told."""
        try:
            lines = self.mounts.read_text().splitlines()
        except OSError:
            return None
        target, best, kind = os.path.realpath(path), "", None
        for line in lines:
            before, _, after = line.partition(" - ")
            point = before.split(" ")[4].replace("\\040", " ")
            inside = point in ("/", target) or target.startswith(point + "/")
            if inside and len(point) >= len(best):  # the last of equals lies on top
                best, kind = point, after.split(" ")[0]
        return kind

    def variables(self, process: int) -> dict[str, str] | None:
        """The environment that a process was started with; None where that is not told."""
        try:
            raw = (self.proc / str(process) / "environ").read_bytes()
        except OSError:
            return None
        pairs = (entry.partition(b"=") for entry in raw.split(b"\0") if entry)
        return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}

    def open_files(self, process: int) -> int | None:
        """How many files a process may have open; None where that is not told."""
        try:
            lines = (self.proc / str(process) / "limits").read_text().splitlines()
        except OSError:
            return None
        for line in lines:
            if line.startswith("Max open files"):
                soft = line.split()[3]
                return int(soft) if soft.isdigit() else None
        return None

    def holder(self, lock: Path) -> int | None:
        """The process that has this lock file open, by the id in it; None when that is gone."""
        try:
            process = int(lock.read_text())
        except (OSError, ValueError):
            return None
        try:
            files = list((self.proc / str(process) / "fd").iterdir())
        except OSError:  # another user's, or no Linux
            return process if _lives(process) else None
        with suppress(OSError):
            wanted = lock.stat()
            if any(_same(file, wanted) for file in files):
                return process
        return None


def _same(file: Path, wanted: os.stat_result) -> bool:
    try:
        return os.path.samestat(file.stat(), wanted)
    except OSError:
        return False


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
