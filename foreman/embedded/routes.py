"""The route table: what each path takes, who answers it, and in whose words it refuses."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from foreman.embedded import (
    admin,
    anthropic,
    audio,
    embeddings,
    metadata,
    openai,
    translate,
)
from foreman.embedded.dialect import JSON, JSON_UTF8, plain_error
from foreman.embedded.engine import Json
from foreman.embedded.failures import Failed, Unauthorized
from foreman.embedded.go import BadRequest, Fields, encode
from foreman.embedded.host import VERSION, Host, answer
from foreman.embedded.http1 import Exchange
from foreman.embedded.inference import run
from foreman.embedded.reply import Reply
from foreman.embedded.script import Fault


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request as its handler gets it. `parameter` is the last segment of the route's pattern."""

    fields: Fields
    body: bytes = b""
    parameter: str = ""
    fault: Fault | None = None


Handler = Callable[[Host, Exchange, Incoming], Awaitable[None]]
Translate = Callable[[str, Fields, int], translate.Translated]


@dataclass(frozen=True, slots=True)
class Refusal:
    """The shape of a route's errors."""

    kind: bytes
    body: Callable[[int, str], bytes]
    empty: str = "missing request body"  # what an empty body earns


NATIVE = Refusal(JSON_UTF8, lambda status, text: plain_error(text))
OPENAI = Refusal(JSON, openai.error_body, empty="EOF")
ANTHROPIC = Refusal(JSON, anthropic.error_body, empty="EOF")


@dataclass(frozen=True, slots=True)
class Route:
    """One row. `struct` is Go's name of the body; without it the handler sees no fields."""

    methods: tuple[str, ...]
    path: str
    handler: Handler
    struct: str = ""
    refusal: Refusal = NATIVE
    streams_body: bool = False  # the handler reads the body itself

    def match(self, path: str) -> str | None:
        """The parameter in the path ("" where the route has none), or None: not this route."""
        if "{" not in self.path:
            return "" if path == self.path else None
        found = re.fullmatch(re.sub(r"\{\w+\}", "([^/]+)", self.path), path)
        return found[1] if found else None


def _inference(translated: Translate) -> Handler:
    async def handle(host: Host, exchange: Exchange, incoming: Incoming) -> None:
        made = translated(exchange.request.path, incoming.fields, host.clock.unix())
        await _infer(host, exchange, incoming, made)

    return handle


async def _transcribe(host: Host, exchange: Exchange, incoming: Incoming) -> None:
    made = audio.transcription(exchange.request, incoming.body)
    await _infer(host, exchange, incoming, made)


async def _infer(
    host: Host, exchange: Exchange, incoming: Incoming, made: translate.Translated
) -> None:
    call, dialect, streams = made
    reply = Reply(exchange, dialect, streams=streams, fault=incoming.fault)
    try:
        await run(host, call, exchange, reply)
    except Failed as error:
        await reply.error(error.status, error.text)


def _fixed(body: Callable[[Host], Json]) -> Handler:
    async def handle(host: Host, exchange: Exchange, incoming: Incoming) -> None:
        await answer(exchange, body(host))

    return handle


def _with_fields(handler: Callable[[Host, Exchange, Fields], Awaitable[None]]) -> Handler:
    async def handle(host: Host, exchange: Exchange, incoming: Incoming) -> None:
        await handler(host, exchange, incoming.fields)

    return handle


async def _root(host: Host, exchange: Exchange, incoming: Incoming) -> None:
    await exchange.respond(
        200, [(b"Content-Type", b"text/plain; charset=utf-8")], b"Ollama is running"
    )


async def _embed(host: Host, exchange: Exchange, incoming: Incoming) -> None:
    fields = incoming.fields
    texts = embeddings.read_inputs(fields.any("input"))
    dimensions = fields.whole("dimensions") or 0
    found = await embeddings.embed(host, "/api/embed", fields, texts)
    name = fields.text("model")
    await answer(exchange, embeddings.native_body(name, found, dimensions, exchange.arrived))


async def _legacy_embeddings(host: Host, exchange: Exchange, incoming: Incoming) -> None:
    prompt = incoming.fields.text("prompt")
    texts = (prompt,) if prompt else ()
    found = await embeddings.embed(host, "/api/embeddings", incoming.fields, texts)
    await answer(exchange, {"embedding": found.vectors[0] if found.vectors else []})


async def _openai_embeddings(host: Host, exchange: Exchange, incoming: Incoming) -> None:
    fields = incoming.fields
    encoding = fields.text("encoding_format")
    if encoding.lower() not in ("", "float", "base64"):
        supported = "Supported values: ['float', 'base64']."
        raise BadRequest(f"Invalid value for 'encoding_format' = {encoding}. {supported}")
    asked = fields.any("input")
    if asked is None or asked == []:
        raise BadRequest("invalid input")
    texts = embeddings.read_inputs([""] if asked == "" else asked)
    named = Fields(fields.kind, {"model": fields.text("model")})  # the rest is ignored on /v1
    found = await embeddings.embed(host, "/v1/embeddings", named, texts)
    dimensions = fields.whole("dimensions") or 0
    vectors = [embeddings.normalised(vector, dimensions) for vector in found.vectors]
    name = fields.text("model")
    body = openai.embedding_list(name, vectors, found.prompt_count, encoding)
    await exchange.respond(200, [(b"Content-Type", JSON)], body)


async def _models(host: Host, exchange: Exchange, incoming: Incoming) -> None:
    await exchange.respond(200, [(b"Content-Type", JSON)], metadata.models(host))


async def _model(host: Host, exchange: Exchange, incoming: Incoming) -> None:
    await exchange.respond(
        200,
        [(b"Content-Type", JSON)],
        encode(metadata.model(host, incoming.parameter)) + b"\n",
    )


async def _head_blob(host: Host, exchange: Exchange, incoming: Incoming) -> None:
    await host.blobs.head(exchange, incoming.parameter)


async def _put_blob(host: Host, exchange: Exchange, incoming: Incoming) -> None:
    await host.blobs.put(exchange, incoming.parameter)


async def _account(host: Host, exchange: Exchange, incoming: Incoming) -> None:
    if not host.engine.signed_in:
        raise Unauthorized
    await answer(exchange, {"name": "embedded", "plan": "free"})


_READ = ("HEAD", "GET")
_POST = ("POST",)

ROUTES: tuple[Route, ...] = (
    Route(_READ, "/", _root),
    Route(_READ, "/api/version", _fixed(lambda host: {"version": VERSION})),
    Route(("GET",), "/api/status", _fixed(lambda host: metadata.status())),
    Route(_READ, "/api/tags", _fixed(metadata.tags)),
    Route(("GET",), "/api/ps", _fixed(metadata.ps)),
    Route(_POST, "/api/show", _with_fields(metadata.show), "ShowRequest"),
    Route(_POST, "/api/me", _account),
    Route(_POST, "/api/chat", _inference(translate.chat), "ChatRequest"),
    Route(_POST, "/api/generate", _inference(translate.generate), "GenerateRequest"),
    Route(_POST, "/api/embed", _embed, "EmbedRequest"),
    Route(_POST, "/api/embeddings", _legacy_embeddings, "EmbeddingRequest"),
    Route(_POST, "/api/pull", _with_fields(admin.pull), "PullRequest"),
    Route(_POST, "/api/push", _with_fields(admin.push), "PushRequest"),
    Route(_POST, "/api/create", _with_fields(admin.create), "CreateRequest"),
    Route(_POST, "/api/copy", _with_fields(admin.copy), "CopyRequest"),
    Route(("DELETE",), "/api/delete", _with_fields(admin.delete), "DeleteRequest"),
    Route(("HEAD",), "/api/blobs/{digest}", _head_blob),
    Route(_POST, "/api/blobs/{digest}", _put_blob, streams_body=True),
    Route(
        _POST,
        "/v1/chat/completions",
        _inference(translate.chat_completions),
        "ChatCompletionRequest",
        OPENAI,
    ),
    Route(_POST, "/v1/completions", _inference(translate.completions), "CompletionRequest", OPENAI),
    Route(_POST, "/v1/responses", _inference(translate.responses), "ResponsesRequest", OPENAI),
    Route(_POST, "/v1/messages", _inference(translate.messages), "MessagesRequest", ANTHROPIC),
    Route(_POST, "/v1/embeddings", _openai_embeddings, "EmbedRequest", OPENAI),
    Route(_POST, "/v1/audio/transcriptions", _transcribe, refusal=OPENAI),
    Route(("GET",), "/v1/models", _models, refusal=OPENAI),
    Route(("GET",), "/v1/models/{model}", _model, refusal=OPENAI),
)


def find(path: str) -> list[tuple[Route, str]]:
    """The routes of a path, whatever their method, with the parameter in it."""
    matches = ((route, route.match(path)) for route in ROUTES)
    return [(route, parameter) for route, parameter in matches if parameter is not None]
