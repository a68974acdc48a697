"""The HTTP surface as one table: each route's method, path, kind, dialect; and what passes through.

`foreman.api` dispatches on this table, the docs and the tests read it.
"""

from dataclasses import dataclass
from enum import StrEnum

from foreman.tracing import SpanContext

Header = tuple[bytes, bytes]


class Kind(StrEnum):
    """What foreman does with a route."""

    INFERENCE = "inference"  # queued for the worker
    EMBEDDING = "embedding"  # the bypass, or queued, by FOREMAN_EMBED_OTHER
    METADATA = "metadata"  # proxied at once, never queued
    ADMIN = "admin"  # 403 unless FOREMAN_ALLOW_ADMIN; streamed both ways
    OWN = "own"  # foreman's own API
    STATUS = "status"  # of it, how the daemon is, asked while it idles
    SUBMIT = "submit"  # of it, what is asked too often for a framework
    EVENTS = "events"  # of it, the event log: NDJSON, or a websocket
    RESULT = "result"  # of it, what jobs left behind, streamed


class Dialect(StrEnum):
    """Whose shapes a route speaks: it decides streaming, errors and the end of a stream."""

    OLLAMA = "ollama"
    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    OWN = "own"


@dataclass(frozen=True, slots=True)
class Route:
    """One row of the table. `{name}` in a path stands for one segment."""

    methods: tuple[str, ...]
    path: str
    kind: Kind
    dialect: Dialect = Dialect.OLLAMA
    streams_by_default: bool = False


_GET = ("GET", "HEAD")
_POST = ("POST",)

ROUTES: tuple[Route, ...] = (
    Route(_POST, "/api/chat", Kind.INFERENCE, streams_by_default=True),
    Route(_POST, "/api/generate", Kind.INFERENCE, streams_by_default=True),
    Route(_POST, "/v1/chat/completions", Kind.INFERENCE, Dialect.OPENAI),
    Route(_POST, "/v1/completions", Kind.INFERENCE, Dialect.OPENAI),
    Route(_POST, "/v1/responses", Kind.INFERENCE, Dialect.OPENAI),
    Route(_POST, "/v1/audio/transcriptions", Kind.INFERENCE, Dialect.OPENAI),
    Route(_POST, "/v1/messages", Kind.INFERENCE, Dialect.ANTHROPIC),
    Route(_POST, "/api/embed", Kind.EMBEDDING),
    Route(_POST, "/api/embeddings", Kind.EMBEDDING),
    Route(_POST, "/v1/embeddings", Kind.EMBEDDING, Dialect.OPENAI),
    Route(_GET, "/", Kind.METADATA),
    Route(_GET, "/api/version", Kind.METADATA),
    Route(_GET, "/api/tags", Kind.METADATA),
    Route(("GET",), "/api/ps", Kind.METADATA),
    Route(("GET",), "/api/status", Kind.METADATA),
    Route(_POST, "/api/show", Kind.METADATA),
    Route(_POST, "/api/me", Kind.METADATA),
    Route(("GET",), "/api/experimental/model-recommendations", Kind.METADATA),
    Route(_POST, "/api/experimental/web_search", Kind.METADATA),
    Route(_POST, "/api/experimental/web_fetch", Kind.METADATA),
    Route(("GET",), "/v1/models", Kind.METADATA, Dialect.OPENAI),
    Route(("GET",), "/v1/models/{model}", Kind.METADATA, Dialect.OPENAI),
    Route(("HEAD",), "/api/blobs/{digest}", Kind.METADATA),
    Route(_POST, "/api/blobs/{digest}", Kind.ADMIN),
    Route(_POST, "/api/pull", Kind.ADMIN),
    Route(_POST, "/api/push", Kind.ADMIN),
    Route(_POST, "/api/create", Kind.ADMIN),
    Route(_POST, "/api/copy", Kind.ADMIN),
    Route(("DELETE",), "/api/delete", Kind.ADMIN),
    Route(_POST, "/api/signout", Kind.ADMIN),
    Route(("DELETE",), "/api/user/keys/{key}", Kind.ADMIN),
    Route(_GET, "/healthz", Kind.STATUS, Dialect.OWN),
    Route(_GET, "/readyz", Kind.STATUS, Dialect.OWN),
    Route(_GET, "/metrics", Kind.STATUS, Dialect.OWN),
    Route(("GET",), "/queue", Kind.STATUS, Dialect.OWN),
    Route(("GET",), "/openapi.json", Kind.OWN, Dialect.OWN),
    Route(_POST, "/jobs", Kind.SUBMIT, Dialect.OWN),
    Route(_POST, "/jobs/bulk", Kind.SUBMIT, Dialect.OWN),
    Route(("GET",), "/jobs", Kind.OWN, Dialect.OWN),
    Route(("GET", "DELETE"), "/jobs/{id}", Kind.OWN, Dialect.OWN),
    Route(("GET",), "/jobs/{id}/wait", Kind.OWN, Dialect.OWN),
    Route(("GET",), "/jobs/{id}/artifacts", Kind.OWN, Dialect.OWN),
    Route(_GET, "/jobs/{id}/artifacts/{name}", Kind.RESULT, Dialect.OWN),
    Route(("GET",), "/jobs/{id}/output", Kind.RESULT, Dialect.OWN),
    Route(("GET",), "/jobs/{id}/events", Kind.EVENTS, Dialect.OWN),
    Route(("GET",), "/events", Kind.EVENTS, Dialect.OWN),
    Route(("GET",), "/webhooks/deliveries", Kind.OWN, Dialect.OWN),
    Route(_POST, "/webhooks/deliveries/replay", Kind.OWN, Dialect.OWN),
    Route(("GET",), "/webhooks/endpoints", Kind.OWN, Dialect.OWN),
    Route(_POST, "/webhooks/endpoints/enable", Kind.OWN, Dialect.OWN),
    Route(_POST, "/webhooks/test", Kind.OWN, Dialect.OWN),
)


@dataclass(frozen=True, slots=True)
class Request:
    """One request to the target, body and all: the client's bytes, never re-encoded.

    `trace` is the span it belongs to, where it is traced.
    """

    method: bytes
    path: bytes
    headers: tuple[Header, ...] = ()
    body: bytes = b""
    trace: SpanContext | None = None


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """The target's status and end-to-end headers."""

    status: int
    headers: tuple[Header, ...]


@dataclass(frozen=True, slots=True)
class ResponseEnd:
    """The target's body is complete, and said so."""


@dataclass(frozen=True, slots=True)
class ResponseFailed:
    """No (more) answer will come. `status` is what to answer if nothing went out yet."""

    status: int
    text: str
    retry_after: int | None = None  # whole seconds


@dataclass(frozen=True, slots=True)
class ResponseWhole:
    """All of an answer at once: nobody can use the first half of an object that is not streamed."""

    head: ResponseHead
    body: bytes


ResponsePart = ResponseHead | bytes | ResponseEnd | ResponseWhole | ResponseFailed
"""What a waiting client receives: head, bytes..., end; or the whole; or failed at any point."""


_EXACT: dict[str, tuple[Route, ...]] = {}
_PATTERNS: list[tuple[list[str], Route]] = []
for _route in ROUTES:
    if "{" in _route.path:
        _PATTERNS.append((_route.path.split("/"), _route))
    else:
        _EXACT[_route.path] = (*_EXACT.get(_route.path, ()), _route)


def routes_at(path: str) -> tuple[Route, ...]:
    """The rows whose path matches, whatever their method."""
    if exact := _EXACT.get(path):
        return exact
    segments = path.split("/")
    return tuple(route for pattern, route in _PATTERNS if _fits(pattern, segments))


def _fits(pattern: list[str], segments: list[str]) -> bool:
    return len(pattern) == len(segments) and all(
        part == segment or (part.startswith("{") and segment != "")
        for part, segment in zip(pattern, segments, strict=True)
    )


def route_for(method: str, path: str) -> Route | None:
    """The row for this method and path."""
    return next((route for route in routes_at(path) if method in route.methods), None)
