"""The same call by httpx alone, through a chain of foreman.llm, and by litellm where there is one.

Run like `tests.bench.client`. All of them take turns in one loop, against one target.
"""

import importlib
import importlib.util
import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from time import perf_counter, process_time
from typing import Any

import anyio
import httpx
import msgspec

from foreman.llm.registry import Registry
from foreman.llm.request import Request
from tests.bench.client import CHAT, play

WARM_UP = 20  # calls of each
LITELLM = "litellm"
QUESTION = "why is the sky blue?"

Call = Callable[[], Awaitable[int]]
"""Makes one call; the number of its events."""


async def calls(port: int, count: int) -> dict[str, list[float]]:
    """Seconds of every whole answer, by who asked."""

    async def once(call: Call) -> float:
        began = perf_counter()
        await call()
        return perf_counter() - began

    async with AsyncExitStack() as stack:
        callers = await _callers(stack, port, streamed=False)
        return await _in_turns(callers, once, WARM_UP, count)


async def streams(port: int, rounds: int, together: int) -> dict[str, list[float]]:
    """Seconds of this process's time for each event of a stream, by who asked, a figure a round.

    The target pauses between its events, so the time that passes says nothing of what they cost.
    """

    async def once(call: Call) -> float:
        began = process_time()
        events = await _together(call, together)
        return (process_time() - began) / events

    async with AsyncExitStack() as stack:
        callers = await _callers(stack, port, streamed=True)
        return await _in_turns(callers, once, 1, rounds)


async def _in_turns(
    callers: dict[str, Call], once: Callable[[Call], Awaitable[float]], warm_up: int, count: int
) -> dict[str, list[float]]:
    """What `once` measures, without the warm-up.

    litellm comes after the others: whoever follows it finds the processor's caches empty.
    """
    taken: dict[str, list[float]] = {name: [] for name in callers}
    for names in (callers.keys() - {LITELLM}, callers.keys() & {LITELLM}):
        for number in range(warm_up + count):
            for name in sorted(names):
                measured = await once(callers[name])
                if number >= warm_up:
                    taken[name].append(measured)
    return taken


async def _together(call: Call, count: int) -> int:
    events: list[int] = []

    async def one() -> None:
        events.append(await call())

    async with anyio.create_task_group() as group:
        for _ in range(count):
            group.start_soon(one)
    return sum(events)


async def _callers(stack: AsyncExitStack, port: int, *, streamed: bool) -> dict[str, Call]:
    url = f"http://127.0.0.1:{port}"
    timeout = httpx.Timeout(None, connect=10)
    client = await stack.enter_async_context(
        httpx.AsyncClient(base_url=url, timeout=timeout, trust_env=False)
    )
    environ = {"LLM_BOX": f"ollama://127.0.0.1:{port}", "LLM_SPARE": "ollama://127.0.0.1:9"}
    registry = await stack.enter_async_context(Registry(environ=environ))
    chain = registry.model("box/fast, spare/fast")
    body = CHAT % (b"true" if streamed else b"false")

    async def bare() -> int:
        response = await client.post("/api/chat", content=body)
        msgspec.json.decode(response.content)
        return 1

    async def bare_stream() -> int:
        async with client.stream("POST", "/api/chat", content=body) as response:
            return len([msgspec.json.decode(line) async for line in response.aiter_lines()])

    async def chained() -> int:
        await chain.complete(Request.of(QUESTION))
        return 1

    async def chained_stream() -> int:
        async with chain.stream(Request.of(QUESTION)) as events:
            return len([event async for event in events])

    callers: dict[str, Call] = {
        "bare": bare_stream if streamed else bare,
        "chain": chained_stream if streamed else chained,
    }
    if importlib.util.find_spec(LITELLM):
        callers[LITELLM] = _litellm(url, streamed=streamed)
    return callers


def _litellm(url: str, *, streamed: bool) -> Call:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it fetches its prices first
    litellm: Any = importlib.import_module(LITELLM)
    litellm.suppress_debug_info = True  # it would go to stdout, among the measurements
    asked = {"model": "ollama_chat/fast", "api_base": url, "stream": streamed}

    async def call() -> int:
        messages = [{"role": "user", "content": QUESTION}]
        answer = await litellm.acompletion(messages=messages, **asked)
        return len([chunk async for chunk in answer]) if streamed else 1

    return call


if __name__ == "__main__":
    play({"calls": calls, "streams": streams})
