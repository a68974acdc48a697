"""Reading a request body the way Ollama would: which model, streamed or not, a load or an unload?

Pure functions of (route, headers, body). What Ollama refuses before it looks at a model is refused
here with the same status and text; everything else is left to the target.
"""

from dataclasses import dataclass
from io import BytesIO
from json import JSONDecodeError, JSONDecoder
from typing import Any

import msgspec

from foreman import names
from foreman.durations import go_duration
from foreman.jobs import Fingerprint, fingerprint, runner_options
from foreman.wire import Dialect, Header, Kind, Request, Route

DECOMPRESSED_LIMIT = 20 << 20  # bytes; Ollama's own limit for zstd bodies
EMPTY: tuple[object, ...] = (None, "", [], {})


class Refused(Exception):
    """Ollama would answer this at once; `status` and `text` are what it would say."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


@dataclass(frozen=True, slots=True)
class Admitted:
    """What the queue needs to know of a request.

    `model` is as the client wrote it, `key` its normalised name. `load` is the request that brings
    the model in without running anything; None where the request itself does just that.
    `keep_alive` is how long the target was told to keep the model (seconds), None if not told.
    """

    model: str
    key: str
    cloud: bool
    fingerprint: Fingerprint
    streamed: bool
    unload: bool
    load: Request | None
    keep_alive: float | None


# Which route brings a model in for which route, so that a refusal to load carries the right text.
_LOADERS = {
    "/api/generate": "/api/generate",
    "/v1/completions": "/api/generate",
    "/api/embed": "/api/embed",
    "/api/embeddings": "/api/embed",
    "/v1/embeddings": "/api/embed",
}

_GO_KINDS: dict[type, str] = {
    bool: "bool",
    int: "number",
    float: "number",
    str: "string",
    list: "array",
}


def admit(route: Route, headers: tuple[Header, ...], body: bytes) -> Admitted:
    """Read a request for an inference or embedding route. Raises Refused with Ollama's answer."""
    if route.path == "/v1/audio/transcriptions":
        model = _form_field(headers, body, "model")
        return _admitted(route, {"model": model})
    empty = "missing request body" if route.dialect is Dialect.OLLAMA else "EOF"
    return _admitted(route, read_object(headers, body, empty))


def _admitted(route: Route, fields: dict[str, Any]) -> Admitted:
    model = _typed(fields, "model", str, "") or ""
    can_stream = route.kind is Kind.INFERENCE and route.path != "/v1/audio/transcriptions"
    streamed = can_stream and _typed(fields, "stream", bool, route.streams_by_default)
    if not model.strip():
        raise _no_model(route, model)
    try:
        name = names.parse(model)
        key = names.key(model)
    except names.InvalidName as error:
        raise Refused(400, error.text) from None
    keep_alive = _keep_alive(fields.get("keep_alive")) if route.dialect is Dialect.OLLAMA else None
    native = route.dialect is Dialect.OLLAMA
    options, shift = (fields.get("options"), fields.get("shift")) if native else (None, None)
    bare = _is_bare(route, fields)
    return Admitted(
        model=model,
        key=key,
        cloud=name.source == "cloud",
        fingerprint=fingerprint(key, options, shift),
        streamed=streamed,
        unload=bare and keep_alive == 0,
        load=None if bare else load_request(route, model, options, shift),
        keep_alive=keep_alive,
    )


def _is_bare(route: Route, fields: dict[str, Any]) -> bool:
    """An empty prompt (or no messages): Ollama's way to say load, or with keep_alive 0, unload."""
    if route.path == "/api/generate":
        return fields.get("prompt") in EMPTY and fields.get("images") in EMPTY
    return route.path == "/api/chat" and fields.get("messages") in EMPTY


def load_request(route: Route, model: str, options: object, shift: object) -> Request:
    """The native request that loads `model` with these runner options and runs nothing."""
    path = _LOADERS.get(route.path, "/api/chat")
    document: dict[str, object] = {"model": model}
    if path != "/api/generate":
        document["messages" if path == "/api/chat" else "input"] = []
    if runner := runner_options(options):
        document["options"] = runner
    if shift is not None:
        document["shift"] = shift
    headers = ((b"content-type", b"application/json"),)
    return Request(b"POST", path.encode(), headers, msgspec.json.encode(document))


def _no_model(route: Route, blank: str) -> Refused:
    if _LOADERS.get(route.path) is None or route.path == "/api/embeddings":
        return Refused(400, "model is required")
    return Refused(404, f"model '{blank}' not found")


def unknown_model(route: Route, model: str) -> Refused:
    """Ollama's answer for a name that is not installed."""
    if route.kind is Kind.EMBEDDING:
        return Refused(404, f'model "{model}" not found, try pulling it first')
    return Refused(404, f"model '{model}' not found")


def _keep_alive(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise Refused(400, f"json: cannot unmarshal {_go_kind(value)} into keep_alive")
    if isinstance(value, str):
        try:
            return go_duration(value)
        except ValueError as error:
            raise Refused(400, str(error)) from None
    return float(value)


def _typed(fields: dict[str, Any], name: str, kind: type, default: Any) -> Any:
    value = fields.get(name)
    if value is None:
        return default
    if not isinstance(value, kind):
        raise Refused(
            400,
            f"json: cannot unmarshal {_go_kind(value)} into Go struct field .{name}"
            f" of type {_GO_KINDS.get(kind, kind.__name__)}",
        )
    return value


def _go_kind(value: object) -> str:
    return _GO_KINDS.get(type(value), "object")


# ---------------------------------------------------------------- bodies

_top_level = msgspec.json.Decoder(dict[str, msgspec.Raw])
_UNREAD = frozenset({"prompt", "images", "messages"})
_WANTED = _UNREAD | {"model", "stream", "keep_alive", "options", "shift"}


def read_object(
    headers: tuple[Header, ...], body: bytes, empty: str = "missing request body"
) -> dict[str, Any]:
    """The members foreman looks at, by lower-case name: Go matches keys without case, last wins.

    Content-Type is never looked at, as in Ollama. Raises Refused for what is no object, with
    the text `empty` where there is nothing at all.
    """
    if dict(headers).get(b"content-encoding") == b"zstd":
        body = _decompress(body)
    if not body.strip():
        raise Refused(400, empty)
    try:
        members = _top_level.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        members = _with_trailing_bytes(body, str(error))
    except RecursionError:
        raise Refused(400, "exceeded max depth") from None
    fields: dict[str, Any] = {}
    for name, raw in members.items():
        if (lower := name.lower()) in _WANTED:
            fields[lower] = _value(lower, raw)
    return fields


def _value(name: str, raw: msgspec.Raw) -> object:
    """Decode one member; of what may be megabytes, only whether it is empty."""
    if name in _UNREAD and len(memoryview(raw)) > 64:
        return True
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if name in _UNREAD:
            return True  # Go mends what is no text (a lone surrogate); it is not empty, that is all
        raise Refused(400, str(error)) from None
    except RecursionError:
        raise Refused(400, "exceeded max depth") from None


def _with_trailing_bytes(body: bytes, problem: str) -> dict[str, msgspec.Raw]:
    """Go reads the first JSON value and ignores what follows: so the decoder gets a second try."""
    try:
        text = body.decode()
        _, end = JSONDecoder().raw_decode(text.lstrip())
        return _top_level.decode(text.lstrip()[:end])
    except (msgspec.DecodeError, UnicodeDecodeError, JSONDecodeError, RecursionError, ValueError):
        raise Refused(400, problem) from None


def _decompress(body: bytes) -> bytes:
    import zstandard  # costs time and memory that only Codex-like clients cause

    try:
        with zstandard.ZstdDecompressor().stream_reader(BytesIO(body)) as reader:
            plain = reader.read(DECOMPRESSED_LIMIT + 1)
    except zstandard.ZstdError as error:
        raise Refused(400, f"zstd: {error}") from None
    if len(plain) > DECOMPRESSED_LIMIT:
        raise Refused(413, "http: request body too large")
    return plain


def _form_field(headers: tuple[Header, ...], body: bytes, wanted: str) -> str:
    from python_multipart import FormParser
    from python_multipart.multipart import parse_options_header

    kind, options = parse_options_header(dict(headers).get(b"content-type", b""))
    if kind != b"multipart/form-data" or b"boundary" not in options:
        raise Refused(400, "request Content-Type isn't multipart/form-data")
    found: list[str] = []

    def on_field(field: Any) -> None:
        if field.field_name == wanted.encode() and field.value is not None:
            found.append(field.value.decode(errors="replace"))

    parser = FormParser(
        "multipart/form-data",
        on_field,
        lambda file: None,
        boundary=options[b"boundary"],
        config={"MAX_MEMORY_FILE_SIZE": len(body) + 1, "UPLOAD_DELETE_TMP": True},
    )
    try:
        parser.write(body)
        parser.finalize()
    except ValueError as error:
        raise Refused(400, f"multipart: {error}") from None
    return found[-1] if found else ""
