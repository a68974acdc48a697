"""Stands where `foreman.target.Target` does: scripted answers, virtual time, no sockets."""

from collections.abc import AsyncIterable, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self

import msgspec
import trio

from foreman.errors import TargetUnreachable
from foreman.target import Answer, Target
from foreman.wire import Request

JSON = b"application/json; charset=utf-8"
NDJSON = b"application/x-ndjson"

Step = bytes | float | Exception | trio.Event
"""What happens next in an answer: bytes, seconds of silence, an error, or a wait for the test."""


@dataclass(frozen=True)
class Says:
    """An answer: what happens before its head, and then its body."""

    body: Sequence[Step] = ()
    status: int = 200
    content_type: bytes = NDJSON
    before: Sequence[Step] = ()
    headers: tuple[tuple[bytes, bytes], ...] = ()


TOKEN = b'{"model":"m","message":{"content":"hi"},"done":false}\n'
DONE = b'{"model":"m","done":true,"prompt_eval_count":2,"eval_count":3}\n'
CHAT = Says([TOKEN, DONE])


class FakeTarget(Target):
    """Answers each path by its script; the last answer of a path is repeated.

    A load (a chat without messages) goes by the name `load` and takes `load_s` seconds. While it is
    not `up`, nobody is there.
    """

    def __init__(self) -> None:
        self.up = True
        self.load_s: dict[str, float] = {}
        self.requests: list[tuple[float, str]] = []
        self.answers: dict[str, list[Says]] = {}
        self.running = 0
        self.most_running = 0

    def plays(self, path: str, *answers: Says) -> None:
        """From now on this is what it says on that path."""
        self.answers[path] = list(answers)

    def asked(self, path: str) -> list[float]:
        """When it was asked for that path."""
        return [at for at, each in self.requests if each == path]

    @asynccontextmanager
    async def send(
        self, request: Request, upload: AsyncIterable[bytes] | None = None
    ) -> AsyncIterator[Answer]:
        await trio.lowlevel.checkpoint()
        path = request.path.decode()
        if not self.up:
            raise TargetUnreachable("connection refused")
        fields = msgspec.json.decode(request.body) if request.body else {}
        loads = path == "/api/chat" and not fields.get("messages")
        name = "load" if loads else path
        self.requests.append((trio.current_time(), name))
        says = self._says(name)
        generates = name == "/api/chat"
        self.running += generates
        self.most_running = max(self.most_running, self.running)
        try:
            if loads:
                await trio.sleep(self.load_s.get(fields.get("model", ""), 0.0))
            for step in says.before:
                await _happen(step)
            headers = ((b"content-type", says.content_type), *says.headers)
            yield Answer(says.status, headers, _Body(says.body))
        finally:
            self.running -= generates

    def _says(self, name: str) -> Says:
        script = self.answers.get(name) or [_USUAL.get(name, CHAT)]
        return script.pop(0) if len(script) > 1 else script[0]


class _Body:
    """No generator: one that is left half read would end at some other time."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = iter(steps)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        for step in self._steps:
            await _happen(step)
            if isinstance(step, bytes):
                return step
        raise StopAsyncIteration


async def _happen(step: Step) -> None:
    await trio.lowlevel.checkpoint()
    match step:
        case Exception():
            raise step
        case float() | int():
            await trio.sleep(step)
        case trio.Event():
            await step.wait()
        case _:
            pass


TAGS = b'{"models":[{"name":"a:latest","digest":"da"},{"name":"b:latest","digest":"db"}]}'
_USUAL = {
    "load": Says([b'{"model":"m","done":true}'], content_type=JSON),
    "/api/version": Says([b'{"version":"0.33.0"}'], content_type=JSON),
    "/api/tags": Says([TAGS], content_type=JSON),
    "/api/ps": Says([b'{"models":[]}'], content_type=JSON),
}
