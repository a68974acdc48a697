"""The poller: looks at the target's models and tells everyone what it saw.

Inbox:  PollerMessage: Refresh asks for one more look; all who ask meanwhile share it.
Owns:   the inventory. It is never cleared: a target that cannot be read leaves it `degraded`.
Crash:  the last inventory stays published; the next incarnation looks at once.
"""

import logging
import random
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace

import msgspec
import trio

from actors.mailbox import nudge, respond
from actors.messages import PollerMessage, Wake
from foreman import names
from foreman.errors import TargetError
from foreman.inventory import Installed, Inventory, Loaded
from foreman.target import Target
from foreman.wire import Request

log = logging.getLogger("foreman.poller")

LOOK_TIMEOUT = 5.0  # seconds for each of the requests of one look
PROBE_INTERVAL = 2.0  # seconds between looks while the target is away: it is seen within 5
KEEP_TIMEOUT = 20.0  # seconds for the embedding model to load; else the next look tries again
JITTER = (0.9, 1.0)  # never later than promised


@dataclass(frozen=True, slots=True)
class Ports:
    """What the poller stands on. `publish` hands the new inventory to whoever reads it."""

    target: Target
    publish: Callable[[Inventory], None]
    worker: trio.MemorySendChannel[Wake]


async def run(
    inbox: trio.MemoryReceiveChannel[PollerMessage],
    ports: Ports,
    interval: float,
    embed_model: str | None,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Look every `interval` seconds, and when asked, until the inbox is closed."""
    inventory = Inventory()
    asked: list[PollerMessage] = []
    with inbox.clone() as questions:
        task_status.started()
        while True:
            with ExitStack() as slots:  # whoever asked is told even if this look is the last
                for question in asked:
                    slots.enter_context(question.reply)
                inventory = await _look(ports, inventory, whole=not asked)
                for question in asked:
                    respond(question.reply, inventory)
            if embed_model and not inventory.degraded:
                await _keep_resident(ports.target, inventory, embed_model)
            pause = PROBE_INTERVAL if inventory.degraded else interval
            try:
                asked = await _questions(questions, pause * random.uniform(*JITTER))
            except trio.EndOfChannel:
                return


async def _questions(
    questions: trio.MemoryReceiveChannel[PollerMessage], pause: float
) -> list[PollerMessage]:
    """Everyone who asks before the next look begins; nobody, if `pause` seconds pass."""
    asked: list[PollerMessage] = []
    with trio.move_on_after(pause):
        asked.append(await questions.receive())
    with suppress(trio.WouldBlock, trio.EndOfChannel):
        while asked:
            asked.append(questions.receive_nowait())
    return asked


async def _look(ports: Ports, last: Inventory, *, whole: bool) -> Inventory:
    """One look, at what is installed and, if `whole`, at what is loaded.

    Garbage with a 200 is a failure too; an honest empty list is not.
    """
    try:
        seen = await _read(ports.target, last, whole=whole)
    except (TargetError, trio.TooSlowError, msgspec.MsgspecError) as error:
        reason = str(error) or "no answer in time"
        if not last.degraded or last.polled_at is None:
            log.warning("the target cannot be read: %s", reason)
        seen = replace(last, degraded=True, reason=reason)
    else:
        if last.degraded:
            log.info("the target is there: %d models", len(seen.models))
            nudge(ports.worker, Wake())
    ports.publish(seen)
    return seen


class _Tags(msgspec.Struct):
    models: list[Installed] | None


class _Ps(msgspec.Struct):
    models: list[Loaded] | None


async def _read(target: Target, last: Inventory, *, whole: bool) -> Inventory:
    tags = await _get(target, b"/api/tags")
    installed = msgspec.json.decode(tags, type=_Tags).models or []
    return Inventory(
        models={key: each for each in installed if (key := _key(each.name)) is not None},
        loaded=await _loaded(target) if whole else last.loaded,
        tags=tags,
        version=await _get(target, b"/api/version") if whole else last.version,
        degraded=False,
        reason="",
        polled_at=time.time(),
    )


async def _loaded(target: Target) -> tuple[Loaded, ...]:
    """What is loaded. /api/ps blocks while a model comes or goes: slow means busy, not away."""
    try:
        return tuple(msgspec.json.decode(await _get(target, b"/api/ps"), type=_Ps).models or ())
    except trio.TooSlowError:
        return ()


async def _get(target: Target, path: bytes) -> bytes:
    with trio.fail_after(LOOK_TIMEOUT):
        answer, body = await target.fetch(Request(b"GET", path))
    if answer.status != 200:
        raise TargetError(f"{path.decode()} answered {answer.status}")
    return body


def _key(name: str) -> str | None:
    try:
        return names.key(name)
    except names.InvalidName:
        return None  # nobody can ask for it by that name


async def _keep_resident(target: Target, inventory: Inventory, model: str) -> None:
    """Bring the embedding model in where it is missing, to stay: its slot is its own."""
    key = names.key(model)
    if inventory.find(key) is None or inventory.is_loaded(key):
        return
    body = msgspec.json.encode({"model": model, "input": [], "keep_alive": -1})
    request = Request(b"POST", b"/api/embed", ((b"content-type", b"application/json"),), body)
    try:
        with trio.fail_after(KEEP_TIMEOUT):
            answer, text = await target.fetch(request)
    except (TargetError, trio.TooSlowError) as error:
        log.warning("cannot load the embedding model %s: %s", model, error)
        return
    if answer.status != 200:
        log.warning("cannot load the embedding model %s: %s", model, text[:200])
