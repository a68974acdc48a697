"""What the server asks of an engine, and the values that go between them.

An engine loads models; a loaded model (a Runner) generates and embeds. Everything Ollama does
around that (names, residency, wire formats, errors) is the server's, and the same for all engines.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from foreman import names
from foreman.embedded.failures import Failed
from foreman.embedded.script import Fault

DEFAULT_NUM_CTX = 4096

Json = Any  # a decoded JSON value; its shape is checked where it is used


class EngineError(Failed):
    """The engine could not do it. `status` and `text` are what the client is answered."""

    def __init__(self, text: str, status: int = 500) -> None:
        super().__init__(status, text)


@dataclass(frozen=True, slots=True)
class Model:
    """One installed model. `blob` names the weights: models that share them share a runner."""

    name: str
    blob: str
    digest: str
    size: int
    capabilities: tuple[str, ...] = ("completion",)
    family: str = "llama"
    parameter_size: str = "135M"
    quantization: str = "Q4_1"
    context_length: int = 8192
    embedding_length: int = 576
    modified_at: str = "2026-01-01T00:00:00Z"
    remote_model: str = ""
    remote_host: str = ""
    system: str = ""
    parent: str = ""

    @property
    def key(self) -> str:
        """The normalised name."""
        return names.key(self.name)

    @property
    def remote(self) -> bool:
        """A stub for a model that runs in the cloud."""
        return bool(self.remote_host)

    def can(self, capability: str) -> bool:
        """It has this capability, by the name that /api/tags gives it."""
        return capability in self.capabilities


@dataclass(frozen=True, slots=True)
class RunnerOptions:
    """What a runner is loaded with: a request that differs in one of these needs a reload."""

    num_ctx: int = DEFAULT_NUM_CTX
    num_batch: int = 512
    num_gpu: int = -1
    main_gpu: int | None = None
    use_mmap: bool | None = None
    num_thread: int = 0
    draft_num_predict: int = 4
    shift: bool = True

    def serves(self, wanted: "RunnerOptions") -> bool:
        """A runner with these options can take a request that wants `wanted`."""
        if wanted.num_gpu < 0:  # leaves it to the server, so any will do
            wanted = replace(wanted, num_gpu=self.num_gpu)
        return self == wanted


@dataclass(frozen=True, slots=True)
class Prompt:
    """One generation. `messages` are Ollama's; a raw prompt is `text` without a template."""

    path: str
    messages: tuple[dict[str, Json], ...] = ()
    text: str = ""
    raw: bool = False
    think: bool | str | None = None
    tools: tuple[Json, ...] = ()
    format: Json = None
    options: dict[str, Json] = field(default_factory=dict[str, Json])
    logprobs: bool = False
    top_logprobs: int = 0


@dataclass(frozen=True, slots=True)
class Piece:
    """What one step of a generation brought."""

    content: str = ""
    thinking: str = ""
    tool_calls: tuple[dict[str, Json], ...] = ()
    logprobs: tuple[dict[str, Json], ...] = ()


@dataclass(frozen=True, slots=True)
class Finish:
    """How a generation ended. Times in seconds; `tokens` go into generate's `context`."""

    reason: Literal["stop", "length"]
    prompt_count: int
    count: int
    prompt_seconds: float = 0.0
    seconds: float = 0.0
    tokens: tuple[int, ...] = ()
    last: Piece = Piece()


@dataclass(frozen=True, slots=True)
class Vectors:
    """One vector per input, as the model gave them (not normalised)."""

    vectors: tuple[tuple[float, ...], ...]
    prompt_count: int


Emit = Callable[[Piece], Awaitable[None]]


class Runner(Protocol):
    """A loaded model. One generation at a time; the server sees to that."""

    async def generate(self, prompt: Prompt, emit: Emit) -> Finish:
        """Hand each piece to `emit` as it comes. Raises EngineError."""
        ...

    async def embed(self, texts: tuple[str, ...]) -> Vectors:
        """Embed each text. Raises EngineError."""
        ...

    def close(self) -> None:
        """Free the model. Nothing runs on it any more."""
        ...


class Engine(Protocol):
    """Loads models, and misbehaves to order."""

    @property
    def models(self) -> tuple[Model, ...]:
        """What is installed to begin with. The same object until that changes."""
        ...

    @property
    def signed_in(self) -> bool:
        """Cloud models answer; otherwise they ask for a sign-in."""
        ...

    async def load(self, model: Model, options: RunnerOptions) -> Runner:
        """Load one model. Raises EngineError."""
        ...

    def fault(self, path: str, model_key: str | None) -> Fault | None:
        """The fault that strikes this request, if one does."""
        ...

    async def wait_down(self) -> None:
        """Return when the server is to vanish from the network."""
        ...

    async def wait_up(self) -> None:
        """Return when the server is to be back."""
        ...
