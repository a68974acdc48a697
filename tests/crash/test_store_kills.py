"""kill -9 of the store at random moments and statements: no promise is lost, nothing invented.

`KILLS` in the environment makes the run longer.
"""

import itertools
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import pytest

from tests.crash.audit import Promise, Snapshot
from tests.crash.kills import OF_STORES, PER_DIRECTORY

ROOT = Path(__file__).parents[2]


class Victim:
    """The process that forks the children."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.victim"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, path: Path, random_: random.Random) -> list[Promise]:
        """One child, until it is killed: what it had promised by then."""
        by_itself = random_.random() < 0.5
        die = random_.randrange(1, 400) if by_itself else 0
        assert self.process.stdin and self.process.stdout
        print(path, die, random_.randrange(1 << 30), file=self.process.stdin, flush=True)
        lines = iter(self.process.stdout.readline, "")
        pid = int(next(lines).split()[1])
        said = [] if by_itself else _kill(pid, lines, random_)
        for line in lines:
            if line.startswith("ended"):
                assert line == f"ended {int(signal.SIGKILL)}\n"  # and not by an error of its own
                break
            said.append(line)
        return [(job, int(n), state) for job, n, state in map(str.split, said)]


def _kill(pid: int, lines: Iterator[str], random_: random.Random) -> list[str]:
    """Kill it a little after some number of promises, which are returned."""
    said = list(itertools.islice(lines, random_.choice([0, 0, 1, 5, 20, 60])))
    until = perf_counter() + random_.random() * 0.006  # under a scheduler's tick: spin
    while perf_counter() < until:
        pass
    os.kill(pid, signal.SIGKILL)
    return said


@pytest.fixture
def victim() -> Iterator[Victim]:
    started = Victim()
    yield started
    started.process.communicate()


def test_nothing_promised_is_lost_and_nothing_is_half_done(tmp_path: Path, victim: Victim) -> None:
    random_ = random.Random(20)
    total, promises = 0, list[Promise]()
    for number in range(OF_STORES):
        path = tmp_path / str(number // PER_DIRECTORY)
        if number % PER_DIRECTORY == 0:
            promises.clear()
        said = victim.run(path, random_)
        promises += said
        total += len(said)
        if (path / "foreman.db").exists():
            Snapshot(path).check(promises)
        else:
            assert promises == []
    assert total > OF_STORES * 5
