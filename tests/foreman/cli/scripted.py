"""A daemon that says what a test has written down for it."""

import json
import threading
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Reply:
    """One answer: in pieces, and cut off after the last of them or held back, if wanted."""

    pieces: tuple[bytes, ...] = ()
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict[str, str])
    cut: bool = False
    after: threading.Event | None = None


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class FakeDaemon:
    """Answers with what a test puts into `answers`, and remembers what it was asked.

    What is in `script` for a method and path comes first, each reply once.
    """

    url: str = ""
    answers: dict[str, tuple[int, bytes]] = field(default_factory=dict[str, tuple[int, bytes]])
    script: dict[str, list[Reply]] = field(default_factory=dict[str, list[Reply]])
    asked: list[tuple[str, str | None]] = field(default_factory=list[tuple[str, str | None]])
    requests: list[Asked] = field(default_factory=list[Asked])

    def says(self, path: str, document: Any, status: int = 200) -> None:
        self.answers[path] = (status, json.dumps(document).encode())

    def replies(self, request: str, *replies: Reply) -> None:
        """To `GET /path`, one after the other."""
        self.script.setdefault(request, []).extend(replies)

    def next_reply(self, method: str, path: str) -> Reply:
        bare = path.partition("?")[0]
        if waiting := self.script.get(f"{method} {bare}"):
            return waiting.pop(0)
        status, body = self.answers.get(bare, (404, b'{"detail": "nothing is scripted"}'))
        return Reply((body,), status)


def lines(*documents: Any) -> tuple[bytes, ...]:
    """NDJSON, a piece each."""
    return tuple(json.dumps(document).encode() + b"\n" for document in documents)
