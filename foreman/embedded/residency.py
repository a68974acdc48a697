"""Which models are loaded: loads, reloads, evictions and keep-alives, as Ollama schedules them.

Loads are strictly serial. A model is listed only once its load is over, and stays listed, with its
old `expires_at`, while it works. The victim of an eviction is the idle runner with the shortest
keep-alive, and where none is idle, the one with the shortest keep-alive once its requests are done.
"""

import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio

from foreman.embedded.clock import Clock
from foreman.embedded.engine import Engine, EngineError, Model, Runner, RunnerOptions
from foreman.embedded.oracle import Load, Oracle

KEEP_ALIVE = 300.0  # seconds
MAX_QUEUE = 512  # requests waiting for a load
BUSY = "server busy, please try again.  maximum pending requests exceeded"


class Resident:
    """One loaded model. `users` counts the requests that run on it or wait to."""

    def __init__(self, model: Model, runner: Runner, options: RunnerOptions) -> None:
        self.model = model
        self.runner = runner
        self.options = options
        self.keep_alive = KEEP_ALIVE
        self.users = 0
        self.expires: float | None = None  # trio time; None until it is idle for the first time
        self.idle = trio.Event()
        self.turn = trio.StrictFIFOLock()  # one generation at a time: OLLAMA_NUM_PARALLEL=1


class Residency:
    """The loaded models, by the blob of their weights."""

    def __init__(
        self, engine: Engine, oracle: Oracle, *, max_loaded: int, max_queue: int = MAX_QUEUE
    ) -> None:
        self._engine = engine
        self._oracle = oracle
        self._max_loaded = max_loaded
        self._max_queue = max_queue
        self._loaded: dict[str, Resident] = {}
        self._loading = trio.StrictFIFOLock()
        self._pending = 0
        self._changed = trio.Event()

    @asynccontextmanager
    async def loaded(
        self, model: Model, options: RunnerOptions, keep_alive: float | None
    ) -> AsyncGenerator[Resident]:
        """The model, loaded with these options, and kept for the block.

        Raises EngineError: too many wait for a load, or the load failed.
        """
        resident = await self._acquire(model, options, keep_alive)
        try:
            yield resident
        finally:
            self._release(resident)

    def expire(self, model: Model) -> None:
        """Unload it as soon as nothing runs on it."""
        if resident := self._loaded.get(model.blob):
            resident.keep_alive = 0.0
            resident.expires = trio.current_time()
            if not resident.users:
                self._unload(resident)

    def shown(self, clock: Clock) -> list[tuple[Resident, str]]:
        """What /api/ps lists, with `expires_at`; the longest to live first."""
        now = trio.current_time()
        by_expiry = [
            (now + each.keep_alive if each.expires is None else each.expires, each)
            for each in self._loaded.values()
        ]
        by_expiry.sort(key=lambda pair: -math.floor(pair[0]))
        return [(resident, clock.stamp(expires)) for expires, resident in by_expiry]

    def clear(self) -> None:
        """Free everything: the server is gone, and nothing runs any more."""
        for resident in self._loaded.values():
            resident.runner.close()
        self._loaded.clear()

    async def expire_idle(self) -> None:
        """Unload what has been idle for its keep-alive; for ever."""
        while True:
            now = trio.current_time()
            for resident in [each for each in self._loaded.values() if _expiry(each) <= now]:
                self._unload(resident)
            with trio.move_on_at(min(map(_expiry, self._loaded.values()), default=math.inf)):
                await self._changed.wait()
                self._changed = trio.Event()

    async def _acquire(
        self, model: Model, options: RunnerOptions, keep_alive: float | None
    ) -> Resident:
        if resident := self._fitting(model, options):
            return self._use(resident, keep_alive)
        if self._pending >= self._max_queue:
            raise EngineError(BUSY, 503)
        self._pending += 1
        try:
            async with self._loading:
                return await self._load(model, options, keep_alive)
        finally:
            self._pending -= 1

    async def _load(
        self, model: Model, options: RunnerOptions, keep_alive: float | None
    ) -> Resident:
        while not (resident := self._fitting(model, options)):
            if victim := self._loaded.get(model.blob) or self._victim():
                await self._evict(victim)
                continue
            began = trio.current_time()
            runner = await self._engine.load(model, options)
            self._oracle.loads.append(Load(model.name, options, trio.current_time() - began))
            resident = self._loaded[model.blob] = Resident(model, runner, options)
            break
        return self._use(resident, keep_alive)

    def _fitting(self, model: Model, options: RunnerOptions) -> Resident | None:
        resident = self._loaded.get(model.blob)
        return resident if resident and resident.options.serves(options) else None

    def _victim(self) -> Resident | None:
        if len(self._loaded) < self._max_loaded:
            return None
        return min(
            self._loaded.values(),
            key=lambda each: (bool(each.users), each.keep_alive, each.model.blob),
        )

    async def _evict(self, victim: Resident) -> None:
        """Wait until it is unloaded. It takes requests until then, as Ollama's victims do."""
        self.expire(victim.model)
        while self._loaded.get(victim.model.blob) is victim:
            if victim.users:
                await victim.idle.wait()
            else:
                self._unload(victim)

    def _use(self, resident: Resident, keep_alive: float | None) -> Resident:
        resident.users += 1
        if resident.idle.is_set():
            resident.idle = trio.Event()
        if keep_alive is not None:
            resident.keep_alive = keep_alive
        return resident

    def _release(self, resident: Resident) -> None:
        resident.users -= 1
        if resident.users:
            return
        resident.expires = trio.current_time() + resident.keep_alive
        resident.idle.set()
        self._changed.set()

    def _unload(self, resident: Resident) -> None:
        if self._loaded.get(resident.model.blob) is resident:
            del self._loaded[resident.model.blob]
            self._oracle.unloads.append(resident.model.name)
            resident.runner.close()


def _expiry(resident: Resident) -> float:
    return math.inf if resident.users or resident.expires is None else resident.expires
