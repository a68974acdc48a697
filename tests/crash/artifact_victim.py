"""A process to be killed while it publishes one result: at the n-th step on the way to the disk.

Started once; forks a fresh child for each `folder n` it reads from its input, and says how that
child ended. With 0 nothing kills it. A child takes the job it finds, or makes one, to its end.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from foreman.artifacts import ArtifactFiles, RealDisk
from foreman.commit import Committer
from foreman.database import Database, open_writer
from foreman.jobs import JobIds
from foreman.rows import Result
from foreman.tables import JobRef, Transaction, claim, finish, lane_heads, start, submit
from tests.fakes.jobs import new_job

ANSWER = Result(200, "application/x-ndjson", b'{"done":true}\n' * 50_000)


class DeadlyDisk(RealDisk):
    """Kills the process before its n-th call once it is armed; a body takes two calls to write."""

    def __init__(self, die: int) -> None:
        self._left = die
        self._armed = False

    def arm(self) -> None:
        self._armed = True

    def step(self) -> None:
        self._left -= self._armed
        if self._armed and self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def make_directory(self, path: Path) -> None:
        self.step()
        super().make_directory(path)

    def create(self, path: Path) -> int:
        self.step()
        return super().create(path)

    def write(self, descriptor: int, body: memoryview) -> int:
        self.step()
        return super().write(descriptor, body[: len(ANSWER.body) // 2])

    def sync(self, descriptor: int) -> None:
        self.step()
        super().sync(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        self.step()
        super().rename(old, new)

    def sync_directory(self, path: Path) -> None:
        self.step()
        super().sync_directory(path)


def live(folder: Path, die: int) -> None:
    disk = DeadlyDisk(die)
    with open_writer(folder, now=now(), ballast=4096) as database:
        artifacts = ArtifactFiles(folder / "artifacts", disk)
        artifacts.sweep(database.connection)
        ref = committed(database, lambda tx: claim(tx, job(tx), resident=True))
        ref = committed(database, lambda tx: start(tx, ref, load_s=None))
        disk.arm()
        artifact = artifacts.publish(ref.id, 1, ANSWER)
        disk.step()
        committed(database, lambda tx: finish(tx, ref, artifact=artifact))
        disk.step()
        database.close()


def job(tx: Transaction) -> JobRef:
    """The one that waits, or a new one."""
    waiting = [head.ref for head in lane_heads(tx.connection, tx.now)]
    return waiting[0] if waiting else submit(tx, new_job(JobIds().new()))


def committed(database: Database, step: Callable[[Transaction], Any]) -> JobRef:
    [answer] = Committer(database, keep_free=0).commit([step], now()).answers
    ref: JobRef = answer.unwrap()
    return ref


def now() -> int:
    return time.time_ns() // 1000


def main() -> None:
    for line in sys.stdin:
        folder, die = line.split()
        child = os.fork()
        if child == 0:
            live(Path(folder), int(die))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(status, flush=True)


if __name__ == "__main__":
    main()
