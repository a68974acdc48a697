import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from foreman.cli.app import app


@dataclass
class FakeDaemon:
    """Answers with what a test puts into `answers`, and remembers what it was asked."""

    url: str = ""
    answers: dict[str, tuple[int, bytes]] = field(default_factory=dict[str, tuple[int, bytes]])
    asked: list[tuple[str, str | None]] = field(default_factory=list[tuple[str, str | None]])

    def says(self, path: str, document: Any, status: int = 200) -> None:
        self.answers[path] = (status, json.dumps(document).encode())


@dataclass
class Ran:
    status: int
    out: str
    err: str


class Command:
    """Runs `foreman` with these arguments, as a pipe would see it."""

    def __call__(self, *arguments: str) -> Ran:
        result = CliRunner().invoke(app, list(arguments), prog_name="foreman")
        return Ran(result.exit_code, result.stdout, result.stderr)


@pytest.fixture(name="foreman")
def _foreman(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    monkeypatch.chdir(tmp_path)
    for key in [key for key in os.environ if key.upper().startswith("FOREMAN_")]:
        monkeypatch.delenv(key)
    return Command()


@pytest.fixture(name="daemon")
def _daemon(foreman: Command, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    fake = FakeDaemon()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            fake.asked.append((self.path, self.headers["authorization"]))
            status, body = fake.answers[self.path.partition("?")[0]]
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        fake.url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("FOREMAN_URL", fake.url)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield fake
        server.shutdown()
        thread.join()
