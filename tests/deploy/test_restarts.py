"""Restarts on an inherited socket, under load: nobody is refused, nothing accepted is lost."""

import itertools
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import trio

from foreman.embedded.script import ModelScript, Script
from tests.deploy.stand_in import stand_in
from tests.e2e.processes import audit, chat, rows, upstream
from tests.fakes.daemon import PATIENCE, connected

MODELS = Script(
    models=(ModelScript(name="small:latest", tokens=3), ModelScript(name="embedder:latest"))
)
CLIENTS = 20
RESTARTS = 4
BETWEEN = 150  # answers, so that each restart meets the whole mix


@dataclass
class Load:
    """What the clients asked for, and what became of it."""

    answers: Counter[str] = field(default_factory=Counter[str])
    failures: list[str] = field(default_factory=list[str])
    accepted: list[str] = field(default_factory=list[str])
    over: bool = False
    changed: trio.Event = field(default_factory=trio.Event)

    async def reaches(self, count: int) -> None:
        """Return when so many were answered."""
        while self.answers.total() < count:
            await self.changed.wait()

    async def client(self, url: str, number: int) -> None:
        """One thing after the other until it is over; odd clients keep their connection."""
        kinds = itertools.islice(itertools.cycle(REQUESTS), number, None)
        headers = {} if number % 2 else {"connection": "close"}
        async with connected(url) as client:
            client.headers.update(headers)
            while not self.over:
                await self._ask(client, next(kinds))

    async def _ask(self, client: httpx.AsyncClient, kind: str) -> None:
        method, path, body = REQUESTS[kind]
        try:
            answer = await client.request(method, path, json=body)
        except httpx.TransportError as error:
            self.failures.append(f"{kind}: {error!r}")
            return
        if answer.status_code != (202 if kind == "submit" else 200):
            self.failures.append(f"{kind}: {answer.status_code} {answer.text}")
            return
        if kind == "submit":
            self.accepted.append(answer.json()["id"])
        if kind == "stream" and '"done":true' not in answer.text:
            self.failures.append(f"{kind}: {answer.text}")
        self.answers[kind] += 1
        self.changed.set()
        self.changed = trio.Event()


REQUESTS: dict[str, tuple[str, str, dict[str, Any] | None]] = {
    "submit": ("POST", "/jobs", {"request": chat()}),
    "stream": ("POST", "/api/chat", chat()),
    "tags": ("GET", "/api/tags", None),
    "chat": ("POST", "/api/chat", chat(stream=False)),
    "embed": ("POST", "/api/embed", {"model": "embedder", "input": "x"}),
    "jobs": ("GET", "/jobs", None),
}


async def test_restarts_under_load_refuse_nobody_and_lose_no_job(tmp_path: Path) -> None:
    load = Load()
    async with (
        upstream(MODELS) as target,
        stand_in(tmp_path, target.url, embed_model="embedder") as service,
    ):
        await service.start()
        with trio.fail_after(2 * PATIENCE):
            async with trio.open_nursery() as nursery:
                for number in range(CLIENTS):
                    nursery.start_soon(load.client, service.url, number)
                for _ in range(RESTARTS):
                    await load.reaches(load.answers.total() + BETWEEN)
                    await service.restart()
                await load.reaches(load.answers.total() + BETWEEN)
                load.over = True
            assert load.failures == []
            assert load.answers.keys() == REQUESTS.keys()
            there = {row["id"] for row in rows(tmp_path / "data", "batch")}
            assert there == set(load.accepted)
    assert audit(tmp_path / "data") == []
