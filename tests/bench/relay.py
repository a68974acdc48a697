"""What foreman adds to a call: latency, time to the first token, gaps, and the embed bypass."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foreman.database import open_writer
from foreman.jobs import Fingerprint, JobClass, JobIds
from foreman.tables import NewJob, Transaction, submit
from tests.bench.effort import Bench
from tests.bench.fast_target import GAP, TOKENS
from tests.bench.figures import Figure, at_least, at_most, quantile
from tests.bench.processes import daemon, fast_target, run_client
from tests.bench.store_scale import now

EMBEDDER = "embedder:latest"
CLIENTS = 8
PAUSE = 0.005  # seconds; longer than what the daemon still does after an answer


def measure(bench: Bench) -> list[Figure]:
    """Every figure of a call, each beside the same calls without foreman."""
    others = bench.cores.others
    queued = bench.directory / "queued"
    seed(queued, bench.effort.waiting_jobs)
    with (
        fast_target(others) as target,
        daemon(bench.directory / "relay", target, bench.cores.daemon) as idle,
        daemon(queued, target, bench.cores.daemon) as busy,
    ):
        idle.wait("/readyz")
        busy.wait("/readyz")
        ports = [target.port, idle.port]
        return [
            *_chats(bench, ports),
            *_streams(bench, ports),
            *_embeds(bench, [*ports, busy.port]),
        ]


def seed(directory: Path, jobs: int) -> None:
    """A database in which that many batch jobs wait, for a model that never answers."""
    ids = JobIds()
    with open_writer(directory, now=now(), ballast=4096) as database:
        database.connection.execute("BEGIN IMMEDIATE")
        tx = Transaction(database.connection, now(), database.epoch)
        body = b'{"model":"held","stream":false,"messages":[{"role":"user","content":"wait"}]}'
        for _ in range(jobs):
            lane = Fingerprint("held:latest")
            submit(tx, NewJob(ids.new(), JobClass.BATCH, "/api/chat", "held", lane, request=body))
        database.connection.execute("COMMIT")
        database.close()


def _chats(bench: Bench, ports: list[int]) -> list[Figure]:
    effort = bench.effort
    direct, through = run_client(
        "calls",
        bench.cores.others,
        ports=ports,
        rounds=effort.chat_rounds,
        each=effort.chats,
        pause=0.0,
    )
    rested = run_client(
        "calls",
        bench.cores.others,
        ports=ports,
        rounds=effort.paused_rounds,
        each=effort.chats,
        pause=PAUSE,
    )
    how = f"{len(through)} calls back to back, {effort.chats} a round; journalled; {{}}"
    spaced = f"{len(rested[1])} calls with {PAUSE * 1000:g} ms between two; {{}}"
    return [
        _added("chat_p50", "chat, added, p50", 0.5, direct, through, how, 1.5),
        _added("chat_p99", "chat, added, p99", 0.99, direct, through, how, 6.0),
        _added("chat_spaced_p50", "chat, added, spaced, p50", 0.5, rested[0], rested[1], spaced),
    ]


def _added(
    key: str,
    what: str,
    share: float,
    direct: Sequence[float],
    through: Sequence[float],
    how: str,
    limit: float | None = None,
) -> Figure:
    """A quantile through foreman less the same quantile without, in milliseconds."""
    without, with_it = quantile(direct, share) * 1000, quantile(through, share) * 1000
    text = how.format(f"{with_it:.3f} ms against {without:.3f}")
    goal = None if limit is None else at_most(limit)
    return Figure(key, what, with_it - without, "ms", text, goal)


def _streams(bench: Bench, ports: list[int]) -> list[Figure]:
    direct, through = run_client(
        "streams", bench.cores.others, ports=ports, rounds=bench.effort.streams
    )
    runs = f"{len(through['first'])} streams of {TOKENS} lines, {GAP * 1000:g} ms apart"
    how = f"{runs}; {{}}"
    first, gaps = (direct["first"], through["first"]), (direct["gaps"], through["gaps"])
    return [
        _added("ttft_p50", "first token, added, p50", 0.5, *first, how, 2.0),
        _added("gap_p50", "gap between tokens, added, p50", 0.5, *gaps, how, 0.1),
        _added("gap_p99", "gap between tokens, added, p99", 0.99, *gaps, how, 1.0),
        _astray(direct, through, runs),
    ]


def _astray(direct: dict[str, Any], through: dict[str, Any], runs: str) -> Figure:
    lost, merged = (
        sum(TOKENS - lines for lines in through["lines"]),
        through["merged"] - direct["merged"],
    )
    how = f"{runs}; {lost} lost, {through['merged']} merged ({direct['merged']} without)"
    return Figure(
        "lines_astray", "lines lost or merged late", lost + max(0, merged), "", how, at_most(0)
    )


def _embeds(bench: Bench, ports: list[int]) -> list[Figure]:
    direct, idle, busy = run_client(
        "embeds",
        bench.cores.others,
        ports=ports,
        clients=CLIENTS,
        rounds=bench.effort.embed_rounds,
        seconds=bench.effort.embed_seconds,
    )
    rates = [quantile(each, 0.5) for each in (direct, idle, busy)]
    rounds = f"{CLIENTS} keep-alive clients, median of {len(idle)} rounds"
    how = f"{rounds}; {rates[0]:,.0f}/s without"
    beside = f"{rounds}, {bench.effort.waiting_jobs:,} batch jobs behind a running one"
    share = 100 * rates[2] / rates[1]
    return [
        Figure("embed_idle", "embed bypass", rates[1], "req/s", how, at_least(1200)),
        Figure("embed_queued", "embed bypass, queue full", rates[2], "req/s", beside),
        Figure("embed_share", "... of the rate with none", share, "%", beside, at_least(90)),
    ]
