"""The tree: which actors run, in which tier, who is wired to whom, and how they stop.

    tier 1   store                              the only writing connection
    tier 2   poller   worker   embed            the target
    tier 3   ingress                            the clients

Start top to bottom, stop bottom to top. Blocking sends only go down this list: ingress -> worker,
poller, embed, store; worker -> store. What goes back up is a reply slot or a nudge.
"""

import logging
import signal
import socket
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import trio

from actors import embed, ingress, poller, slot, store, worker
from actors.listener import EdgeLimits, open_listener
from actors.messages import EmbedCall, PollerMessage, Wake, WorkerMessage, Write
from actors.supervisor import Child, RestartBudget, Tier, run_until
from foreman import names
from foreman.api.app import Door
from foreman.api.gate import DEFAULT_ORIGINS, Gate
from foreman.api.inference import Embedding, Waits
from foreman.attempt import SilenceLimits
from foreman.config import Settings
from foreman.database import Database, open_writer
from foreman.executor import threaded
from foreman.inventory import Inventory
from foreman.metrics import Metrics
from foreman.reader import Reader
from foreman.rows import Event
from foreman.scheduling import Limits
from foreman.target import Target

log = logging.getLogger("foreman.system")

INBOX = 1024  # writes that may wait for the disk; more than that and their senders wait
CALLS = 64  # messages to the worker it has not looked at; it never waits, so they are few
LOOKS = 64  # questions to the poller; all of them are answered by one look
EMBEDS = 256  # embeddings on their way to their task
TARGET_CONNECTIONS = 64  # of the pool for what is never queued

# How the tiers share FOREMAN_SHUTDOWN_GRACE, which a stop takes at most in all.
SHARES = (0.25, 0.375, 0.375)  # the store, the middle tier, the ingress


@dataclass(slots=True)
class _Latest:
    """The inventory as last published: one immutable value, replaced whole."""

    value: Inventory

    def get(self) -> Inventory:
        return self.value

    def set(self, value: Inventory) -> None:
        self.value = value


@dataclass(frozen=True, slots=True)
class _Channel:
    """Both ends of an inbox; the wiring keeps them, so that a crashed actor loses no mail."""

    send: trio.MemorySendChannel[Any]
    receive: trio.MemoryReceiveChannel[Any]


async def serve(
    settings: Settings,
    *,
    stop: trio.Event | None = None,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run the daemon until a signal or `stop`; `started` gives the base URL it serves on.

    Raises StoreRefused or OSError when it cannot start, TooManyRestarts when it cannot go on.
    """
    with open_writer(settings.data_dir, now=_now(), ballast=settings.ballast) as database:
        async with AsyncExitStack() as stack:
            listener = stack.enter_context(
                open_listener(settings.listen.host, settings.listen.port, _edge(settings))
            )
            async with trio.open_nursery() as nursery:
                stop = trio.Event() if stop is None else stop
                await nursery.start(_heed_signals, stop, nursery.cancel_scope)
                tiers = await _wire(settings, database, listener, stack)
                ready = partial(_announce, listener, database, task_status)
                await run_until(stop, tiers, ready)
                nursery.cancel_scope.cancel("stopped")
    log.info("stopped")


def _announce(
    listener: socket.socket, database: Database, task_status: trio.TaskStatus[str]
) -> None:
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    found = database.recovered
    log.info("serving on %s", url, extra={"epoch": database.epoch, "requeued": found.requeued})
    task_status.started(url)


async def _heed_signals(
    stop: trio.Event, everything: trio.CancelScope, *, task_status: trio.TaskStatus[None]
) -> None:
    """The first SIGTERM or SIGINT stops in good order, the second at once. SIGHUP is ignored."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        task_status.started()
        async for number in signals:
            if number == signal.SIGHUP:
                log.info("SIGHUP ignored: settings are read at start")
            elif stop.is_set():
                everything.cancel("asked twice")
            else:
                log.info("stopping on %s", signal.Signals(number).name)
                stop.set()


async def _wire(
    settings: Settings,
    database: Database,
    listener: socket.socket,
    stack: AsyncExitStack,
) -> Sequence[Tier]:
    writes = _Channel(*trio.open_memory_channel[Write[Any]](INBOX))
    calls = _Channel(*trio.open_memory_channel[WorkerMessage](CALLS))
    wakes = _Channel(*trio.open_memory_channel[Wake](1))
    looks = _Channel(*trio.open_memory_channel[PollerMessage](LOOKS))
    embeds = _Channel(*trio.open_memory_channel[EmbedCall](EMBEDS))
    for channel in (writes, calls, wakes, looks, embeds):
        stack.enter_context(channel.receive)
        stack.enter_context(channel.send)

    latest = _Latest(Inventory())
    metrics = Metrics(latest.get)
    reader = stack.enter_context(Reader(database.directory.database))
    new_target = partial(_target, settings, stack)
    stopping = trio.Event()
    return (
        Tier(
            [
                Child(
                    "store",
                    partial(
                        store.run,
                        writes.receive,
                        database,
                        _publish,
                        metrics.committed,
                        execute=threaded(1),
                        now=_now,
                        keep_free=settings.min_free_disk,
                    ),
                    writes.send.close,
                )
            ],
            settings.shutdown_grace * SHARES[0],
            _strict,
        ),
        Tier(
            [
                Child(
                    "poller",
                    partial(
                        poller.run,
                        looks.receive,
                        poller.Ports(await new_target(2), latest.set, wakes.send),
                        settings.poll_interval,
                        settings.embed_model,
                    ),
                    looks.send.close,
                ),
                Child(
                    "worker",
                    partial(
                        worker.run,
                        calls.receive,
                        wakes.receive,
                        slot.Ports(writes.send, reader, await new_target(2), metrics),
                        _rules(settings),
                    ),
                    calls.send.close,
                ),
                Child(
                    "embed",
                    partial(
                        embed.run,
                        embeds.receive,
                        embed.Ports(await new_target(settings.embed_concurrency), metrics),
                        settings.embed_concurrency,
                        settings.job_timeout,
                    ),
                    embeds.send.close,
                ),
            ],
            settings.shutdown_grace * SHARES[1],
            _strict,
        ),
        Tier(
            [
                Child(
                    "ingress",
                    partial(
                        ingress.run,
                        listener,
                        ingress.Channels(calls.send, looks.send, embeds.send),
                        reader,
                        await new_target(TARGET_CONNECTIONS),
                        latest.get,
                        metrics,
                        _door(settings),
                        _edge(settings),
                        settings.shutdown_grace * SHARES[2],
                        stopping,
                    ),
                    stopping.set,
                )
            ],
            settings.shutdown_grace * SHARES[2] + 0.5,  # the ingress keeps its own time
            _strict,
        ),
    )


def _strict() -> RestartBudget:
    """Three crashes a minute: one may be bad luck, more are a fault that a restart should clear."""
    return RestartBudget(3, 60.0)


def _publish(events: Sequence[Event]) -> None:
    """Committed events have no subscribers yet."""


def _now() -> int:
    return time.time_ns() // 1000


async def _target(settings: Settings, stack: AsyncExitStack, connections: int) -> Target:
    token = settings.ollama_token.get_secret_value() if settings.ollama_token else None
    target = Target(
        settings.ollama_url,
        token,
        connect_timeout=settings.connect_timeout,
        connections=connections,
    )
    return await stack.enter_async_context(target)


def _rules(settings: Settings) -> slot.Rules:
    return slot.Rules(
        scheduling=Limits(settings.max_wait, settings.linger),
        silence=SilenceLimits(
            settings.load_timeout,
            settings.first_byte_timeout,
            settings.gap_timeout,
            settings.job_timeout,
        ),
        max_attempts=settings.max_attempts,
        max_waiting=settings.max_waiting,
        max_output=settings.max_output,
    )


def _door(settings: Settings) -> Door:
    tokens = {token.name: token.secret.get_secret_value() for token in settings.token}
    origins = (*DEFAULT_ORIGINS, *settings.allowed_origins)
    embed_key = names.key(settings.embed_model) if settings.embed_model else None
    return Door(
        gate=Gate(settings.listen.loopback, origins, tokens),
        waits=Waits(
            settings.commit_after,
            settings.heartbeat,
            settings.body_timeout,
            settings.metadata_timeout,
            settings.max_body,
        ),
        embedding=Embedding(embed_key, settings.embed_other),
        allow_admin=settings.allow_admin,
    )


def _edge(settings: Settings) -> EdgeLimits:
    return EdgeLimits(
        header_timeout=settings.header_timeout,
        write_stall=settings.write_stall,
        max_connections=settings.max_connections,
        per_ip=settings.max_connections_per_ip,
    )
