"""A scripted engine that waits to be let through: a test decides when a load or a token happens."""

import math

import trio

from foreman.embedded.engine import (
    Emit,
    Finish,
    Model,
    Piece,
    Prompt,
    Runner,
    RunnerOptions,
    Vectors,
)
from foreman.embedded.script import Script
from foreman.embedded.scripted import ScriptedEngine


class Gate:
    """Open at first. Closed, it lets through only what is released, first come first."""

    def __init__(self) -> None:
        self._free = math.inf
        self._lot = trio.lowlevel.ParkingLot()
        self._arrival = trio.Event()

    def close(self) -> None:
        """Hold whoever comes from now on."""
        self._free = 0

    def open(self) -> None:
        """Let everyone through."""
        self._free = math.inf
        self._lot.unpark_all()

    def release(self, count: int = 1) -> None:
        """Let `count` through, those who wait first."""
        self._free += count - len(self._lot.unpark(count=count))

    async def passed(self) -> None:
        """Go through, when that is allowed."""
        if self._free > 0:
            self._free -= 1
            await trio.lowlevel.checkpoint()
            return
        self._arrival.set()
        self._arrival = trio.Event()
        await self._lot.park()

    async def holds(self, count: int = 1) -> None:
        """Return when at least `count` wait."""
        while len(self._lot) < count:
            await self._arrival.wait()
            await trio.lowlevel.checkpoint()  # who arrived parks only after saying so


class GatedEngine(ScriptedEngine):
    """Plays a script; each load, token and embedding call goes through a gate first."""

    def __init__(self, script: Script | None = None) -> None:
        super().__init__(script)
        self.loads = Gate()
        self.tokens = Gate()
        self.embeddings = Gate()

    async def load(self, model: Model, options: RunnerOptions) -> Runner:
        """The script's load, once it is let through."""
        await self.loads.passed()
        return _GatedRunner(self, await super().load(model, options))


class _GatedRunner:
    def __init__(self, engine: GatedEngine, runner: Runner) -> None:
        self._engine = engine
        self._runner = runner

    async def generate(self, prompt: Prompt, emit: Emit) -> Finish:
        async def emit_gated(piece: Piece) -> None:
            await self._engine.tokens.passed()
            await emit(piece)

        return await self._runner.generate(prompt, emit_gated)

    async def embed(self, texts: tuple[str, ...]) -> Vectors:
        await self._engine.embeddings.passed()
        return await self._runner.embed(texts)

    def close(self) -> None:
        self._runner.close()
