"""The commands against a daemon in a process of its own, as somebody types them."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from foreman.embedded.script import ModelScript, Script
from tests.e2e.processes import Upstream, until, upstream
from tests.e2e.targets import free_port
from tests.fakes.daemon import PATIENCE, spawned

MODELS = tuple(
    ModelScript(name=name, text=f"I am {name}.") for name in ("small:latest", "big:latest")
)


@dataclass(frozen=True)
class Ran:
    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        """Its output as NDJSON."""
        return [json.loads(line) for line in self.out.splitlines()]


async def run(url: str, *words: str, stdin: str = "") -> Ran:
    """`foreman WORDS`, without a terminal."""
    done = await trio.run_process(
        [sys.executable, "-m", "actors", *words],
        env=environment(url),
        stdin=stdin.encode(),
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )
    return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())


def environment(url: str) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("FOREMAN_")}
    return plain | {"FOREMAN_URL": url}


@dataclass
class Following:
    """A command that goes on, and what it has printed so far."""

    process: trio.Process
    out: bytes = b""
    err: bytes = b""

    async def said(self, text: bytes, *, on_stderr: bool = False) -> None:
        """Return when it has."""
        await until(lambda: text in (self.err if on_stderr else self.out))

    async def interrupted(self) -> int:
        """Ctrl-C, and how it ends."""
        self.process.send_signal(2)
        return await self.process.wait()


@asynccontextmanager
async def following(url: str, *words: str) -> AsyncGenerator[Following]:
    """Run `foreman WORDS` beside the block; killed at its end."""
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "actors", *words],
        env=environment(url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    command = Following(process)

    async def read(stream: trio.abc.ReceiveStream | None, name: str) -> None:
        assert stream is not None
        async for piece in stream:
            setattr(command, name, getattr(command, name) + piece)

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, process.stdout, "out")
            nursery.start_soon(read, process.stderr, "err")
            yield command
            nursery.cancel_scope.cancel("the test has seen enough")
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


async def busy(url: str, target: Upstream) -> str:
    """A job that has the slot and does not get on; its id."""
    target.engine.tokens.close()
    job = (await run(url, "submit", "big", "hold the slot")).out.strip()
    await target.engine.tokens.holds()
    return job


async def test_a_job_is_submitted_waited_for_shown_and_fetched(tmp_path: Path) -> None:
    async with (
        upstream(Script(models=MODELS)) as target,
        spawned(tmp_path / "data", target.url) as foreman,
    ):
        url = foreman.url
        job = (await run(url, "submit", "small", "Who are you?", "--label", "a=b")).out.strip()
        waited = await run(url, "wait", job, "--json")
        assert (waited.status, waited.lines[0]["state"]) == (0, "done")
        assert (await run(url, "output", job)).out == "I am small:latest.\n"
        assert "I am small:latest." in (await run(url, "show", job)).out
        watched = await run(url, "watch", job, "--json")
        assert [each["state"] for each in watched.lines] == ["queued", "loading", "working", "done"]
        assert (await run(url, "jobs", "--label", "a=b", "--ids", "--all")).out == f"{job}\n"
        fetched = await run(url, "artifacts", job, "--to", str(tmp_path / "results"))
        assert fetched.out.strip() == str(tmp_path / "results" / f"{job}.result.ndjson")
        kept = await run(url, "artifacts", job, "--to", "-")
        assert "".join(each["message"]["content"] for each in kept.lines) == "I am small:latest."
        asked = await run(url, "submit", "small", "And now?", "--generate", "--wait")
        assert (asked.status, asked.out) == (0, "I am small:latest.\n")
        chatted = await run(url, "chat", "small", "Hi")
        assert (chatted.status, chatted.out) == (0, "I am small:latest.\n")
        refused = await run(url, "submit", "nope", "x")
        assert (refused.status, refused.out) == (1, "")
        assert "not found (at /request/model)" in refused.err


async def test_who_waits_is_told_where_and_why_and_can_be_cancelled(tmp_path: Path) -> None:
    async with (
        upstream(Script(models=MODELS)) as target,
        spawned(tmp_path, target.url) as foreman,
    ):
        url = foreman.url
        holder = await busy(url, target)
        first = (await run(url, "submit", "small", "x")).out.strip()
        second = (await run(url, "submit", "small", "x", "--priority", "5")).out.strip()
        queue = await run(url, "queue")
        places = [line.split()[:2] for line in queue.out.splitlines() if line[:1].isdigit()]
        assert [["1", second], ["2", first]] == places[-2:]
        assert holder in queue.err
        why = await run(url, "why", first, "--json")
        assert f"batch job {holder}" in why.lines[0]["waits_for"][0]
        assert any("of its own lane" in each for each in why.lines[0]["waits_for"])
        assert holder in (await run(url, "top")).out
        late = await run(url, "wait", first, "--timeout", "0")
        assert late.status == 6
        cancelled = await run(url, "cancel", holder, second)
        assert (cancelled.status, cancelled.out.count("cancelled")) == (0, 2)
        target.engine.tokens.open()
        assert (await run(url, "wait", holder, first)).status == 5
        assert (await run(url, "output", second)).status == 5


async def test_a_batch_from_a_file_drains_by_model_and_is_fetched(tmp_path: Path) -> None:
    prompts = "".join(
        json.dumps({"request": {"model": model, "prompt": str(number)}}) + "\n"
        for number in range(15)
        for model in ("small", "big")
    )
    async with (
        upstream(Script(models=MODELS)) as target,
        spawned(tmp_path / "data", target.url) as foreman,
    ):
        url = foreman.url
        options = ("--file", "-", "--generate", "--label", "batch=tonight")
        submitted = await run(url, "submit", *options, stdin=f"{prompts}\n{{}}\n")
        ids = submitted.out
        assert (submitted.status, len(ids.split())) == (1, 30)
        assert "line 32: 400" in submitted.err
        assert "30 accepted; 1 refused" in submitted.err
        assert (await run(url, "wait", "-", stdin=ids)).status == 0
        status = json.loads((await run(url, "status", "--json")).out)
        assert status["queue"]["loads"] == 2
        results = tmp_path / "results"
        fetched = await run(url, "artifacts", "-", "--to", str(results), stdin=ids)
        assert fetched.status == 0
        assert len(list(results.iterdir())) == 30


async def test_watch_wait_and_output_live_through_a_kill_of_the_daemon(tmp_path: Path) -> None:
    listen = f"127.0.0.1:{await free_port()}"
    async with upstream(Script(models=MODELS)) as target:
        async with spawned(tmp_path, target.url, listen=listen) as foreman:
            url = foreman.url
            before = (await run(url, "submit", "big", "x", "--wait")).err.strip()
            job = await busy(url, target)
            target.engine.tokens.release()
            async with (
                following(url, "watch", "--json") as watch,
                following(url, "wait", before, job, "--json") as wait,
                following(url, "output", job) as output,
            ):
                await wait.said(before.encode())
                await output.said(b"I")
                other = (await run(url, "submit", "big", "x")).out.strip()
                await watch.said(other.encode())
                foreman.process.kill()
                await watch.said(b"Waiting for it to come back", on_stderr=True)
                target.engine.tokens.open()
                async with spawned(tmp_path, target.url, listen=listen):
                    assert await wait.process.wait() == 0
                    assert await output.process.wait() == 0
                    await until(lambda: watch.out.count(b'"state":"done"') == 2)
                    assert await watch.interrupted() == 130
                    await watch.said(b"the jobs go on", on_stderr=True)
                await output.said(b"I am big:latest.\n")
                assert b"the answer restarts" in output.err
                assert [json.loads(line)["id"] for line in wait.out.splitlines()] == [before, job]
                assert b"it is back" in watch.err
                seen = [json.loads(line)["seq"] for line in watch.out.splitlines()]
                assert seen == list(range(seen[0], seen[0] + len(seen)))


async def test_a_daemon_that_is_not_there_is_exit_status_3_for_every_command() -> None:
    url = f"http://127.0.0.1:{await free_port()}"
    commands = ("wait X", "watch", "output X", "submit m x", "chat m x", "why X", "webhooks dead")
    with trio.fail_after(PATIENCE):
        for command in commands:
            ran = await run(url, *command.split())
            assert (ran.status, ran.out) == (3, ""), command
