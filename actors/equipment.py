"""What the actors stand on, made from the settings: `actors.system` hands it out."""

import logging
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

from actors import maintenance, slot
from actors.listener import EdgeLimits
from foreman import names, netguard, quarantine
from foreman.api.app import Door
from foreman.api.gate import DEFAULT_ORIGINS, Gate
from foreman.api.inference import Embedding, Waits
from foreman.api.submissions import Intake
from foreman.artifacts import ArtifactFiles
from foreman.attempt import SilenceLimits
from foreman.batch_lanes import wall_clock
from foreman.care import backup
from foreman.config import Settings
from foreman.database import Database
from foreman.lazy_sender import LazySender, Sends
from foreman.metrics.counts import Metrics
from foreman.scheduling import Limits
from foreman.target import Target
from foreman.tracing import NO_TRACER, Tracer

if TYPE_CHECKING:
    from foreman.recording import Recording

log = logging.getLogger("foreman.system")


def result_files(database: Database) -> ArtifactFiles:
    """The files of results, without those that a crash left behind."""
    directory = database.directory
    artifacts = ArtifactFiles(directory.artifacts)
    keep = quarantine.keep_results(directory)
    found = artifacts.sweep(database.connection, keep)
    quarantine.results_kept(directory)
    if found.removed and keep is not None:
        log.warning("moved %d files of results that no job knows of to %s", found.removed, keep)
    elif found.removed:
        log.info("removed %d files that no job knows of", found.removed)
    for job, attempt in found.missing:
        log.error("the file of its result is missing", extra={"job": job, "attempt": attempt})
    return artifacts


async def target(
    settings: Settings, stack: AsyncExitStack, connections: int, *, tracer: Tracer = NO_TRACER
) -> Target:
    """The target, over a pool of that many connections, closed with the stack."""
    token = settings.ollama_token.get_secret_value() if settings.ollama_token else None
    reached = Target(
        settings.ollama_url,
        token,
        connect_timeout=settings.connect_timeout,
        connections=connections,
        tracer=tracer,
    )
    return await stack.enter_async_context(reached)


async def collector(settings: Settings, stack: AsyncExitStack) -> Target:
    """Where FOREMAN_TRACES says that traces go, closed with the stack."""
    assert settings.traces is not None
    url = settings.traces.removesuffix("/v1/traces")  # as OpenTelemetry's own variable has it
    reached = Target(url, connect_timeout=settings.connect_timeout, connections=1)
    return await stack.enter_async_context(reached)


def recording(settings: Settings, metrics: Metrics, due: Callable[[], None]) -> "Recording | None":
    """Who traces, if anybody; `due` is called when there is enough to be delivered."""
    if settings.traces is None:
        return None
    from foreman.recording import Recording

    return Recording(settings.traces_share, partial(metrics.traced, "dropped"), due)


def sender(settings: Settings, guarded: netguard.Rules) -> LazySender:
    """Who sends webhooks, to nowhere that is `guarded`."""

    def build() -> Sends:
        from foreman.guarded_transport import GuardedTransport
        from foreman.sending import Sender
        from foreman.signing import Signer

        signer = Signer(secret.get_secret_value() for secret in settings.webhook_secret)
        return Sender(GuardedTransport(guarded), signer, settings.webhook_timeout, wall_clock)

    return LazySender(build, signed=bool(settings.webhook_secret))


def maintenance_plan(settings: Settings, database: Database) -> maintenance.Plan:
    """When backups are made, and where they go."""
    at = settings.backup_at
    return maintenance.Plan(
        database.directory,
        settings.backup_dir or database.directory.backups,
        None if at is None else partial(backup.is_due, at),
        settings.backup_daily,
        settings.backup_weekly,
        settings.min_free_disk,
    )


def rules(settings: Settings) -> slot.Rules:
    """What binds the worker."""
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
        inline_result=settings.inline_result,
    )


def guard(settings: Settings, listener: socket.socket) -> netguard.Rules:
    """Where webhooks may not go: to the daemon itself and its target, above all."""
    return netguard.Rules(
        own_ports=[listener.getsockname()[1]],
        target=settings.ollama_url,
        allow=settings.webhook_allow,
    )


def door(settings: Settings, guarded: netguard.Rules) -> Door:
    """What the HTTP surface goes by."""
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
        intake=Intake(guarded.check_url),
        allow_admin=settings.allow_admin,
        max_subscribers=settings.max_subscribers,
    )


def edge(settings: Settings) -> EdgeLimits:
    """What a connection may do."""
    return EdgeLimits(
        header_timeout=settings.header_timeout,
        write_stall=settings.write_stall,
        max_connections=settings.max_connections,
        per_ip=settings.max_connections_per_ip,
        websocket_ping=settings.events_ping,
    )
