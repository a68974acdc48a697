"""Who keeps the daemon busy in a soak: people who chat, batches, subscribers, and the rude."""

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx
import trio
from trio_websocket import ConnectionClosed, HandshakeError, open_websocket_url

CHAT = {"model": "fast", "messages": [{"role": "user", "content": "why is the sky blue?"}]}
ASKED = ("/healthz", "/metrics", "/jobs?limit=50", "/queue", "/api/tags", "/webhooks/deliveries")
STREAMED = 0.2  # of the chats; a stream takes a quarter of a second, and the slot with it
RUDE = (
    b"GET /events HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nabcd",
    b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900\r\n\r\n{",
    b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\n{]}",
    b"\x16\x03\x01 this is no HTTP \x00\xff\r\n\r\n",
)


@dataclass(slots=True)
class Load:
    """A daemon under a steady, mixed load. `done` counts what was done, `failed` what was not."""

    url: str
    receiver: str
    pace: float  # seconds between two things that one client does
    done: Counter[str] = field(default_factory=Counter[str])
    failed: Counter[str] = field(default_factory=Counter[str])

    async def run(self) -> None:
        """Go on until cancelled."""
        timeout = httpx.Timeout(60.0)
        async with (
            httpx.AsyncClient(base_url=self.url, timeout=timeout, trust_env=False) as client,
            trio.open_nursery() as nursery,
        ):
            asks = (self._chat, self._chat, self._embed, self._submit, self._bulk, self._ask)
            for name, deed in ((each.__name__, partial(each, client)) for each in asks):
                nursery.start_soon(self._again_and_again, name, deed)
            for lonely in (self._subscribe, self._be_rude, self._hang_up):
                nursery.start_soon(self._again_and_again, lonely.__name__, lonely)

    async def _again_and_again(self, method: str, deed: Callable[[], Awaitable[bool]]) -> None:
        name = method.strip("_")
        while True:
            try:
                good = await deed()
            except (httpx.HTTPError, OSError, HandshakeError) as error:
                self.failed[f"{name}: {type(error).__name__}"] += 1
            else:
                (self.done if good else self.failed)[name] += 1
            await trio.sleep(self.pace * random.uniform(0.5, 1.5))

    async def _chat(self, client: httpx.AsyncClient) -> bool:
        streamed = random.random() < STREAMED
        async with client.stream("POST", "/api/chat", json={**CHAT, "stream": streamed}) as answer:
            body = await answer.aread()
        return answer.status_code == 200 and b'"done":true' in body

    async def _embed(self, client: httpx.AsyncClient) -> bool:
        asked = {"model": "embedder", "input": ["a", "b"]}
        return (await client.post("/api/embed", json=asked)).status_code == 200

    async def _submit(self, client: httpx.AsyncClient) -> bool:
        job: dict[str, Any] = {
            "request": {**CHAT, "stream": False},
            "labels": {"app": random.choice(("mail", "notes"))},
            "webhook": {"url": self.receiver + random.choice(("/a", "/b"))},
            "artifacts": random.choice(("inline", "fetch")),
        }
        answer = await client.post("/jobs", json=job)
        if answer.status_code != 202:
            return False
        ended = await client.get(f"/jobs/{answer.json()['id']}/wait", params={"timeout": 30})
        return bool(ended.json()["state"] == "done")

    async def _bulk(self, client: httpx.AsyncClient) -> bool:
        lines = b'{"request":{"model":"fast","messages":[],"stream":false}}\n' * 5 + b"no JSON\n"
        answer = await client.post("/jobs/bulk", content=lines)
        return answer.text.count('"status":202') == 5

    async def _ask(self, client: httpx.AsyncClient) -> bool:
        return (await client.get(random.choice(ASKED))).status_code == 200

    async def _subscribe(self) -> bool:
        """Follow the events for a while, and leave without a word every other time."""
        url = self.url.replace("http", "ws") + "/events"
        with trio.move_on_after(20 * self.pace):
            try:
                async with open_websocket_url(url) as socket:
                    while True:
                        await socket.get_message()
            except ConnectionClosed:
                return False
        return True

    async def _be_rude(self) -> bool:
        """Say something that no server can make sense of, and see that it hangs up."""
        at = httpx.URL(self.url)
        async with await trio.open_tcp_stream(at.host, at.port or 80) as stream:
            await stream.send_all(random.choice(RUDE))
            with trio.move_on_after(10):
                async for _ in stream:
                    pass
        return True

    async def _hang_up(self) -> bool:
        """Leave in the middle of an answer, or while waiting for it."""
        async with httpx.AsyncClient(base_url=self.url, trust_env=False) as client:
            with trio.move_on_after(random.uniform(0.0, 0.2)):
                await client.post("/api/chat", json=CHAT)
        return True
