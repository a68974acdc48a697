"""kill -9 of the store at random moments and statements: no promise is lost, nothing invented.

The audit shares no code with the program: it reads the file as anybody could. `KILLS` in the
environment makes the run longer.
"""

import itertools
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from time import perf_counter

import msgspec
import pytest

KILLS = int(os.environ.get("KILLS", "200"))
PER_DIRECTORY = 20  # kills until the next one starts afresh
ROOT = Path(__file__).parents[2]

NEXT = {
    "": {"queued"},
    "queued": {"loading", "failed"},
    "loading": {"working", "queued", "failed"},
    "working": {"done", "queued", "failed"},
    "done": set[str](),
    "failed": set[str](),
}

Promise = tuple[str, int, str]


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
    for number in range(KILLS):
        path = tmp_path / str(number // PER_DIRECTORY)
        if number % PER_DIRECTORY == 0:
            promises.clear()
        said = victim.run(path, random_)
        promises += said
        total += len(said)
        if (path / "foreman.db").exists():
            audit(path / "foreman.db", promises)
        else:
            assert promises == []
    assert total > KILLS * 5


def audit(path: Path, promises: list[Promise]) -> None:
    """Everything that must hold of the file, by its own reading of it."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        events = connection.execute("SELECT * FROM events ORDER BY seq").fetchall()
        jobs = connection.execute("SELECT * FROM jobs").fetchall()
        lanes = connection.execute("SELECT * FROM lanes").fetchall()
        [store] = connection.execute("SELECT * FROM store").fetchall()
        bodies = {job for (job,) in connection.execute("SELECT job FROM requests").fetchall()}
        results = {job for (job,) in connection.execute("SELECT job FROM results").fetchall()}
    for row in (*events, *jobs):
        *values, found = row
        assert zlib.crc32(msgspec.msgpack.encode(values)) == found
    assert [event["seq"] for event in events] == list(range(1, store["seq"] + 1))
    logs: dict[str, list[sqlite3.Row]] = {job["id"]: [] for job in jobs}
    for event in events:
        logs[event["job"]].append(event)
    for job in jobs:
        _job_is_sound(job, logs[job["id"]])
    written = {(event["job"], event["n"], event["state"]) for event in events}
    assert written.issuperset(promises)
    assert bodies == {job["id"] for job in jobs if job["class"] == "batch"}
    assert results == {job["id"] for job in jobs if job["state"] == "done"}
    waiting = [j["model_key"] for j in jobs if (j["state"], j["class"]) == ("queued", "batch")]
    assert {lane["model_key"]: lane["queued"] for lane in lanes} == {
        model: waiting.count(model) for model in waiting
    }
    assert store["queued"] == len(waiting)


def _job_is_sound(job: sqlite3.Row, log: list[sqlite3.Row]) -> None:
    assert [event["n"] for event in log] == list(range(1, job["version"] + 1))
    assert (log[-1]["state"], log[-1]["seq"]) == (job["state"], job["last_seq"])
    for before, after in itertools.pairwise(["", *(event["state"] for event in log)]):
        assert after in NEXT[before]
    restarts = [e for e in log if json.loads(e["detail"]).get("reason") == "restart"]
    assert job["crashes"] == len(restarts) + (job["error_code"] == "crash_loop")
    assert job["attempt"] == 1  # neither a restart nor a lost target is charged
