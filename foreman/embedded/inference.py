"""/api/chat and /api/generate, which are also the inside of the /v1 routes."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import trio

from foreman.embedded.chunk import Chunk, Metrics, nanoseconds
from foreman.embedded.engine import (
    Finish,
    Json,
    Model,
    Piece,
    Prompt,
    Runner,
    RunnerOptions,
)
from foreman.embedded.failures import Failed
from foreman.embedded.go import Fields, encode, quote
from foreman.embedded.host import Host, resolve
from foreman.embedded.http1 import Exchange
from foreman.embedded.options import runner_options
from foreman.embedded.reply import Ended, Reply


@dataclass(frozen=True, slots=True)
class Call:
    """A chat or generate request, decoded, whatever route it came by."""

    path: str
    model: str
    chat: bool
    messages: tuple[dict[str, Json], ...] = ()
    prompt: str = ""
    system: str = ""
    raw: bool = False
    templated: bool = False  # a template or a context of its own
    suffix: str = ""
    shift: bool = True
    keep_alive: float | None = None
    think: bool | str | None = None
    relax_thinking: bool = False
    tools: tuple[Json, ...] = ()
    format: Json = None
    options: Mapping[str, Json] = field(default_factory=dict[str, Json])
    logprobs: bool = False
    top_logprobs: int = 0

    @property
    def empty(self) -> bool:
        """Nothing to say: a load, or an unload."""
        return not (self.messages if self.chat else self.prompt)


def read_call(path: str, fields: Fields, *, chat: bool) -> Call:
    """The request body of a native route. Raises BadRequest."""
    return Call(
        path=path,
        model=fields.text("model"),
        chat=chat,
        messages=fields.objects("messages", "api.Message") if chat else (),
        prompt="" if chat else fields.text("prompt"),
        system="" if chat else fields.text("system"),
        raw=bool(not chat and fields.flag("raw")),
        templated=not chat and bool(fields.text("template") or fields.any("context")),
        suffix="" if chat else fields.text("suffix"),
        shift=fields.flag("shift") is not False,
        keep_alive=fields.keep_alive(),
        think=fields.think(),
        tools=fields.list("tools", "api.Tool") if chat else (),
        format=fields.any("format"),
        options=fields.object("options"),
        logprobs=bool(fields.flag("logprobs")),
        top_logprobs=fields.whole("top_logprobs") or 0,
    )


async def run(host: Host, call: Call, exchange: Exchange, reply: Reply) -> None:
    """Answer the call. Raises Failed before anything went out, Unauthorized, or Severed."""
    if not 0 <= call.top_logprobs <= 20:
        raise Failed(400, "top_logprobs must be between 0 and 20")
    missing = (400, "model is required") if call.chat else (404, f"model '{call.model}' not found")
    model = resolve(host, call.model, missing=missing)
    answering = _Answer(host, call, exchange, reply)
    if model.remote:
        # Away in the cloud: no load, no slot, no place in /api/ps.
        runner = await host.engine.load(model, RunnerOptions())
        await answering.generate(model, runner)
    elif call.empty and call.keep_alive == 0:
        host.residency.expire(model)
        await answering.single("unload")
    else:
        await _run_local(host, call, model, answering)


async def _run_local(host: Host, call: Call, model: Model, answering: "_Answer") -> None:
    if call.raw and (call.templated or call.system):
        raise Failed(400, "raw mode does not support template, system, or context")
    _check_capabilities(call, model)
    options = runner_options(call.options, shift=call.shift)
    async with host.residency.loaded(model, options, call.keep_alive) as resident:
        answering.loaded = trio.current_time()
        if call.empty:
            await answering.single("load")
            return
        check_format(call.format)
        async with resident.turn:
            await answering.generate(model, resident.runner)


class _Answer:
    """The chunks of one call."""

    def __init__(self, host: Host, call: Call, exchange: Exchange, reply: Reply) -> None:
        self.loaded = exchange.arrived
        self._host = host
        self._call = call
        self._arrived = exchange.arrived
        self._reply = reply

    async def single(self, reason: str) -> None:
        """A load or unload: one object, even where the call streams."""
        await self._reply.whole(self._chunk(Piece(), done=True, done_reason=reason))

    async def generate(self, model: Model, runner: Runner) -> None:
        """Run the generation, and send it."""
        oracle = self._host.oracle
        oracle.begin(self._call.path, self._call.model)
        self._reply.run()
        completed = False
        try:
            finish = await runner.generate(_prompt(self._call, model), self._emit)
            await self._reply.chunk(self._last(finish))
            completed = True
        except Ended:
            completed = True
        finally:
            oracle.end(cancelled=not completed)
        await self._reply.end()

    async def _emit(self, piece: Piece) -> None:
        await self._reply.chunk(self._chunk(piece))

    def _last(self, finish: Finish) -> Chunk:
        now = trio.current_time()
        metrics = Metrics(
            total_duration=nanoseconds(now - self._arrived),
            load_duration=nanoseconds(self.loaded - self._arrived),
            prompt_eval_count=finish.prompt_count,
            prompt_eval_duration=nanoseconds(finish.prompt_seconds),
            eval_count=finish.count,
            eval_duration=nanoseconds(finish.seconds),
        )
        context = () if self._call.chat or self._call.raw else finish.tokens
        return self._chunk(
            finish.last, done=True, done_reason=finish.reason, context=context, metrics=metrics
        )

    def _chunk(
        self,
        piece: Piece,
        *,
        done: bool = False,
        done_reason: str = "",
        context: tuple[int, ...] = (),
        metrics: Metrics | None = None,
    ) -> Chunk:
        clock = self._host.clock
        return Chunk(
            model=self._call.model,
            created_at=clock.stamp(),
            created=clock.unix(),
            content=piece.content,
            thinking=piece.thinking,
            tool_calls=piece.tool_calls,
            logprobs=piece.logprobs,
            done=done,
            done_reason=done_reason,
            context=context,
            metrics=metrics or Metrics(),
        )


def check_format(value: Json) -> None:
    """Refuse a `format` that is neither off, "json" nor a schema; Ollama does so at run time."""
    if value not in (None, "", "json") and not isinstance(value, dict):
        shown = quote(encode(value).decode())
        raise Failed(500, f'invalid format: {shown}; expected "json" or a valid JSON Schema object')


def _check_capabilities(call: Call, model: Model) -> None:
    if call.think and not model.can("thinking") and not call.relax_thinking:
        raise Failed(400, f"{quote(call.model)} does not support thinking")
    if not model.can("completion"):
        verb = "chat" if call.chat else "generate"
        raise Failed(400, f"{quote(call.model)} does not support {verb}")
    for capability, wanted in (("tools", call.tools), ("insert", call.suffix)):
        if wanted and not model.can(capability):
            raise Failed(400, f"{model.key} does not support {capability}")


def _prompt(call: Call, model: Model) -> Prompt:
    think = call.think
    if think is None and model.can("thinking"):
        think = True
    messages = call.messages or ({"role": "user", "content": call.prompt},)
    system = call.system or model.system
    if system and not call.raw and messages[0].get("role") != "system":
        messages = ({"role": "system", "content": system}, *messages)
    return Prompt(
        path=call.path,
        messages=() if call.raw else messages,
        text=call.prompt,
        raw=call.raw,
        think=think if model.can("thinking") else None,
        tools=call.tools,
        format=call.format,
        options=dict(call.options),
        logprobs=call.logprobs,
        top_logprobs=call.top_logprobs,
    )
