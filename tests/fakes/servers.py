"""Servers in threads of their own, for what asks without an event loop."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import PIPE
from typing import Any

import trio

from foreman.embedded import server
from foreman.embedded.app import EmbeddedTarget
from foreman.embedded.engine import Engine
from foreman.embedded.script import Script
from foreman.embedded.scripted import ScriptedEngine
from tests.fakes.daemon import SMALL


@contextmanager
def serving(
    script: Script | None = None, *, max_loaded: int = 3, engine: Engine | None = None
) -> Iterator[tuple[str, EmbeddedTarget]]:
    """The embedded target, at the URL that comes with it."""
    target = EmbeddedTarget(engine or ScriptedEngine(script), max_loaded=max_loaded)
    started, found = threading.Event(), dict[str, Any]()

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            found["url"] = await nursery.start(server.serve, target)
            found["scope"] = nursery.cancel_scope
            found["token"] = trio.lowlevel.current_trio_token()
            started.set()

    thread = threading.Thread(target=trio.run, args=(run,), daemon=True)
    thread.start()
    assert started.wait(10)
    try:
        yield found["url"], target
    finally:
        found["token"].run_sync_soon(found["scope"].cancel)
        thread.join()


@contextmanager
def canned(answers: Mapping[str, tuple[int, bytes]]) -> Iterator[str]:
    """A server at this URL that says the same on each path, and 404 on all the others."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers.get(self.path, (404, b"404 page not found"))
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()
        thread.join()


@contextmanager
def daemon_process(folder: Path, target_url: str, **variables: str) -> Iterator[str]:
    """`foreman serve` in a process of its own, at this URL; killed at the end of the block.

    `variables` are settings as they stand in the environment, without their prefix.
    """
    plain = {name: value for name, value in os.environ.items() if not name.startswith("FOREMAN_")}
    wanted = {
        "OLLAMA_URL": target_url,
        "LISTEN": "127.0.0.1:0",
        "DATA_DIR": str(folder),
        **{name.upper(): str(value) for name, value in SMALL.items()},
        **variables,
    }
    environment = plain | {f"FOREMAN_{name}": value for name, value in wanted.items()}
    command = [sys.executable, "-m", "actors", "serve"]
    with subprocess.Popen(command, env=environment, stderr=PIPE) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if found := re.search(rb"serving on (http://[0-9.:]+)", line):
                    break
            else:
                raise AssertionError("the daemon did not start")
            drain = threading.Thread(target=process.stderr.read)  # a full pipe would stop it
            drain.start()
            yield found[1].decode()
        finally:
            process.kill()
        drain.join()
