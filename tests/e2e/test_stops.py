"""What clients see of a stop, and of a pause of the whole process."""

import json
import signal
from pathlib import Path

import httpx
import trio

from foreman.embedded.script import ModelScript, Script
from tests.e2e.processes import audit, chat, rows, until, upstream
from tests.e2e.targets import target
from tests.fakes.daemon import connected, spawned

CHAT = "/api/chat"
SMALL = Script(models=(ModelScript(name="small:latest"),))
TOKENS = 100
SLOW = Script(models=(ModelScript(name="small:latest", tokens=TOKENS, token_seconds=0.005),))


async def test_on_sigterm_who_waits_is_told_to_come_back_and_who_is_answered_is_answered(
    tmp_path: Path,
) -> None:
    async with upstream(SMALL) as target, spawned(tmp_path, target.url) as foreman:
        answers = list[httpx.Response]()
        async with connected(foreman.url) as client, trio.open_nursery() as nursery:

            async def ask() -> None:
                answers.append(await client.post(CHAT, json=chat()))

            async def one_waits() -> bool:
                return len((await client.get("/queue")).json()["calls"]) == 1

            target.engine.tokens.close()
            nursery.start_soon(ask)
            await target.engine.tokens.holds()
            nursery.start_soon(ask)
            await until(one_waits)
            foreman.process.send_signal(signal.SIGTERM)
            await until(lambda: bool(answers))
            target.engine.tokens.open()
        assert await foreman.process.wait() == 0
    refused, answered = answers
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) >= 1
    assert list(refused.json()) == ["error"]
    assert json.loads(answered.text.splitlines()[-1])["done"] is True
    ends = [(row["state"], row["error_code"]) for row in rows(tmp_path)]
    assert ends == [("done", None), ("failed", "interrupted")]
    assert audit(tmp_path) == []


async def test_a_pause_in_the_middle_of_a_stream_loses_no_token(tmp_path: Path) -> None:
    """Row 81: the target works on and finishes while nobody reads."""
    async with (
        target(tmp_path, SLOW) as behind,
        spawned(tmp_path / "data", behind.url) as foreman,
        connected(foreman.url) as client,
        client.stream("POST", CHAT, json=chat()) as answer,
    ):
        lines = answer.aiter_lines()
        read = [await anext(lines), await anext(lines)]
        foreman.process.send_signal(signal.SIGSTOP)

        async def finished() -> bool:
            return bool((await behind.stats())["finished"])

        await until(finished)
        foreman.process.send_signal(signal.SIGCONT)
        read += [line async for line in lines]
    words = "".join(json.loads(line)["message"]["content"] for line in read).split()
    assert words == ["one", *map(str, range(2, TOKENS + 1))]
