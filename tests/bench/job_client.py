"""The load client of the durable jobs; see `tests.bench.client` for how it is run."""

import socket
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from threading import Event, Thread
from time import perf_counter, sleep
from typing import Any

import msgspec

from tests.bench.answers import Answer, request
from tests.bench.client import READ, WARM_UP, Caller, good, play, rates

REQUEST = b'{"model":"%s","stream":false,"messages":[{"role":"user","content":"why is it blue?"}]}'
HELD = b'{"request":%s}' % (REQUEST % b"held")
FAST = b'{"request":%s}' % (REQUEST % b"fast")
PAUSE = 0.02  # seconds in which the daemon comes to rest after a job


def submits(port: int, count: int) -> list[float]:
    """Seconds of each POST /jobs, one after the other."""
    caller, message = Caller(port), request("/jobs", HELD)
    taken: list[float] = []
    for _ in range(WARM_UP + count):
        began, ended, _ = caller.call(message)
        taken.append(ended - began)
    return taken[WARM_UP:]


async def crowd(port: int, clients: int, rounds: int, seconds: float) -> list[float]:
    """Submissions a second in each round, each in a request of its own."""
    [taken] = await crowds([port], clients, rounds, seconds)
    return taken


async def crowds(ports: list[int], clients: int, rounds: int, seconds: float) -> list[list[float]]:
    """The same, by server; all of them in turn."""
    return await rates(ports, request("/jobs", HELD), clients, rounds, seconds)


def bulk(port: int, jobs: int, rounds: int) -> list[float]:
    """Jobs a second in each round, all of them in one request."""
    message = request("/jobs/bulk", (HELD + b"\n") * jobs)
    return [jobs / _bulk(port, message, jobs) for _ in range(rounds)]


def _bulk(port: int, message: bytes, jobs: int) -> float:
    """Seconds until the last line was answered; they are read while others are being sent."""
    answer = Answer()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        began = perf_counter()
        sending = Thread(target=connection.sendall, args=(message,))
        sending.start()
        while not answer.feed(connection.recv(READ)):
            pass
        taken = perf_counter() - began
        sending.join()
    accepted = good(answer).body.count(b'"status":202')
    if accepted != jobs:
        raise RuntimeError(f"{accepted} of {jobs} lines were accepted: {answer.body[:500]!r}")
    return taken


def working(port: int, jobs: int) -> dict[str, list[float]]:
    """Seconds from a submission to `working` on a daemon at rest, by the client and by the log."""
    caller, message = Caller(port), request("/jobs", FAST)
    found: dict[str, list[float]] = {"seen": [], "logged": []}
    events = _events(port)
    next(events)
    for number in range(WARM_UP + jobs):
        sleep(PAUSE)
        began, _, _ = caller.call(message)
        seen, at = _to_the_end(events)
        if number >= WARM_UP:
            found["seen"].append(seen["working"] - began)
            found["logged"].append((at["working"] - at["queued"]).total_seconds())
    return found


def _to_the_end(events: Iterator[Any]) -> tuple[dict[str, float], dict[str, datetime]]:
    """By state: when its event came (`perf_counter`), and when it was by the log."""
    seen: dict[str, float] = {}
    at: dict[str, datetime] = {}
    for event in events:
        seen[event["state"]] = perf_counter()
        at[event["state"]] = datetime.fromisoformat(event["at"])
        if event["state"] == "done":
            break
    return seen, at


def _events(port: int) -> Iterator[Any]:
    """GET /events, line by line; the first is None, once it has begun."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(request("/events"))
        with connection.makefile("rb") as lines:
            while lines.readline() != b"\r\n":
                pass
            yield None
            for line in lines:
                if line.startswith(b"{"):  # and is no chunk's frame
                    yield msgspec.json.decode(line)


def steady(port: int, rate: float, seconds: float, until: str | None = None) -> list[float]:
    """Seconds of each POST /jobs, sent at this rate whatever becomes of those before.

    For so many seconds, or until there is a backup in the folder `until`.
    """
    taken: list[float] = []
    over = Event()
    callers = 4
    began = perf_counter()

    def call(offset: float) -> None:
        caller, message, due = Caller(port), request("/jobs", HELD), began + offset
        while not over.is_set():
            sleep(max(0.0, due - perf_counter()))
            _, ended, _ = caller.call(message)
            taken.append(ended - due)
            due += callers / rate

    threads = [Thread(target=call, args=(number / rate,)) for number in range(callers)]
    for thread in threads:
        thread.start()
    while perf_counter() < began + seconds and not (until and any(Path(until).glob("*.db"))):
        sleep(0.05)
    over.set()
    for thread in threads:
        thread.join()
    return taken


def pages(port: int, paths: list[str], times: int) -> list[list[float]]:
    """Seconds of each GET, by path; all paths in turn."""
    caller = Caller(port)
    taken: list[list[float]] = [[] for _ in paths]
    for number in range(times + 1):
        for path, seconds in zip(paths, taken, strict=True):
            began, ended, _ = caller.call(request(path))
            if number:
                seconds.append(ended - began)
    return taken


if __name__ == "__main__":
    play(
        {
            "submits": submits,
            "crowd": crowd,
            "crowds": crowds,
            "bulk": bulk,
            "working": working,
            "pages": pages,
            "steady": steady,
        }
    )
