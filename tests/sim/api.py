"""The whole daemon in virtual time, and people who use it over HTTP.

Nothing waits for a real clock or a thread: the database works on the spot, and connections lead to
sockets of the same process, whose bytes are there as soon as they are sent.
"""

import json
import sqlite3
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
import trio.testing

from actors import system
from foreman import database, tables
from foreman.config import Address, Settings
from foreman.embedded import server
from foreman.embedded.app import EmbeddedTarget
from foreman.embedded.script import ModelScript, Script
from foreman.embedded.scripted import ScriptedEngine
from tests.crash.audit import ENDED, LIVE, Snapshot
from tests.e2e.receiver import SECRET, Receiver, receiver
from tests.e2e.targets import free_port
from tests.fakes.daemon import SMALL, connected

MODELS = tuple(
    ModelScript(name=f"{name}:latest", load_seconds=load, tokens=5, token_seconds=0.2)
    for name, load in (("a", 2.0), ("b", 5.0))
)
EVERY = [f"job.{state}" for state in (*LIVE, *ENDED)]
BEHIND = 200.0  # s; receivers refuse what is signed five minutes from the real time, either way
STOP_AT_MOST = 10.0  # s; I16
MAX_ATTEMPTS = 3
END_AT_MOST = 600.0  # s for all that was accepted to end, once nothing is broken any more


@contextmanager
def virtual() -> Generator[None]:
    """No threads, no fsync, and a wall clock that goes with trio's."""
    began = time.time_ns() - round(BEHIND * 1e9)

    def wall() -> int:
        return began + round(trio.current_time() * 1e9)

    async def inline(work: Callable[[], Any], *arguments: Any, **_: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return work(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time_ns", wall)
        patch.setattr(trio.to_thread, "run_sync", inline)
        patch.setitem(database.WRITER_PRAGMAS, "synchronous", 0)
        yield


@dataclass
class World:
    """A daemon, its target, a receiver, and what was sent and seen so far."""

    config: Settings
    target: EmbeddedTarget
    hook: Receiver
    client: httpx.AsyncClient
    nursery: trio.Nursery
    accepted: list[str] = field(default_factory=list[str])
    keys: dict[str, str] = field(default_factory=dict[str, str])
    unsure: int = 0  # submissions that were not answered yes or no
    hooked: set[str] = field(default_factory=set[str])
    seen: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    ended: dict[str, str] = field(default_factory=dict[str, str])
    outages: int = 0
    _stop: trio.Event = field(default_factory=trio.Event)
    _stopped: trio.Event = field(default_factory=trio.Event)
    _target: trio.CancelScope | None = None
    _follower: trio.CancelScope | None = None

    # ------------------------------------------------------------ what people do

    async def submit(self, model: str, priority: int, key: str | None, *, hook: bool) -> None:
        """POST /jobs; with a key that was used before it is the same job."""
        order: dict[str, Any] = {"request": chat(model), "priority": priority}
        if hook:
            order["webhook"] = {"url": self.hook.url, "events": ["*"]}
        headers = {"idempotency-key": key} if key else {}
        answer = await self.client.post("/jobs", json=order, headers=headers)
        self._judge(answer.status_code, answer.json(), key, hook=hook)

    async def submit_bulk(self, models: list[str]) -> None:
        """POST /jobs/bulk, with one line in it that is none."""
        lines = [json.dumps({"request": chat(model)}) for model in models] + ['{"requets": 1}']
        answer = await self.client.post("/jobs/bulk", content="\n".join(lines))
        said = [json.loads(line) for line in answer.text.splitlines()]
        assert [each["line"] for each in said] == list(range(1, len(lines) + 1))
        assert said[-1]["status"] == 400
        for each in said[:-1]:
            self._judge(each["status"], each.get("job", each.get("error")), None, hook=False)

    async def cancel(self, number: int) -> None:
        """DELETE /jobs/{id} of one of those that were accepted."""
        if not self.accepted:
            return
        job = self.accepted[number % len(self.accepted)]
        answer = await self.client.delete(f"/jobs/{job}")
        assert answer.status_code in (200, 202, 409), answer.text
        if answer.status_code == 200:
            self._see_end(job, answer.json())
            assert answer.json()["error"]["code"] == "cancelled"

    async def wait(self, number: int, seconds: int) -> None:
        """GET /jobs/{id}/wait: it returns in time, or with the end."""
        if not self.accepted:
            return
        job, began = self.accepted[number % len(self.accepted)], trio.current_time()
        answer = await self.client.get(f"/jobs/{job}/wait?timeout={seconds}")
        took = trio.current_time() - began
        assert answer.status_code == 200, answer.text
        assert took <= seconds + 1
        if answer.json()["state"] in ENDED:
            self._see_end(job, answer.json())
        else:
            assert took >= seconds

    async def call(self, model: str) -> None:
        """POST /api/chat and hang up after a while."""
        with trio.move_on_after(20):
            answer = await self.client.post("/api/chat", json=chat(model))
            assert answer.status_code in (200, 404, 502, 503), answer.text

    async def subscribe(self) -> None:
        """GET /events from the last number on; hang up where it was subscribed."""
        if self._follower is not None:
            self._follower.cancel("enough")
            self._follower = None
        else:
            self._follower = trio.CancelScope()
            self.nursery.start_soon(self._follow, self._follower)

    async def pass_time(self, seconds: int) -> None:
        await trio.sleep(seconds)

    # ------------------------------------------------------------ what befalls them

    async def restart(self) -> None:
        """Stop the daemon in good order and start it on the same data."""
        began = trio.current_time()
        self._stop.set()
        await self._stopped.wait()
        assert trio.current_time() - began <= STOP_AT_MOST
        self._audit()
        await self.start()

    async def start(self) -> None:
        self._stop, self._stopped = trio.Event(), trio.Event()
        await self.nursery.start(self._serve)

    async def target_goes(self) -> None:
        """The port is closed and every connection cut."""
        if self._target is not None:
            self._target.cancel("an outage")
            self._target = None
            self.outages += 1
            await trio.testing.wait_all_tasks_blocked()

    async def target_comes(self) -> None:
        if self._target is None:
            self._target = trio.CancelScope()
            await self.nursery.start(self._serve_target, self._target)

    # ------------------------------------------------------------ what must be true in the end

    async def settle(self) -> None:
        """Nothing is broken any more: all that was accepted ends, is told and was in order."""
        await self.target_comes()
        with trio.fail_after(END_AT_MOST):
            for job in self.accepted:
                while job not in self.ended:
                    await self.wait_for(job)
            while await self._pending():  # noqa: ASYNC110  # nothing tells of a settled delivery
                await trio.sleep(1)
        if self._follower is not None:
            self._follower.cancel("the end")
            await trio.testing.wait_all_tasks_blocked()
        await self._follow(trio.CancelScope(), follow=0)
        self._stop.set()
        await self._stopped.wait()
        self._judge_all(self._audit())

    async def wait_for(self, job: str) -> None:
        """One long poll."""
        view = (await self.client.get(f"/jobs/{job}/wait")).json()
        if view["state"] in ENDED:
            self._see_end(job, view)

    async def _pending(self) -> bool:
        answer = await self.client.get("/webhooks/deliveries?state=pending")
        return bool(answer.json()["deliveries"])

    def _judge(self, status: int, said: Any, key: str | None, *, hook: bool) -> None:
        if status in (500, 503, 507):
            self.unsure += 1
            return
        if status == 422:
            assert key in self.keys
            return
        assert status == (200 if key in self.keys else 202), said
        job = said["id"]
        if key in self.keys:
            assert job == self.keys[key]
            return
        assert job not in self.accepted
        self.accepted.append(job)
        if key:
            self.keys[key] = job
        if hook:
            self.hooked.add(job)

    def _see_end(self, job: str, view: dict[str, Any]) -> None:
        """An end is an end: whoever looks later sees the same."""
        assert self.ended.setdefault(job, view["state"]) == view["state"]

    def _audit(self) -> Snapshot:
        """I2, I3, I5, I14, and an outbox row for each event that is to be told."""
        found = Snapshot(self.config.data_dir)
        found.check()
        assert {row["id"] for row in found.jobs} >= set(self.accepted)  # I1
        with closing(sqlite3.connect(self.config.data_dir / "foreman.db")) as connection:
            assert tables.check(connection, None) == []
        return found

    def _judge_all(self, found: Snapshot) -> None:
        jobs = {row["id"]: row for row in found.jobs if row["class"] == "batch"}
        assert len(self.accepted) <= len(jobs) <= len(self.accepted) + self.unsure  # I15
        assert {job: jobs[job]["state"] for job in self.accepted} == self.ended
        retries = sum(row["attempt"] - 1 for row in jobs.values())
        assert retries <= self.outages  # I14: only an answer that was cut is charged
        for job in self.accepted:
            cut = jobs[job]["error_code"] == "truncated" and jobs[job]["attempt"] == MAX_ATTEMPTS
            assert cut or jobs[job]["error_code"] in (None, "cancelled")
        assert self.target.oracle.max_running <= 1  # I4
        log = [(row["seq"], row["job"], row["n"], row["state"]) for row in found.events]
        assert [(e["seq"], e["job"], e["n"], e["state"]) for e in self.seen] == log  # I8
        self._judge_webhooks(found)

    def _judge_webhooks(self, found: Snapshot) -> None:
        """I9."""
        bodies = {row["id"]: row["body"] for row in found.outbox}
        assert all(bodies[each.id] == each.body for each in self.hook.messages)
        assert {each.id for each in self.hook.messages} == set(bodies)
        for job in self.hooked:
            seqs = [each.data["seq"] for each in self.hook.messages if each.data["job"] == job]
            firsts = list(dict.fromkeys(seqs))
            assert firsts == [row["seq"] for row in found.events if row["job"] == job]

    # ------------------------------------------------------------ how they run

    async def _serve(self, *, task_status: trio.TaskStatus[str]) -> None:
        try:
            await system.serve(self.config, stop=self._stop, task_status=task_status)
        finally:
            self._stopped.set()

    async def _serve_target(
        self, scope: trio.CancelScope, *, task_status: trio.TaskStatus[str]
    ) -> None:
        port = httpx.URL(self.config.ollama_url).port or 0
        with scope:
            await server.serve(self.target, port=port, task_status=task_status)

    async def _follow(self, scope: trio.CancelScope, follow: int = 1) -> None:
        """Every number comes, and comes once, and not before it is on the disk."""
        query = f"/events?after={len(self.seen)}&follow={follow}"
        with scope, suppress(httpx.TransportError):  # a stop may come before the connection
            async with self.client.stream("GET", query) as answer:
                async for line in answer.aiter_lines():
                    event = json.loads(line)
                    assert event["seq"] == len(self.seen) + 1, line
                    assert event["seq"] <= self._head()  # I5
                    self.seen.append(event)
        if self._follower is scope:
            self._follower = None

    def _head(self) -> int:
        """The last event on the disk."""
        with closing(sqlite3.connect(self.config.data_dir / "foreman.db")) as connection:
            [(seq,)] = connection.execute("SELECT seq FROM store").fetchall()
            return int(seq)


def chat(model: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "x"}]}


Step = Callable[[World], Any]


@asynccontextmanager
async def world(folder: Path) -> AsyncGenerator[World]:
    """A daemon that serves, its target, and a receiver."""
    daemon_at, target_at = await free_port(), await free_port()
    config = Settings(
        ollama_url=f"http://127.0.0.1:{target_at}",
        listen=Address("127.0.0.1", daemon_at),
        data_dir=folder,
        webhook_secret=SECRET,  # type: ignore[arg-type]  # validated from text
        webhook_allow="127.0.0.0/8",  # type: ignore[arg-type]
        poll_interval=5.0,
        max_attempts=MAX_ATTEMPTS,
        **SMALL,
    )
    target = EmbeddedTarget(ScriptedEngine(Script(models=MODELS)))
    async with receiver() as hook, connected(f"http://127.0.0.1:{daemon_at}") as client:
        async with trio.open_nursery() as nursery:
            found = World(config, target, hook, client, nursery)
            await found.target_comes()
            await found.start()
            yield found
            nursery.cancel_scope.cancel("the end")


async def play(folder: Path, steps: list[Step]) -> None:
    """The steps in order, then the end."""
    async with world(folder) as here:
        for step in steps:
            await step(here)
        await here.settle()
