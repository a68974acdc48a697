"""Clients that go on asking while the daemon behind their address is restarted.

Run like `tests.bench.client`. Odd ones keep their connection, the others open one each time.
"""

import asyncio
import itertools
from time import perf_counter

import httpx

from tests.bench.client import play
from tests.bench.job_client import FAST

CHAT = b'{"model":"fast","stream":false,"messages":[{"role":"user","content":"x"}]}'
EMBED = b'{"model":"fast","input":"x"}'
REQUESTS: list[tuple[str, str, bytes | None]] = [
    ("POST", "/jobs", FAST),
    ("POST", "/api/chat", CHAT),
    ("GET", "/api/tags", None),
    ("POST", "/api/embed", EMBED),
    ("GET", "/jobs?limit=5", None),
]


async def crowd(port: int, clients: int, seconds: float) -> dict[str, list[list[float] | str]]:
    """When each answered request began and ended (`perf_counter`), and what failed."""
    until = perf_counter() + seconds
    answered: list[list[float] | str] = []
    failed: list[list[float] | str] = []

    async def one(number: int) -> None:
        requests = itertools.islice(itertools.cycle(REQUESTS), number, None)
        headers = {"content-type": "application/json"}
        headers |= {} if number % 2 else {"connection": "close"}
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(
            base_url=url, timeout=None, trust_env=False, headers=headers
        ) as client:
            while (began := perf_counter()) < until:
                method, path, body = next(requests)
                try:
                    answer = await client.request(method, path, content=body)
                except httpx.TransportError as error:
                    failed.append(f"{method} {path}: {error!r}")
                    continue
                if answer.status_code in (200, 202):
                    answered.append([began, perf_counter()])
                else:
                    failed.append(f"{method} {path}: {answer.status_code} {answer.text}")

    await asyncio.gather(*map(one, range(clients)))
    return {"answered": answered, "failed": failed}


if __name__ == "__main__":
    play({"crowd": crowd})
