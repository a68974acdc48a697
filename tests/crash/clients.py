"""Clients of a daemon that dies under them, and what they can swear to afterwards."""

import itertools
import json
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.crash.audit import LIVE, Snapshot

BULK = 5  # lines


@dataclass
class Order:
    """One submission; without a key it is sent once, with one until it is answered."""

    label: str
    content: bytes  # with the key inside, where it is a line of a bulk
    key: str | None
    ids: list[str] = field(default_factory=list[str])  # of each answer that said yes


@dataclass
class Witness:
    """What was sent and what was answered, over all boots of the daemon."""

    receiver: str
    orders: list[Order] = field(default_factory=list[Order])
    events: dict[int, bytes] = field(default_factory=dict[int, bytes])
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def order(self, random_: random.Random, *, keyed: bool, bulk: bool = False) -> Order:
        """A job unlike any other, by its label."""
        number = next(self.numbers)
        label = str(number)
        body: dict[str, Any] = {
            "request": {"model": "small", "prompt": label, "stream": random_.random() < 0.5},
            "endpoint": "/api/generate",
            "labels": {"order": label},
            "priority": random_.randrange(3),
            "artifacts": ("inline", "fetch")[number % 2],
        }
        if random_.random() < 0.3:
            events = random_.choice([["*"], ["job.done"], ["job.queued", "job.failed"]])
            every = [f"job.{each}" for each in ("queued", "loading", "working", "done", "failed")]
            body["webhook"] = {"url": self.receiver, "events": every if "*" in events else events}
        key = f"key-{label}" if keyed else None
        content = json.dumps(body | {"idempotency_key": key} if bulk else body).encode()
        self.orders.append(Order(label, content, key))
        return self.orders[-1]

    @property
    def unanswered(self) -> list[Order]:
        """Those that are to be sent again."""
        return [order for order in self.orders if order.key and not order.ids]

    def check(self, found: Snapshot) -> None:
        """Raises AssertionError where the database says other than it said to the clients."""
        labels = {row["id"]: json.loads(row["labels"])["order"] for row in found.jobs}
        sent = {order.label: order for order in self.orders}
        times = Counter(labels.values())
        assert times.keys() <= sent.keys()  # nothing is invented
        assert set(times.values()) <= {1}  # and nothing doubled
        for order in self.orders:
            assert len(set(order.ids)) <= 1  # the same key is the same job
            assert all(labels.get(job) == order.label for job in order.ids)
        written = {row["seq"]: (row["job"], row["n"], row["state"]) for row in found.events}
        for seq, line in self.events.items():
            event = json.loads(line)
            assert written[seq] == (event["job"], event["n"], event["state"])


async def submit(client: httpx.AsyncClient, witness: Witness, order: Order) -> None:
    """POST /jobs. Raises TransportError when the daemon dies first."""
    inside = b"idempotency_key" in order.content
    headers = {"idempotency-key": order.key} if order.key and not inside else {}
    known = bool(order.ids)
    answer = await client.post("/jobs", content=order.content, headers=headers)
    assert answer.status_code == 200 if known else answer.status_code in (200, 202), answer.text
    assert known or order.key or answer.status_code == 202
    order.ids.append(answer.json()["id"])


async def submit_bulk(client: httpx.AsyncClient, orders: list[Order]) -> None:
    """POST /jobs/bulk; each line that was answered counts, also when the rest never comes."""
    content = b"\n".join(order.content for order in orders)
    async with client.stream("POST", "/jobs/bulk", content=content) as answer:
        async for line in answer.aiter_lines():
            said = json.loads(line)
            assert said["status"] in (200, 202), line
            orders[said["line"] - 1].ids.append(said["job"]["id"])


async def follow(client: httpx.AsyncClient, witness: Witness) -> None:
    """GET /events from where the last connection broke; every number comes, and comes once."""
    with suppress(httpx.TransportError):
        after = max(witness.events, default=0)
        async with client.stream("GET", f"/events?after={after}") as answer:
            async for line in answer.aiter_lines():
                after += 1
                assert json.loads(line)["seq"] == after, line
                witness.events[after] = line.encode()


async def crowd(
    client: httpx.AsyncClient, witness: Witness, random_: random.Random, count: int
) -> None:
    """Submit what was not answered, `count` new jobs, and a bulk; some of them twice."""
    with suppress(httpx.TransportError):
        for order in witness.unanswered:
            await submit(client, witness, order)
        for _ in range(count):
            order = witness.order(random_, keyed=random_.random() < 0.6)
            await submit(client, witness, order)
            if order.key and random_.random() < 0.3:
                await submit(client, witness, order)
        bulk = [witness.order(random_, keyed=True, bulk=True) for _ in range(BULK)]
        await submit_bulk(client, bulk)


async def all_ended(client: httpx.AsyncClient) -> None:
    """Return when nothing waits or runs any more, or the daemon is dead."""
    with suppress(httpx.TransportError):
        for state in LIVE:
            while jobs := (await client.get(f"/jobs?state={state}&limit=1")).json()["jobs"]:
                await client.get(f"/jobs/{jobs[0]['id']}/wait")
