"""The scripted engine: loads, answers and fails to order, on trio's clock."""

import hashlib
import math
import re
from collections import Counter

import msgspec
import trio

from foreman import names
from foreman.embedded.engine import (
    Emit,
    EngineError,
    Finish,
    Json,
    Model,
    Piece,
    Prompt,
    Runner,
    RunnerOptions,
    Vectors,
)
from foreman.embedded.script import (
    AnyFault,
    Fault,
    LoadFailure,
    LoadFault,
    ModelScript,
    Script,
    SlowLoad,
)

_TOKEN = re.compile(r"\s*\S+\s*$|\s*\S+")
_CLOUD_HOST = "https://ollama.com:443"


class ScriptedEngine:
    """Plays a `Script`, which may be exchanged while it runs: that heals or breaks the target."""

    def __init__(self, script: Script | None = None) -> None:
        self._changed = trio.Event()
        self.script = script or Script()

    @property
    def script(self) -> Script:
        """What is played. Setting it starts the counts of its faults anew."""
        return self._script

    @script.setter
    def script(self, script: Script) -> None:
        self._script = script
        self._strikes: Counter[int] = Counter()
        self._models = tuple(map(_installed, script.models))
        self._by_blob = {_blob(each): each for each in script.models}
        self._changed.set()
        self._changed = trio.Event()

    @property
    def models(self) -> tuple[Model, ...]:
        """The script's models."""
        return self._models

    @property
    def signed_in(self) -> bool:
        """As the script says."""
        return self._script.signed_in

    async def load(self, model: Model, options: RunnerOptions) -> Runner:
        """Take the script's time. Raises EngineError where the script says so."""
        play = self._by_blob.get(model.blob)
        if play is None:
            raise EngineError("unable to load model: no such file or directory")
        faults = [each for each in self._struck(None, model.key) if isinstance(each, LoadFault)]
        extra = sum(each.seconds for each in faults if isinstance(each, SlowLoad))
        await trio.sleep(self.scaled(play.load_seconds + extra))
        for each in faults:
            if isinstance(each, LoadFailure):
                raise EngineError(each.text, each.status)
        return ScriptedRunner(self, play)

    def fault(self, path: str, model_key: str | None) -> Fault | None:
        """The first fault of the script that strikes this call; each matching one counts it."""
        for each in self._struck(path, model_key):
            if not isinstance(each, LoadFault):
                return each
        return None

    async def wait_down(self) -> None:
        """Return when the script orders an outage."""
        while not self._script.outage:
            await self._changed.wait()

    async def wait_up(self) -> None:
        """Return when the outage is over, or a new script ends it."""
        script = self._script
        with trio.move_on_after(self.scaled(script.outage)):  # noqa: ASYNC912  it waits at once
            while self._script is script:
                await self._changed.wait()
        if self._script is script:
            self._script = msgspec.structs.replace(script, outage=0.0)

    def scaled(self, seconds: float) -> float:
        """The script's seconds in trio's."""
        return seconds * self._script.time_scale

    def _struck(self, path: str | None, model_key: str | None) -> list[AnyFault]:
        """The faults that strike this call, or this load where there is no path."""
        struck: list[AnyFault] = []
        for index, fault in enumerate(self._script.faults):
            if (path is None) != isinstance(fault, LoadFault):
                continue
            if not _matches(fault, path, model_key):
                continue
            self._strikes[index] += 1
            last = math.inf if fault.first is None else fault.skip + fault.first
            if fault.skip < self._strikes[index] <= last:
                struck.append(fault)
        return struck


class ScriptedRunner:
    """One loaded scripted model."""

    def __init__(self, engine: ScriptedEngine, play: ModelScript) -> None:
        self._engine = engine
        self._play = play

    async def generate(self, prompt: Prompt, emit: Emit) -> Finish:
        """Say what the script says, at its pace."""
        play = self._play
        began = trio.current_time()
        await trio.sleep(self._engine.scaled(play.first_token_seconds))
        prompted = trio.current_time()
        calls = _tool_calls(play) if prompt.tools else ()
        if calls and play.tool_calls_early:
            await emit(Piece(tool_calls=calls))
        thoughts = _tokens(play.thinking) if prompt.think else []
        words = [] if calls else _words(play, prompt)
        limit = _limit(prompt.options.get("num_predict"))
        said = (thoughts + words)[:limit]
        for index, token in enumerate(said):
            await trio.sleep(self._engine.scaled(play.token_seconds))
            await emit(_piece(token, prompt, thought=index < len(thoughts)))
        return Finish(
            reason="length" if len(said) < len(thoughts) + len(words) else "stop",
            prompt_count=_count(prompt),
            count=max(len(said), 1),
            prompt_seconds=prompted - began,
            seconds=trio.current_time() - prompted,
            tokens=tuple(range(1, _count(prompt) + len(said) + 1)),
            last=Piece() if play.tool_calls_early else Piece(tool_calls=calls),
        )

    async def embed(self, texts: tuple[str, ...]) -> Vectors:
        """A vector for each text that depends on nothing but the text."""
        for _ in texts:
            await trio.sleep(self._engine.scaled(self._play.embed_seconds))
        vectors = tuple(_vector(text, self._play.dimensions) for text in texts)
        return Vectors(vectors, sum(max(len(text.split()), 1) for text in texts))

    def close(self) -> None:
        """Nothing to free."""


def _matches(fault: AnyFault, path: str | None, model_key: str | None) -> bool:
    if fault.model is not None and names.key(fault.model) != model_key:
        return False
    return path is None or not fault.paths or path in fault.paths


def _blob(play: ModelScript) -> str:
    return play.blob or names.key(play.name)


def _installed(play: ModelScript) -> Model:
    name = names.parse(play.name)
    base = f"{name.model}:{name.tag}" if name.tag != names.DEFAULT_TAG else name.model
    return Model(
        name=name.display,
        blob=_blob(play),
        digest=hashlib.sha256(_blob(play).encode()).hexdigest(),
        size=384 if play.remote else play.size,
        capabilities=play.capabilities,
        context_length=play.context_length,
        embedding_length=play.dimensions,
        remote_model=base if play.remote else "",
        remote_host=_CLOUD_HOST if play.remote else "",
    )


def _limit(num_predict: Json) -> int | None:
    return num_predict if isinstance(num_predict, int) and num_predict >= 0 else None


def _words(play: ModelScript, prompt: Prompt) -> list[str]:
    if play.echo:
        return _tokens(_question(prompt))
    if play.text is not None:
        return _tokens(play.text)
    return ["one", *(f" {number}" for number in range(2, play.tokens + 1))][: play.tokens]


def _tokens(text: str) -> list[str]:
    return _TOKEN.findall(text)


def _question(prompt: Prompt) -> str:
    return str(prompt.messages[-1].get("content", "")) if prompt.messages else prompt.text


def _count(prompt: Prompt) -> int:
    said = [str(message.get("content", "")) for message in prompt.messages] or [prompt.text]
    return sum(max(len(text.split()), 1) for text in said)


def _piece(token: str, prompt: Prompt, *, thought: bool) -> Piece:
    if thought:
        return Piece(thinking=token)
    if not prompt.logprobs:
        return Piece(token)
    likely: dict[str, Json] = {"token": token, "logprob": -0.25, "bytes": list(token.encode())}
    others = [{**likely, "logprob": -0.25 - rank} for rank in range(prompt.top_logprobs)]
    return Piece(token, logprobs=({**likely, "top_logprobs": others} if others else likely,))


def _tool_calls(play: ModelScript) -> tuple[dict[str, Json], ...]:
    return tuple(
        {
            "id": f"call_{index:08d}",
            "function": {"index": index, "name": call.name, "arguments": call.arguments},
        }
        for index, call in enumerate(play.tool_calls)
    )


def _vector(text: str, dimensions: int) -> tuple[float, ...]:
    seed = hashlib.shake_256(text.encode()).digest(2 * dimensions)
    pairs = zip(seed[::2], seed[1::2], strict=True)
    return tuple((high * 256 + low) / 32768 - 1 for high, low in pairs)
