"""How much a run measures: the whole, or a smoke run that only shows that everything works."""

from dataclasses import dataclass
from pathlib import Path

from tests.bench.processes import Cores


@dataclass(frozen=True, slots=True)
class Effort:
    """The sizes of one run. Times are seconds."""

    chat_rounds: int
    chats: int  # a round and server
    paused_rounds: int
    streams: int
    embed_rounds: int
    embed_seconds: float
    waiting_jobs: int
    waiting_clients: int
    starts: int
    stored_jobs: int
    trace_calls: int
    submits: int
    submit_rounds: int
    submit_seconds: float
    bulk_jobs: int
    lone_jobs: int  # submitted to a daemon at rest
    subscribers: int
    listeners: int  # of them, while events are sent
    events: int
    deliveries: int  # a round
    finished_jobs: int
    restarts: int
    pages: int  # of each listing
    backup_bytes: int
    backup_rounds: int
    backup_share: float  # of the time that a round without a backup takes
    time_scale: float  # of the trace: how much faster than its loads of 5 s and calls of 1 s


FULL = Effort(
    chat_rounds=40,
    chats=50,
    paused_rounds=8,
    streams=40,
    embed_rounds=6,
    embed_seconds=1.5,
    waiting_jobs=10_000,
    waiting_clients=256,
    starts=7,
    stored_jobs=1_000_000,
    trace_calls=200,
    submits=1_500,
    submit_rounds=5,
    submit_seconds=1.5,
    bulk_jobs=20_000,
    lone_jobs=150,
    subscribers=5_000,
    listeners=1_000,
    events=20,
    deliveries=600,
    finished_jobs=1_000_000,
    restarts=10,
    pages=20,
    backup_bytes=2**30,
    backup_rounds=1,
    backup_share=1.0,
    time_scale=1 / 15,
)
QUICK = Effort(
    chat_rounds=2,
    chats=10,
    paused_rounds=1,
    streams=2,
    embed_rounds=1,
    embed_seconds=0.2,
    waiting_jobs=200,
    waiting_clients=16,
    starts=1,
    stored_jobs=2_000,
    trace_calls=8,
    submits=20,
    submit_rounds=1,
    submit_seconds=0.2,
    bulk_jobs=300,
    lone_jobs=3,
    subscribers=20,
    listeners=10,
    events=2,
    deliveries=20,
    finished_jobs=1_000,
    restarts=1,
    pages=2,
    backup_bytes=2**20,
    backup_rounds=1,
    backup_share=0.05,
    time_scale=1 / 500,
)


@dataclass(frozen=True, slots=True)
class Bench:
    """What every measurement needs: how much, on which cores, and a directory on a real disk."""

    effort: Effort
    cores: Cores
    directory: Path
