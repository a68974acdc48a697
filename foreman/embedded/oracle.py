"""What the target saw and did, for tests to hold foreman to."""

import base64
import hashlib
from collections import deque
from dataclasses import dataclass, field

from foreman.embedded.engine import RunnerOptions
from foreman.embedded.http1 import Header, Request

RECORDED = 256  # last requests whose heads and bodies are kept
KEPT_BODY = 8 * 1024 * 1024  # bytes of one body that are kept; longer ones keep only their digest


@dataclass(frozen=True, slots=True)
class Load:
    """One load of a model, with what it was loaded with."""

    model: str
    options: RunnerOptions
    seconds: float


@dataclass(frozen=True, slots=True)
class Call:
    """One generation or embedding that was begun."""

    path: str
    model: str  # as it was sent


@dataclass(slots=True)
class Recorded:
    """One request, byte for byte. `body` is empty where it was too long to keep."""

    method: str
    target: bytes
    headers: tuple[Header, ...]
    body: bytes = b""
    size: int = 0
    sha256: str = ""


@dataclass(slots=True)
class Oracle:
    """Only grows. `running` counts what generates or embeds just now."""

    loads: list[Load] = field(default_factory=list[Load])
    unloads: list[str] = field(default_factory=list[str])
    calls: list[Call] = field(default_factory=list[Call])
    finished: int = 0
    cancelled: int = 0
    running: int = 0
    max_running: int = 0
    requests: deque[Recorded] = field(default_factory=lambda: deque[Recorded](maxlen=RECORDED))

    def begin(self, path: str, model: str) -> None:
        """A generation starts."""
        self.calls.append(Call(path, model))
        self.running += 1
        self.max_running = max(self.max_running, self.running)

    def end(self, *, cancelled: bool) -> None:
        """A generation is over."""
        self.running -= 1
        self.cancelled += cancelled
        self.finished += not cancelled

    def record(self, request: Request) -> Recorded:
        """Remember a request; its body follows by `with_body`."""
        recorded = Recorded(request.method, request.target, request.headers)
        self.requests.append(recorded)
        return recorded

    def report(self) -> dict[str, object]:
        """All of it as JSON values."""
        return {
            "loads": len(self.loads),
            "load_log": [
                {"model": each.model, "options": each.options, "seconds": each.seconds}
                for each in self.loads
            ],
            "unloads": self.unloads,
            "calls": self.calls,
            "finished": self.finished,
            "cancelled": self.cancelled,
            "running": self.running,
            "max_running": self.max_running,
            "requests": [_shown(each) for each in self.requests],
        }


def keep_body(recorded: Recorded, body: bytes) -> None:
    """Add the body to what was recorded of its request."""
    recorded.size = len(body)
    recorded.sha256 = hashlib.sha256(body).hexdigest()
    recorded.body = body if len(body) <= KEPT_BODY else b""


def _shown(recorded: Recorded) -> dict[str, object]:
    return {
        "method": recorded.method,
        "target": recorded.target.decode("latin-1"),
        "headers": [[k.decode("latin-1"), v.decode("latin-1")] for k, v in recorded.headers],
        "body": recorded.body.decode("utf-8", "replace"),
        "body_base64": base64.b64encode(recorded.body).decode(),
        "size": recorded.size,
        "sha256": recorded.sha256,
    }
