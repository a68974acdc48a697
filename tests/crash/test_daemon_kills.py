"""kill -9 of the real daemon while clients submit, follow and are told: rows A1-A5, A7 and A8.

`KILLS` in the environment makes the run longer.
"""

import gc
import json
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE

import pytest
import trio

from foreman.embedded.script import ModelScript, Script
from tests.crash.audit import ENDED, Snapshot
from tests.crash.clients import Witness, all_ended, crowd, follow
from tests.crash.kills import OF_DAEMONS, PER_DIRECTORY
from tests.crash.points import DISK, SERVING, STARTING
from tests.e2e.processes import Upstream, seed, upstream
from tests.e2e.receiver import SECRET, Receiver, receiver
from tests.e2e.targets import free_port
from tests.fakes.daemon import PATIENCE, SMALL, connected

# httpx leaves behind the body that it was sending when the daemon died.
pytestmark = pytest.mark.filterwarnings("ignore:Async generator 'httpx._content:ResourceWarning")

ROOT = Path(__file__).parents[2]
WORDS = "every word of it"
MODELS = Script(models=(ModelScript(name="small:latest", text=WORDS),))
AT_RANDOM = "nowhere by itself"
NEVER = 1 << 30
MOST = {"bulk stored": 2} | {f"artifact {call}": 3 for call in (*DISK, "published")}
"""A boot comes past these fewer times; past the others five times, the lines of a bulk."""


class Victim:
    """The process that forks the daemons, and what it and they say."""

    def __init__(self, process: trio.Process) -> None:
        self.died_at = Counter[str]()
        self.serving = trio.Event()
        self._process = process
        self._said = b""

    async def start(self, environment: dict[str, str], point: str, nth: int) -> int:
        """Fork a daemon; its process id."""
        order = {"environment": environment, "point": point, "nth": nth}
        self.serving = trio.Event()
        assert self._process.stdin is not None
        await self._process.stdin.send_all(json.dumps(order).encode() + b"\n")
        return int(await self._hear("pid"))

    async def ended(self) -> int:
        """Its wait status, once it has ended."""
        return int(await self._hear("ended"))

    async def _hear(self, wanted: str) -> str:
        while True:
            word, _, rest = (await self._line()).partition(" ")
            if word == wanted:
                return rest
            if word == "serving":
                self.serving.set()
            else:
                self.died_at[rest] += 1

    async def _line(self) -> str:
        assert self._process.stdout is not None
        while b"\n" not in self._said:
            more = await self._process.stdout.receive_some()
            assert more, "the daemons' parent is gone"
            self._said += more
        line, self._said = self._said.split(b"\n", 1)
        return line.decode()


@asynccontextmanager
async def victims(log: Path) -> AsyncGenerator[Victim]:
    with log.open("wb") as errors:
        command = [sys.executable, "-m", "tests.crash.daemon"]
        process = await trio.lowlevel.open_process(
            command, stdin=PIPE, stdout=PIPE, stderr=errors, cwd=ROOT
        )
    try:
        yield Victim(process)
    finally:
        assert process.stdin and process.stdout
        with trio.CancelScope(shield=True):
            await process.stdin.aclose()
            process.terminate()
            await process.wait()
            await process.stdout.aclose()


@dataclass
class Scene:
    """One folder and everybody round it."""

    victim: Victim
    hook: Receiver
    target: Upstream
    folder: Path
    port: int
    witness: Witness

    @property
    def environment(self) -> dict[str, str]:
        plain = {f"FOREMAN_{name.upper()}": str(value) for name, value in SMALL.items()}
        return plain | {
            "FOREMAN_OLLAMA_URL": self.target.url,
            "FOREMAN_LISTEN": f"127.0.0.1:{self.port}",
            "FOREMAN_DATA_DIR": str(self.folder),
            "FOREMAN_LOG_FORMAT": "json",
            "FOREMAN_WEBHOOK_SECRET": SECRET,
            "FOREMAN_WEBHOOK_ALLOW": "127.0.0.0/8",
        }

    async def killed(self, point: str, nth: int, random_: random.Random) -> None:
        """A boot that ends by kill -9: at its point, or a little after the clients have enough."""
        pid = await self.victim.start(self.environment, point, nth)
        with trio.fail_after(PATIENCE):
            await self._until_killed(pid, point, random_)

    async def _until_killed(self, pid: int, point: str, random_: random.Random) -> None:
        async with trio.open_nursery() as nursery:

            async def live() -> None:
                await self.victim.serving.wait()
                await self._clients(random_, random_.randrange(8), to_the_end=point != AT_RANDOM)
                with suppress(ProcessLookupError):  # it was quicker
                    os.kill(pid, signal.SIGKILL)

            nursery.start_soon(live)
            assert await self.victim.ended() == signal.SIGKILL  # and not by an error of its own
            nursery.cancel_scope.cancel("it is dead")

    async def drained(self) -> None:
        """A boot that is left alone until all is done, then stopped: exit 0."""
        pid = await self.victim.start(self.environment, AT_RANDOM, NEVER)
        async with trio.open_nursery() as nursery:

            async def finish() -> None:
                await self.victim.serving.wait()
                async with connected(f"http://127.0.0.1:{self.port}") as client:
                    await crowd(client, self.witness, random.Random(0), 0)
                    await all_ended(client)
                os.kill(pid, signal.SIGTERM)

            nursery.start_soon(finish)
            assert await self.victim.ended() == 0

    async def _clients(self, random_: random.Random, count: int, *, to_the_end: bool) -> None:
        async with connected(f"http://127.0.0.1:{self.port}") as client:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(follow, client, self.witness)
                async with trio.open_nursery() as crowds:
                    for number in (count, count // 2):
                        crowds.start_soon(crowd, client, self.witness, random_, number)
                if to_the_end:
                    await all_ended(client)
                nursery.cancel_scope.cancel("enough")

    def audit(self) -> Snapshot:
        """What the kill left, by its own reading of it."""
        found = Snapshot(self.folder)
        found.check()
        assert all(job["attempt"] == 1 for job in found.jobs)
        self.witness.check(found)
        return found

    def audit_the_end(self) -> None:
        """All that was accepted came to an end, and nothing lies about."""
        found = self.audit()
        assert {job["state"] for job in found.jobs} <= set(ENDED)
        assert {job["error_code"] for job in found.jobs} <= {None, "crash_loop"}
        assert set((self.folder / "artifacts").glob("*/*")) == found.files()
        for path in found.files():
            assert WORDS in _text(path)
        bodies = {row["id"]: row["body"] for row in found.outbox}
        assert all(bodies[each.id] == each.body for each in self.hook.messages)
        assert all(order.ids for order in self.witness.orders if order.key)


def _text(path: Path) -> str:
    return "".join(json.loads(line)["response"] for line in path.read_bytes().splitlines())


@asynccontextmanager
async def scenes(folder: Path) -> AsyncGenerator[Scene]:
    log = folder / "daemons.log"
    async with victims(log) as victim, upstream(MODELS) as target, receiver() as hook:
        port = await free_port()
        yield Scene(victim, hook, target, folder / "0", port, Witness(hook.url))
        gc.collect()  # here and not in somebody else's test: see pytestmark


def _plan(random_: random.Random) -> list[tuple[str, int]]:
    """For each kill its point, and which passing of it. Each point once, then at random."""
    points = [*SERVING, *random_.choices([*SERVING, AT_RANDOM], k=OF_DAEMONS - len(SERVING))]
    random_.shuffle(points)
    return [(point, random_.randrange(1, MOST.get(point, 5))) for point in points]


async def test_whatever_a_killed_daemon_had_accepted_comes_to_an_end_under_the_next(
    tmp_path: Path,
) -> None:
    random_ = random.Random(20)
    async with scenes(tmp_path) as scene:
        for number, (point, nth) in enumerate(_plan(random_), start=1):
            await scene.killed(point, nth, random_)
            if (scene.folder / "foreman.db").exists():
                scene.audit()
            if number % PER_DIRECTORY == 0 or number == OF_DAEMONS:
                await scene.drained()
                scene.audit_the_end()
                scene.folder = tmp_path / str(number)
                scene.witness = Witness(scene.hook.url)
                scene.hook.messages.clear()
        assert scene.victim.died_at.keys() >= set(SERVING)


async def test_a_start_that_is_killed_twenty_times_in_a_row_charges_its_job_once(
    tmp_path: Path,
) -> None:
    """Row A8."""
    random_ = random.Random(8)
    async with scenes(tmp_path) as scene:
        first, *_ = seed(scene.folder, 3)
        await scene.killed("after commit of working", 1, random_)
        for point in ["statement of recovery"] * 10 + random_.choices(STARTING[1:], k=10):
            nth = random_.randrange(1, 6) if point == "statement of recovery" else 1
            await scene.killed(point, nth, random_)
            Snapshot(scene.folder).check()
        await scene.drained()
        assert scene.victim.died_at.total() == 21
        found = Snapshot(scene.folder)
        found.check()
    assert {job["state"] for job in found.jobs} == {"done"}
    assert found.jobs[0]["id"] == first
    assert [job["crashes"] for job in found.jobs[:3]] == [1, 0, 0]
    assert found.store["epoch"] == 1 + 1 + 10 + 1  # seeded, killed, committed, drained
