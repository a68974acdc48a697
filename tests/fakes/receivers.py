"""Stands where the guarded transport does: webhook receivers by script, in virtual time."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import inf
from typing import Any, Self

import httpx
import trio

Step = bytes | float | Exception
"""What happens next in an answer: bytes, seconds of silence, or an error."""


@dataclass(frozen=True)
class Says:
    """An answer: what happens before its head, and its body after that."""

    status: int = 200
    body: Iterable[Step] = ()
    before: Iterable[Step] = ()
    headers: dict[str, str] = field(default_factory=dict[str, str])


HANGS = Says(before=(inf,))


def refuses(error: Exception) -> Says:
    """Nobody answers: `error` says why."""
    return Says(before=(error,))


@dataclass(frozen=True)
class Got:
    """A message as a receiver saw it."""

    at: float
    url: str
    headers: httpx.Headers
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def data(self) -> Any:
        return json.loads(self.body)["data"]


@dataclass
class Receivers(httpx.AsyncBaseTransport):
    """Each URL answers by its script, the last answer for ever; 200 where there is none."""

    scripts: dict[str, list[Says]] = field(default_factory=dict[str, list[Says]])
    got: list[Got] = field(default_factory=list[Got])
    open: int = 0
    most_open: int = 0
    heard: Callable[[Got], None] = lambda got: None

    def plays(self, url: str, *answers: Says) -> None:
        self.scripts[url] = list(answers)

    def times(self, url: str) -> list[float]:
        """When messages came to it."""
        return [each.at for each in self.got if each.url == url]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        got = Got(trio.current_time(), str(request.url), request.headers, request.content)
        self.got.append(got)
        self.heard(got)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            await trio.lowlevel.checkpoint()
            says = self._says(got.url)
            await _happen(says.before)
        except BaseException:
            self.open -= 1
            raise
        return httpx.Response(says.status, headers=says.headers, stream=_Body(self, says.body))

    def _says(self, url: str) -> Says:
        script = self.scripts.get(url, [Says()])
        return script.pop(0) if len(script) > 1 else script[0]


class _Body(httpx.AsyncByteStream):
    """No generator: one that is left half read would end at some other time."""

    def __init__(self, receivers: Receivers, steps: Iterable[Step]) -> None:
        self._receivers = receivers
        self._steps = iter(steps)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        for step in self._steps:
            await _happen([step])
            if isinstance(step, bytes):
                return step
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self._receivers.open -= 1


async def _happen(steps: Iterable[Step]) -> None:
    for step in steps:
        await trio.lowlevel.checkpoint()
        if isinstance(step, Exception):
            raise step
        if isinstance(step, float | int):
            await trio.sleep(step)
