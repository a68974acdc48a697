from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from foreman.llm import Event, StreamBroken
from foreman.llm.model import whole


async def test_a_stream_that_ends_without_an_answer_is_broken() -> None:
    async def words() -> AsyncIterator[Event]:
        await anyio.lowlevel.checkpoint()
        yield Event(delta="Hel", text="Hel")

    @asynccontextmanager
    async def stream() -> AsyncGenerator[AsyncIterator[Event]]:
        await anyio.lowlevel.checkpoint()
        yield words()

    with pytest.raises(StreamBroken):
        await whole(stream())
