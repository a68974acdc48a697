"""`foreman demo`: the daemon on the built-in target, five chats, two jobs, and how they fare."""

import json
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from subprocess import PIPE, Popen

import httpx
import msgspec
import trio
from rich.console import Console
from rich.live import Live

from actors import system
from actors.demo_jobs import Receiver, submit_and_watch
from foreman import logs
from foreman.cli.demo_view import Chat, Lines, Show, answers, facts, screen, try_it
from foreman.config import load
from foreman.jobs import JobId
from foreman.queue_view import QueueView

MODELS = ("smollm2:135m", "smollm2-terse:135m", "smollm2-story:135m")
EMBEDDER = "smollm2-embed:135m"
ARRIVALS = (
    (0, "Why is the sky blue?"),
    (1, "Name three planets."),
    (2, "Tell me about a lighthouse keeper."),
    (0, "What is a queue?"),
    (1, "What is the capital of France?"),
)
SPACING = 0.15  # seconds between two arrivals
TOKENS = 60  # of each answer at most
REFRESH = 0.1  # seconds between looks at the queue
START_LIMIT = 60.0  # seconds for the target's process to say where it listens
STOP_LIMIT = 5.0  # seconds for it to end


def run_demo(*, once: bool) -> int:
    """Show it; stay up afterwards on a terminal unless `once`. Returns the exit code."""
    console = Console()
    logs.configure("error")
    try:
        trio.run(partial(_demo, console, stay=console.is_terminal and not once))
    except _TargetFailed as error:
        print(f"foreman: {error}", file=sys.stderr)
        return 1
    return 0


class _TargetFailed(Exception):
    """The built-in target did not start; what it said is on the terminal."""


async def _demo(console: Console, *, stay: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="foreman-demo-") as directory:
        console.print("Starting the built-in Ollama target (a 135M model, on this machine) ...")
        async with _target() as target, trio.open_nursery() as nursery:
            receiver = Receiver(say=partial(console.print, markup=False, highlight=False))
            await nursery.start(receiver.serve)
            settings = load(
                ollama_url=target,
                listen="127.0.0.1:0",
                data_dir=Path(directory) / "data",
                embed_model=EMBEDDER,
                commit_after="50ms",  # so that each client learns its job id while it waits
                webhook_secret=receiver.secret,
                webhook_allow=receiver.address,
            )
            stop = trio.Event()
            async with trio.open_nursery() as serving:
                url = await serving.start(partial(system.serve, settings, stop=stop))
                asked = enumerate(ARRIVALS, start=1)
                show = Show(url, [Chat(i, MODELS[model], text) for i, (model, text) in asked])
                await _play(console, show)
                console.print()
                await submit_and_watch(url, MODELS[0], receiver)
                if stay:
                    console.print("\nStill serving. Try it from another terminal, Ctrl-C ends it:")
                    console.print(f"  {try_it(url, MODELS[0])}", markup=False, soft_wrap=True)
                else:
                    stop.set()
            nursery.cancel_scope.cancel("the demo is over")


@asynccontextmanager
async def _target() -> AsyncGenerator[str]:
    """The built-in target as a process of its own; yields its URL."""
    command = [sys.executable, "-m", "foreman.embedded", "--engine", "llama"]
    # Popen, not trio's: it ends in a synchronous finally, which no cancellation can interrupt.
    process = Popen(  # noqa: ASYNC220
        [*command, "--listen", "127.0.0.1:0"], stdout=PIPE, text=True
    )
    try:
        yield await _url_of(process)
    finally:
        process.terminate()
        process.wait(STOP_LIMIT)


async def _url_of(process: "Popen[str]") -> str:
    """The URL on the line that the target prints when it serves."""
    assert process.stdout is not None
    line = ""
    with trio.move_on_after(START_LIMIT):
        line = await trio.to_thread.run_sync(process.stdout.readline, abandon_on_cancel=True)
    if "http" not in line:
        raise _TargetFailed("the built-in target did not start; `make demo` installs its parts")
    return line.split()[-1]


async def _play(console: Console, show: Show) -> None:
    """Run the five chats and the embedding, and show them live or line by line."""
    async with httpx.AsyncClient(base_url=show.url, timeout=None) as client:
        if console.is_terminal:
            with Live(screen(show), console=console, refresh_per_second=12) as live:
                await _run(client, show, lambda: live.update(screen(show)))
        else:
            await _run(client, show, Lines(show).print_news)
            print(*facts(show), sep="\n")
    console.print()
    for answer in answers(show):
        console.print(answer, markup=False, highlight=False)


async def _run(client: httpx.AsyncClient, show: Show, draw: Callable[[], None]) -> None:
    began = trio.current_time()
    async with trio.open_nursery() as watching:
        watching.start_soon(_watch, client, show, draw)
        async with trio.open_nursery() as chats:
            chats.start_soon(_embed, client, show)
            for chat in show.chats:
                chats.start_soon(_chat, client, show, chat, began)
                await trio.sleep(SPACING)
        await _look(client, show)
        draw()
        watching.cancel_scope.cancel("all answered")


async def _chat(client: httpx.AsyncClient, show: Show, chat: Chat, began: float) -> None:
    body = {
        "model": chat.model,
        "messages": [{"role": "user", "content": chat.prompt}],
        "options": {"num_predict": TOKENS, "seed": chat.number},
    }
    chat.asked = trio.current_time() - began
    async with client.stream("POST", "/api/chat", json=body) as response:
        chat.job = JobId(response.headers.get("x-foreman-job", ""))
        async for line in response.aiter_lines():
            record = json.loads(line)
            if "error" in record:
                chat.text = record["error"]
            elif piece := record["message"]["content"]:
                chat.first = chat.first or trio.current_time() - began
                chat.text += piece
                chat.tokens += 1
                show.answering.set()
    chat.ended = trio.current_time() - began


async def _embed(client: httpx.AsyncClient, show: Show) -> None:
    """Ask for an embedding as soon as a chat has begun to answer."""
    await show.answering.wait()
    began = trio.current_time()
    response = await client.post("/api/embed", json={"model": EMBEDDER, "input": "a lighthouse"})
    show.embedding.seconds = trio.current_time() - began
    show.embedding.dimensions = len(response.json()["embeddings"][0])
    waiting = sum(chat.tokens == 0 for chat in show.chats)
    show.embedding.during = f"a chat ran and {waiting} waited"


async def _watch(client: httpx.AsyncClient, show: Show, draw: Callable[[], None]) -> None:
    while True:
        await _look(client, show)
        draw()
        await trio.sleep(REFRESH)


async def _look(client: httpx.AsyncClient, show: Show) -> None:
    response = await client.get("/queue")
    show.see(msgspec.json.decode(response.content, type=QueueView))
