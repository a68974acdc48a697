"""One request and its answer, asked again while the daemon is away or busy."""

import random
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any, NoReturn, TypeVar

import msgspec

from foreman.client import answers
from foreman.client.errors import Damaged, Refused, Unreachable
from foreman.client.transport import INFERENCE_SILENCE, Reply, Request, Transport

T = TypeVar("T")

FIRST_PAUSE = 0.1  # seconds; doubles with each failure in a row
LONGEST_PAUSE = 5.0  # seconds, unless the daemon names a longer one


class Patience:
    """The failures in a row of one conversation, and how long they may go on.

    `limit`: seconds, if less than the transport's own.
    """

    def __init__(self, transport: Transport, limit: float | None = None) -> None:
        own = transport.patience
        self._transport = transport
        self._limit = own if limit is None else min(own, limit)
        self.renew()

    def renew(self) -> None:
        """The daemon has answered."""
        self._since: float | None = None
        self._pause = FIRST_PAUSE

    async def wait(self, error: Unreachable | Refused) -> None:
        """Pause before the next try. Raises `error` when there is none."""
        now = self._transport.clock()
        self._since = now if self._since is None else self._since
        pause = self._pause * random.uniform(0.5, 1)
        if isinstance(error, Refused):
            if not error.for_now:
                raise error
            pause = max(pause, error.retry_after or 0)
        if now + pause - self._since > self._limit:
            raise error
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        await self._transport.sleep(pause)


async def ask(transport: Transport, request: Request, limit: float | None = None) -> bytes:
    """The body of a 2xx answer, asked for again for at most `limit` seconds.

    Raises Unreachable and Refused.
    """
    patience = Patience(transport, limit)
    while True:
        try:
            async with transport.open(request) as reply:
                await accept(reply)
                return await reply.read()
        except (Unreachable, Refused) as error:
            await _before_another(patience, request, error)


async def ask_for(
    transport: Transport, request: Request, kind: type[T], limit: float | None = None
) -> T:
    """The same, decoded. Raises Damaged, too."""
    return decode(await ask(transport, request, limit), kind)


@asynccontextmanager
async def opened(transport: Transport, request: Request) -> AsyncGenerator[Reply]:
    """A 2xx answer whose head has come. Raises Unreachable and Refused."""
    patience = Patience(transport)
    async with AsyncExitStack() as connection:
        while True:
            try:
                reply = await connection.enter_async_context(transport.open(request))
                await accept(reply)
                break
            except (Unreachable, Refused) as error:
                await connection.aclose()
                await _before_another(patience, request, error)
        yield reply


async def _before_another(
    patience: Patience, request: Request, error: Unreachable | Refused
) -> None:
    if isinstance(error, Unreachable) and error.sent and not request.repeatable:
        raise error
    await patience.wait(error)


async def accept(reply: Reply) -> None:
    """Raises Refused, with the daemon's words, unless the answer is a success."""
    if not 200 <= reply.status < 300:
        refuse(reply.status, reply.headers, await reply.read())


class _Problem(msgspec.Struct):
    """A problem+json object, or an error of Ollama's, OpenAI's, Anthropic's."""

    detail: str | None = None
    code: Any = ""
    field: str | None = None
    error: Any = None


def refuse(status: int, headers: Mapping[str, str], body: bytes) -> NoReturn:
    """Raises Refused with what the body says."""
    try:
        problem = msgspec.json.decode(body, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        problem = _Problem()
    said = problem.detail or (answers.text_of(problem.error) if problem.error else "")
    hint = "; set FOREMAN_TOKEN" if status == 401 else ""
    raise Refused(
        status,
        (said or f"the answer is {status}; is that foreman?") + hint,
        code=str(problem.code or ""),
        field=problem.field,
        retry_after=_seconds(headers.get("retry-after")),
    )


def _seconds(retry_after: str | None) -> float | None:
    """Retry-After as foreman sends it; a date counts as none."""
    return float(retry_after) if retry_after and retry_after.strip().isdecimal() else None


def decode(body: bytes, kind: type[T]) -> T:
    """Raises Damaged when the body is not what a daemon of this version sends."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise Damaged(f"the answer is not foreman's: {problem}") from None


def plain(body: bytes) -> Any:
    """Any JSON value. Raises Damaged."""
    value: Any = decode(body, object)
    return value


async def answer(transport: Transport, request: Request, kind: type[T]) -> T:
    """One whole answer of a synchronous route. Raises Unreachable, Refused and Damaged."""
    return answers.read(await ask(transport, inference(request)), kind)


async def pieces(transport: Transport, request: Request, kind: type[T]) -> AsyncGenerator[T]:
    """The pieces of a streamed answer. Raises what `answer` raises, also in the middle."""
    async with opened(transport, inference(request)) as reply:
        async for line in reply.lines():
            yield answers.read(line, kind)


def inference(request: Request) -> Request:
    """Asked twice, it would be worked on twice."""
    return replace(request, silence=INFERENCE_SILENCE, repeatable=False)
