"""The tree: which actors run, in which tier, who is wired to whom, and how they stop.

    tier 1   store                              the only writing connection
             traces, if there are any           their collector
    tier 2   poller   worker   embed            the target
             webhooks                           the receivers
             maintenance                        the disk
             watchdog   pulse                   the service manager, Prometheus
    tier 3   ingress                            the clients

Start top to bottom, stop bottom to top. Blocking sends only go down this list: ingress -> worker,
poller, embed, webhooks, store; worker, webhooks, watchdog -> store. What goes back up is a reply
slot or a nudge.
"""

import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from actors import (
    embed,
    equipment,
    ingress,
    maintenance,
    poller,
    pulse,
    slot,
    store,
    watchdog,
    webhooks,
    worker,
)
from actors.desk import Channels, Desk
from actors.listener import adopt_listener, open_listener
from actors.mailbox import nudge
from actors.messages import (
    EmbedCall,
    PollerMessage,
    Posted,
    TestWebhook,
    Traced,
    Wake,
    WorkerMessage,
    Write,
)
from actors.supervisor import Child, RestartBudget, Tier, run_until
from foreman import netguard
from foreman.activation import address_of
from foreman.artifacts import ArtifactFiles
from foreman.batch_lanes import wall_clock
from foreman.config import Settings
from foreman.database import Database, open_writer
from foreman.disk import DataDir
from foreman.event_log import bounds
from foreman.event_tail import EventTail
from foreman.executor import threaded
from foreman.inventory import Inventory
from foreman.live_output import LiveOutputs
from foreman.metrics.counts import Metrics
from foreman.metrics.gauges import take_stock
from foreman.notify import NOBODY, Notifier
from foreman.reader import Reader
from foreman.retention import Retention
from foreman.target import Target
from foreman.tracing import NO_TRACER, Tracer

if TYPE_CHECKING:
    from foreman.recording import Recording

log = logging.getLogger("foreman.system")

WRITES = 1024  # writes that may wait for the disk; more than that and their senders wait
CALLS = 64  # messages to the worker it has not looked at; it never waits, so they are few
LOOKS = 64  # questions to the poller; all of them are answered by one look
EMBEDS = 256  # embeddings on their way to their task
TESTS = 8  # webhooks tried by hand that have not begun
TARGET_CONNECTIONS = 64  # of the pool for what is never queued

# How the tiers share FOREMAN_SHUTDOWN_GRACE, which a stop takes at most in all.
SHARES = (0.25, 0.3, 0.45)  # the store, the middle tier, the ingress and the calls it waits for
EDGE_SLACK = 0.5  # seconds; the ingress keeps its own time, and is cancelled if it cannot


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
    inherited: socket.socket | None = None,
    notifier: Notifier = NOBODY,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run the daemon until a signal or `stop`; `started` gives the base URL it serves on.

    It serves on the listening socket `inherited` if there is one, and tells `notifier` how it is.
    Raises StoreRefused or OSError when it cannot start, TooManyRestarts when it cannot go on.
    """
    with open_writer(
        settings.data_dir,
        now=wall_clock(),
        ballast=settings.ballast,
        checkpoints=settings.checkpoint == "self",
    ) as database:
        async with AsyncExitStack() as stack:
            listener = stack.enter_context(_listener(settings, inherited))
            async with trio.open_nursery() as nursery:
                stop = trio.Event() if stop is None else stop
                await nursery.start(_heed_signals, stop, nursery.cancel_scope)
                nursery.start_soon(_tell_of_stop, stop, notifier)
                tiers = await _wire(settings, database, listener, notifier, stack)

                def ready() -> None:
                    _announce(listener, database, task_status)
                    notifier.ready(f"serving on {_url(listener)}")

                await run_until(stop, tiers, ready)
                nursery.cancel_scope.cancel("stopped")
    log.info("stopped")


def _listener(settings: Settings, inherited: socket.socket | None) -> socket.socket:
    if inherited is not None:
        log.info("the service manager handed over the socket at %s", settings.listen)
        return adopt_listener(inherited)
    return open_listener(settings.listen.host, settings.listen.port, equipment.edge(settings))


async def _tell_of_stop(stop: trio.Event, notifier: Notifier) -> None:
    await stop.wait()
    notifier.stopping("stopping: who waits is served while there is time")


def _url(listener: socket.socket) -> str:
    return f"http://{address_of(listener)}"


def _announce(
    listener: socket.socket, database: Database, task_status: trio.TaskStatus[str]
) -> None:
    url = _url(listener)
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


@dataclass(frozen=True, slots=True)
class _Inboxes:
    """Where each actor reads; the first word says whose it is."""

    store: _Channel
    worker: _Channel
    worker_wakes: _Channel
    poller: _Channel
    embed: _Channel
    webhooks: _Channel
    webhooks_posted: _Channel
    traces: _Channel


def _inboxes(stack: AsyncExitStack, metrics: Metrics) -> _Inboxes:
    inboxes = _Inboxes(
        _Channel(*trio.open_memory_channel[Write[Any]](WRITES)),
        _Channel(*trio.open_memory_channel[WorkerMessage](CALLS)),
        _Channel(*trio.open_memory_channel[Wake](1)),
        _Channel(*trio.open_memory_channel[PollerMessage](LOOKS)),
        _Channel(*trio.open_memory_channel[EmbedCall](EMBEDS)),
        _Channel(*trio.open_memory_channel[TestWebhook](TESTS)),
        _Channel(*trio.open_memory_channel[Posted](1)),
        _Channel(*trio.open_memory_channel[Traced](1)),
    )
    for each in fields(inboxes):
        channel: _Channel = getattr(inboxes, each.name)
        stack.enter_context(channel.receive)
        stack.enter_context(channel.send)
        metrics.watch_mailbox(each.name, channel.receive.statistics)
    return inboxes


@dataclass(frozen=True, slots=True)
class _Shared:
    """What more than one actor is wired to: channels, the database's readers, published values."""

    settings: Settings
    inboxes: _Inboxes
    reader: Reader
    metrics: Metrics
    latest: _Latest
    tail: EventTail
    live: LiveOutputs
    artifacts: ArtifactFiles
    guard: netguard.Rules
    tracer: Tracer
    new_target: Callable[[int], Awaitable[Target]]  # over so many connections


async def _wire(
    settings: Settings,
    database: Database,
    listener: socket.socket,
    notifier: Notifier,
    stack: AsyncExitStack,
) -> Sequence[Tier]:
    latest = _Latest(Inventory())
    metrics = Metrics(latest.get)
    inboxes = _inboxes(stack, metrics)
    due = partial(nudge, inboxes.traces.send, Traced())
    recording = equipment.recording(settings, metrics, due)
    tracer = NO_TRACER if recording is None else recording
    shared = _Shared(
        settings,
        inboxes,
        stack.enter_context(Reader(database.directory.database)),
        metrics,
        latest,
        EventTail(bounds(database.connection)[1]),
        LiveOutputs(),
        equipment.result_files(database),
        equipment.guard(settings, listener),
        tracer,
        partial(equipment.target, settings, stack, tracer=tracer),
    )
    middle = [await _poller(shared), await _worker(shared), await _embed(shared)]
    stores, others, edges = (settings.shutdown_grace * share for share in SHARES)
    middle += [_webhooks(shared), _watchdog(shared, notifier), _pulse(shared)]
    middle.append(_maintenance(shared, database))
    ingress_ = await _ingress(shared, database.directory, listener, edges)
    lowest = [_store(shared, database)]
    if recording is not None:
        lowest.append(await _traces(shared, recording, stack))
    metrics.supervises(child.name for child in (*lowest, *middle, ingress_))
    return (
        Tier(lowest, stores, _strict, metrics.restarted),
        Tier(middle, others, _strict, metrics.restarted),
        Tier([ingress_], edges, _strict, metrics.restarted),
    )


async def _traces(shared: _Shared, recording: "Recording", stack: AsyncExitStack) -> Child:
    from actors import traces  # with what only the extra `otel` brings

    inbox, collector = shared.inboxes.traces, await equipment.collector(shared.settings, stack)
    ports = traces.Ports(recording, collector, shared.metrics.traced)
    return Child("traces", partial(traces.run, inbox.receive, ports), inbox.send.close)


def _store(shared: _Shared, database: Database) -> Child:
    inbox = shared.inboxes.store
    run = partial(
        store.run,
        inbox.receive,
        database,
        shared.tail.publish,
        shared.metrics,
        post=partial(nudge, shared.inboxes.webhooks_posted.send, Posted()),
        execute=threaded(1),
        now=wall_clock,
        keep_free=shared.settings.min_free_disk,
        retention=Retention(shared.artifacts, shared.settings.retention),
    )
    return Child("store", run, inbox.send.close)


def _maintenance(shared: _Shared, database: Database) -> Child:
    plan = equipment.maintenance_plan(shared.settings, database)
    stopping = trio.Event()
    run = partial(
        maintenance.run, plan, shared.metrics, stopping, execute=threaded(1), now=wall_clock
    )
    return Child("maintenance", run, stopping.set)


async def _poller(shared: _Shared) -> Child:
    inboxes, settings = shared.inboxes, shared.settings
    ports = poller.Ports(await shared.new_target(2), shared.latest.set, inboxes.worker_wakes.send)
    run = partial(
        poller.run, inboxes.poller.receive, ports, settings.poll_interval, settings.embed_model
    )
    return Child("poller", run, inboxes.poller.send.close)


async def _worker(shared: _Shared) -> Child:
    inboxes = shared.inboxes
    ports = slot.Ports(
        inboxes.store.send,
        shared.reader,
        await shared.new_target(2),
        shared.metrics,
        shared.artifacts,
        shared.live,
        threaded(1),
        tracer=shared.tracer,
    )
    rules = equipment.rules(shared.settings)
    run = partial(worker.run, inboxes.worker.receive, inboxes.worker_wakes.receive, ports, rules)
    return Child("worker", run, inboxes.worker.send.close)


async def _embed(shared: _Shared) -> Child:
    inbox, settings = shared.inboxes.embed, shared.settings
    target = await shared.new_target(settings.embed_concurrency)
    ports = embed.Ports(target, shared.metrics, shared.tracer)
    run = partial(embed.run, inbox.receive, ports, settings.embed_concurrency, settings.job_timeout)
    return Child("embed", run, inbox.send.close)


def _webhooks(shared: _Shared) -> Child:
    inboxes = shared.inboxes
    sender = equipment.sender(shared.settings, shared.guard)
    ports = webhooks.Ports(
        inboxes.store.send,
        shared.reader,
        sender,
        wall_clock,
        shared.metrics,
        tracer=shared.tracer,
    )
    run = partial(
        webhooks.run,
        inboxes.webhooks.receive,
        inboxes.webhooks_posted.receive,
        ports,
        shared.settings.webhook_concurrency,
    )
    return Child("webhooks", run, inboxes.webhooks.send.close)


def _pulse(shared: _Shared) -> Child:
    stopping = trio.Event()
    return Child("pulse", partial(pulse.run, shared.metrics.lagged, stopping), stopping.set)


def _watchdog(shared: _Shared, notifier: Notifier) -> Child:
    stopping = trio.Event()
    run = partial(watchdog.run, shared.inboxes.store.send, notifier, stopping)
    return Child("watchdog", run, stopping.set)


async def _ingress(
    shared: _Shared, directory: DataDir, listener: socket.socket, grace: float
) -> Child:
    inboxes, settings = shared.inboxes, shared.settings
    stopping = trio.Event()
    channels = Channels(
        inboxes.store.send,
        inboxes.worker.send,
        inboxes.worker_wakes.send,
        inboxes.poller.send,
        inboxes.embed.send,
        inboxes.webhooks.send,
    )
    desk = Desk(
        channels,
        shared.reader,
        shared.latest.get,
        shared.tail,
        shared.live,
        shared.artifacts,
        settings.max_queue,
    )
    run = partial(
        ingress.run,
        listener,
        desk,
        await shared.new_target(TARGET_CONNECTIONS),
        shared.metrics,
        partial(take_stock, directory=directory, now=wall_clock),
        equipment.door(settings, shared.guard),
        equipment.edge(settings),
        max(grace / 2, grace - EDGE_SLACK),
        stopping,
        tracer=shared.tracer,
    )
    return Child("ingress", run, stopping.set)


def _strict() -> RestartBudget:
    """Three crashes a minute: one may be bad luck, more are a fault that a restart should clear."""
    return RestartBudget(3, 60.0)
