"""What a scripted engine does: models, speeds, answers and faults, as plain values.

A script is a JSON or TOML file, or a `Script` made in a program. All times are in seconds and are
multiplied by `time_scale`. A fault strikes matching calls number `skip + 1` to `skip + first`
(`first` absent: all of them from there on) and is then over: "fail once, then heal" is `first = 1`.
"""

from pathlib import Path

import msgspec

Text = str | None


class Matching(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which calls a fault strikes. Without `paths` and `model`: every call."""

    paths: tuple[str, ...] = ()
    model: Text = None
    skip: int = 0
    first: int | None = None


class Status(Matching, frozen=True, tag_field="kind", tag="status"):
    """Answer this instead. `body` goes out as it is; without it, `{"error": text}` does."""

    status: int
    text: str = "scripted failure"
    body: Text = None
    headers: dict[str, str] = msgspec.field(default_factory=dict[str, str])


class Hang(Matching, frozen=True, tag_field="kind", tag="hang"):
    """Fall silent: before the headers, or after this many tokens (0: right after the headers)."""

    after_tokens: int | None = None


class Cut(Matching, frozen=True, tag_field="kind", tag="cut"):
    """Break the connection: at once, after this many tokens, or after this many body bytes."""

    after_tokens: int | None = None
    after_bytes: int | None = None


class Garble(Matching, frozen=True, tag_field="kind", tag="garble"):
    """Send a line that is no JSON after this many tokens, then go on."""

    after_tokens: int = 1
    line: str = '{"model":"m","crea\x00\x07'


class HugeLine(Matching, frozen=True, tag_field="kind", tag="huge_line"):
    """Send one line of this many bytes after this many tokens, then go on."""

    after_tokens: int = 1
    size: int = 16 << 20


class ErrorLine(Matching, frozen=True, tag_field="kind", tag="error_line"):
    """Fail after this many tokens, as Ollama does when a runner dies under a stream."""

    after_tokens: int = 1
    text: str = "model runner has unexpectedly stopped"


class EndEarly(Matching, frozen=True, tag_field="kind", tag="end_early"):
    """End cleanly after this many tokens without the last, `done` chunk."""

    after_tokens: int = 1


class LoadFailure(Matching, frozen=True, tag_field="kind", tag="load_failure"):
    """The load fails after its time. Counts loads, not calls; `paths` mean nothing here."""

    text: str = "llama runner process has terminated: exit status 2"
    status: int = 500


class SlowLoad(Matching, frozen=True, tag_field="kind", tag="slow_load"):
    """The load takes this much longer. Counts loads, not calls; `paths` mean nothing here."""

    seconds: float


LoadFault = LoadFailure | SlowLoad
StreamFault = Hang | Cut | Garble | HugeLine | ErrorLine | EndEarly
Fault = Status | StreamFault
AnyFault = Fault | LoadFault


class ToolCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A call the model makes when the request offers tools. The arguments keep their key order."""

    name: str
    arguments: dict[str, object] = msgspec.field(default_factory=dict[str, object])


class ModelScript(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One model: what it is, how fast, and what it says.

    It says `text`, or the last message back (`echo`), or `tokens` numbered words. Models with the
    same `blob` share their weights, and so a runner. `remote` makes it a cloud stub.
    """

    name: str
    capabilities: tuple[str, ...] = ("completion", "tools")
    load_seconds: float = 0.0
    first_token_seconds: float = 0.0
    token_seconds: float = 0.0
    tokens: int = 8
    text: Text = None
    echo: bool = False
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_calls_early: bool = False
    embed_seconds: float = 0.0
    dimensions: int = 8
    context_length: int = 8192
    size: int = 100_000_000
    blob: str = ""
    remote: bool = False


DEFAULT_MODELS = (
    ModelScript(name="small:latest"),
    ModelScript(name="big:latest"),
    ModelScript(name="thinker:latest", capabilities=("completion", "thinking"), thinking="Hm. So"),
    ModelScript(name="embedder:latest", capabilities=("embedding",)),
    ModelScript(name="faraway:cloud", remote=True),
)


class Script(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole play. `outage` > 0 takes the server off the network for so long, now."""

    models: tuple[ModelScript, ...] = DEFAULT_MODELS
    faults: tuple[AnyFault, ...] = ()
    time_scale: float = 1.0
    outage: float = 0.0
    signed_in: bool = False


def load(path: Path) -> Script:
    """Read a script. Raises msgspec.ValidationError or DecodeError, with the wrong place."""
    decode = msgspec.toml.decode if path.suffix == ".toml" else msgspec.json.decode
    return decode(path.read_bytes(), type=Script)
