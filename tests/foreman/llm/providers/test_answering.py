from collections.abc import AsyncIterator

import anyio
import httpx
import pytest

from foreman.llm import Event, InvalidResponse, StreamBroken, TimedOut, Unreachable
from foreman.llm.framing import Lines
from foreman.llm.providers.answering import Answer


async def body(*chunks: bytes | Exception) -> AsyncIterator[bytes]:
    for chunk in chunks:
        await anyio.lowlevel.checkpoint()
        if isinstance(chunk, Exception):
            raise chunk
        yield chunk


def answer(*chunks: bytes | Exception, longest: int = 100) -> Answer:
    return Answer(
        body(*chunks),
        Lines(longest),
        lambda line: [Event(delta=line.decode())],
        target="box/m",
        errors=httpx.HTTPError,
        timeouts=httpx.TimeoutException,
    )


@pytest.mark.parametrize(
    ("chunks", "kind"),
    [
        ((httpx.ReadError("reset"),), Unreachable),
        ((b"word\n", httpx.ReadError("reset")), StreamBroken),
        ((httpx.ReadTimeout("silent"),), TimedOut),
        ((b"word\n", httpx.ReadTimeout("silent")), TimedOut),
        ((b"word\n", b"x" * 101), InvalidResponse),
        ((b"word\n",), StreamBroken),
    ],
)
async def test_a_body_that_breaks_off_is_told_by_how_far_it_was(
    chunks: tuple[bytes | Exception, ...], kind: type[Exception]
) -> None:
    heard: list[str] = []

    with pytest.raises(kind) as failed:
        async with answer(*chunks).until_left() as events:
            async for event in events:
                heard.append(event.delta)

    assert heard == (["word"] if chunks[0] == b"word\n" else [])
    cause = failed.value.__cause__
    assert cause is None or cause in chunks or isinstance(cause, ValueError)


async def test_what_came_before_a_frame_that_cannot_be_read_is_handed_out() -> None:
    def read(line: bytes) -> list[Event]:
        if line == b"bad":
            raise InvalidResponse("bad")
        return [Event(delta=line.decode())]

    events = Answer(
        body(b"one\ntwo\nbad\n"),
        Lines(),
        read,
        target="box/m",
        errors=httpx.HTTPError,
        timeouts=httpx.TimeoutException,
    )

    async with events.until_left():
        assert [(await anext(events)).delta, (await anext(events)).delta] == ["one", "two"]
        with pytest.raises(InvalidResponse):
            await anext(events)


@pytest.mark.parametrize("read", [0, 1])
async def test_leaving_in_the_middle_does_not_wait(virtual_time: None, read: int) -> None:
    ended = False

    async def silent() -> AsyncIterator[bytes]:
        nonlocal ended
        try:
            yield b"word\n"
            await anyio.sleep_forever()
        finally:
            ended = True

    events = Answer(
        silent(),
        Lines(),
        lambda line: [Event(delta=line.decode())],
        target="box/m",
        errors=httpx.HTTPError,
        timeouts=httpx.TimeoutException,
    )
    start = anyio.current_time()

    async with events.until_left():
        for _ in range(read):
            await anext(events)

    assert ended
    assert anyio.current_time() == start
