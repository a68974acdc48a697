"""A process to be killed: the store and a client of it that says aloud what it was promised.

Started once; forks a fresh child for each directory it reads from its input, so that a kill costs
milliseconds. A child prints `job n state` after each answer. With `die=N` in its line it kills
itself at the N-th SQL statement instead of waiting to be killed.
"""

import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import trio
from ulid import ULID

from actors import store
from actors.mailbox import StoreInbox, write
from actors.messages import Write
from foreman.database import open_writer
from foreman.executor import threaded
from foreman.jobs import FailureCode, Fingerprint, JobClass, JobId, Requeue
from foreman.metrics.counts import Metrics
from foreman.tables import (
    Event,
    JobRef,
    NewJob,
    Result,
    claim,
    fail,
    finish,
    get_job,
    lane_heads,
    requeue,
    start,
    submit,
)

CLIENTS = 4


def wall_clock() -> int:
    return time.time_ns() // 1000


def promised(ref: JobRef) -> JobRef:
    os.write(1, f"{ref.id} {ref.version} {ref.state.value}\n".encode())
    return ref


def new_job(random_: random.Random) -> NewJob:
    job_class = random_.choice(list(JobClass))
    model = f"m{random_.randrange(3)}"
    body = random_.randbytes(random_.randrange(3000)) if job_class is JobClass.BATCH else None
    return NewJob(
        JobId(str(ULID())),
        job_class,
        "/api/chat",
        model,
        Fingerprint(model),
        body,
        labels={"client": str(os.getpid())},
    )


async def live(inbox: StoreInbox, ref: JobRef, random_: random.Random) -> None:
    """One job from where it is to some end, every step promised before the next."""
    ref = promised(await write(inbox, lambda tx: claim(tx, ref, resident=True)))
    ref = promised(await write(inbox, lambda tx, ref=ref: start(tx, ref, load_s=0.1)))  # type: ignore[misc]
    match random_.randrange(4):
        case 0:
            promised(await write(inbox, lambda tx: requeue(tx, ref, Requeue.TARGET_LOST)))
        case 1:
            promised(await write(inbox, lambda tx: fail(tx, ref, FailureCode.GARBLED, "?")))
        case _:
            result = Result(200, "text/plain", random_.randbytes(500))
            promised(await write(inbox, lambda tx: finish(tx, ref, result=result, tokens_out=3)))


async def client(inbox: StoreInbox, random_: random.Random) -> None:
    while True:
        job = new_job(random_)
        ref = promised(await write(inbox, lambda tx, job=job: submit(tx, job)))  # type: ignore[misc]
        if random_.random() < 0.7:
            await live(inbox, ref, random_)


async def work(path: Path, die: int, seed: int) -> None:
    random_ = random.Random(seed)
    with open_writer(path, now=wall_clock(), ballast=4096) as database:
        database.connection.execute("PRAGMA wal_autocheckpoint = 10")  # kills hit checkpoints too
        if die:
            left = iter(range(die, -1, -1))

            def count(_: str) -> None:
                if not next(left, 0):
                    os.kill(os.getpid(), signal.SIGKILL)

            database.connection.set_trace_callback(count)
        inbox, messages = trio.open_memory_channel[Write[Any]](64)

        async def run(*, task_status: trio.TaskStatus[None]) -> None:
            await store.run(
                messages,
                database,
                ignore,
                Metrics(),
                post=lambda: None,
                execute=threaded(1),
                now=wall_clock,
                keep_free=0,
                task_status=task_status,
            )

        async with trio.open_nursery() as nursery:
            await nursery.start(run)
            for head in lane_heads(database.connection, wall_clock()):
                job = get_job(database.connection, head.job_id)
                if job is not None:
                    await live(inbox, job.ref, random_)
            for number in range(CLIENTS):
                nursery.start_soon(client, inbox, random.Random(seed + number))


def ignore(events: Sequence[Event]) -> None:
    """Nobody listens."""


def main() -> None:
    for line in sys.stdin:
        path, die, seed = line.split()
        child = os.fork()
        if child == 0:
            os.write(1, f"pid {os.getpid()}\n".encode())
            trio.run(work, Path(path), int(die), int(seed))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        os.write(1, f"ended {status}\n".encode())


if __name__ == "__main__":
    main()
