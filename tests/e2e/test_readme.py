"""What the README promises a newcomer, typed as it stands there."""

import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import ollama
import trio

from foreman.embedded.script import ModelScript, Script
from tests.e2e.processes import upstream
from tests.fakes.daemon import spawned

MODELS = tuple(ModelScript(name=name, text=f"I am {name}") for name in ("small:latest", "big:v1"))


async def command(*words: str, url: str = "") -> str:
    """What `foreman WORDS` prints, without a terminal, when it ends with exit code 0."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("FOREMAN_")}
    done = await trio.run_process(
        [sys.executable, "-m", "actors", *words],
        env=plain | ({"FOREMAN_URL": url} if url else {}),
        capture_stdout=True,
        stderr=subprocess.DEVNULL,
    )
    return str(done.stdout.decode())


def streamed(url: str, model: str) -> str:
    """What the unmodified client of the field reads."""
    client = ollama.Client(host=url, trust_env=False)
    with client._client:
        parts = client.chat(model, [{"role": "user", "content": "Who are you?"}], stream=True)
        return "".join(part.message.content or "" for part in parts)


async def test_the_ollama_client_streams_two_models_at_once_and_the_commands_tell_of_it(
    tmp_path: Path,
) -> None:
    said: dict[str, str] = {}

    async def ask(url: str, model: str) -> None:
        said[model] = await trio.to_thread.run_sync(partial(streamed, url, model))

    async with (
        upstream(Script(models=MODELS)) as target,
        spawned(tmp_path, target.url) as foreman,
    ):
        async with trio.open_nursery() as nursery:
            for model in MODELS:
                nursery.start_soon(ask, foreman.url, model.name)
        assert said == {model.name: model.text for model in MODELS}
        assert target.target.oracle.max_running == 1
        status = await command("status", url=foreman.url)
        assert "2 models" in status
        jobs = await command("jobs", url=foreman.url)
        assert jobs.count("done") == len(MODELS)
        config = await command("config", url=foreman.url)
        assert "FOREMAN_OLLAMA_URL" in config
        assert "default" in config
        assert not re.search(r"\x1b\[", status + jobs + config)


async def test_the_demo_ends_by_itself_without_a_terminal_and_spares_loads() -> None:
    with trio.fail_after(60):
        said = await command("demo", "--once")
    assert "\x1b[" not in said
    match = re.search(r"Model loads: (\d+)\. First come, first served would have taken (\d+)", said)
    assert match
    assert int(match[1]) < int(match[2])
    assert len(re.findall(r"^\[[1-5]\] smollm2", said, re.MULTILINE)) == 5
    events = re.findall(r"websocket +job \.\.\.(\w{4}) +job\.(\w+)", said)
    hooks = re.findall(r"webhook +job \.\.\.(\w{4}) +job\.(\w+), signature verified", said)
    assert sorted(events) == sorted(hooks)
    for job in {job for job, _ in events}:
        steps = ["queued", "loading", "working", "done"]
        assert [state for each, state in events if each == job] == steps
        assert [state for each, state in hooks if each == job] == steps
    assert len(events) == 8
