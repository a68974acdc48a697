"""The embed bypass: embeddings go beside the queue, several at once, never behind a chat.

Inbox:  EmbedCall from the ingress.
Owns:   its own connections to the target, and a breaker: a dead target is refused, not waited for.
Crash:  the calls under way are cut, their clients ask again; the breaker starts closed.
"""

from contextlib import suppress
from dataclasses import dataclass
from math import ceil

import trio

from actors.messages import EmbedCall
from foreman.attempt import silence
from foreman.breaker import Breaker, Open, Verdict
from foreman.errors import TargetError
from foreman.metrics.counts import Metrics
from foreman.run_spans import generation, within
from foreman.target import Target
from foreman.tracing import NO_TRACER, Tracer
from foreman.wire import ResponseFailed, ResponseHead, ResponseWhole


@dataclass(frozen=True, slots=True)
class Ports:
    """What the embed actor stands on."""

    target: Target
    metrics: Metrics
    tracer: Tracer = NO_TRACER


async def run(
    inbox: trio.MemoryReceiveChannel[EmbedCall],
    ports: Ports,
    concurrency: int,
    limit: float,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until the inbox is closed: `concurrency` at once, each for at most `limit` seconds."""
    breaker = Breaker(trio.current_time)
    ports.metrics.watch_breaker(lambda: breaker.state)
    places = trio.CapacityLimiter(concurrency)
    with inbox.clone() as calls:
        async with trio.open_nursery() as nursery:
            task_status.started()
            async for call in calls:
                nursery.start_soon(_serve, call, ports, breaker, places, limit)


async def _serve(
    call: EmbedCall, ports: Ports, breaker: Breaker, places: trio.CapacityLimiter, limit: float
) -> None:
    """Answer one call; its channel has room for every part, so a client that left blocks nobody."""
    with call.parts, ports.metrics.embedding() as measured, call.scope:
        async with places:
            part = await _embed(call, ports, breaker, limit)
        measured.status = part.head.status if isinstance(part, ResponseWhole) else part.status
        with suppress(trio.BrokenResourceError):
            call.parts.send_nowait(part)


async def _embed(
    call: EmbedCall, ports: Ports, breaker: Breaker, limit: float
) -> ResponseWhole | ResponseFailed:
    span = generation(ports.tracer, call.request, call.model)
    try:
        with breaker.permit() as permit, silence("job", limit):
            answer, body = await ports.target.fetch(within(call.request, span))
            if answer.status >= 400:
                span.fail(str(answer.status))
            if answer.status >= 500:
                permit.conclude(Verdict.FAILED)
    except Open as refused:
        span.fail("breaker_open")
        text = "the Ollama server does not answer embeddings at the moment"
        return ResponseFailed(503, text, retry_after=max(1, ceil(refused.retry_in or 1)))
    except TargetError as error:
        span.fail(type(error).__name__)
        return ResponseFailed(503, f"the Ollama server cannot be reached: {error}", 5)
    except trio.Cancelled:
        span.fail("cancelled")
        raise
    finally:
        span.end()
    return ResponseWhole(ResponseHead(answer.status, answer.headers), body)
