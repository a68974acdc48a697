import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from foreman.cli.app import app
from tests.foreman.cli.scripted import Asked, FakeDaemon, Reply


@dataclass
class Ran:
    status: int
    out: str
    err: str


class Command:
    """Runs `foreman` with these arguments, as a pipe would see it."""

    def __call__(self, *arguments: str, stdin: str = "") -> Ran:
        result = CliRunner().invoke(app, list(arguments), prog_name="foreman", input=stdin)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ran(result.exit_code, result.stdout, result.stderr)


@pytest.fixture(name="foreman")
def _foreman(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("foreman.cli.outage.FIRST_PAUSE", 0.0)  # seconds between attempts
    for key in [key for key in os.environ if key.upper().startswith("FOREMAN_")]:
        monkeypatch.delenv(key)
    return Command()


@pytest.fixture(name="daemon")
def _daemon(foreman: Command, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    fake = FakeDaemon()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"] or 0))
            fake.asked.append((self.path, self.headers["authorization"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            fake.requests.append(Asked(self.command, self.path, headers, body))
            with suppress(ConnectionError):  # a command may have heard enough
                self.answer(fake.next_reply(self.command, self.path))

        do_POST = do_DELETE = do_GET  # noqa: N815  the server looks for these names

        def answer(self, reply: Reply) -> None:
            if reply.after:
                reply.after.wait()
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for piece in reply.pieces:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            if reply.cut:
                self.close_connection = True
            else:
                self.wfile.write(b"0\r\n\r\n")

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
