"""The installed service as on a machine that just has systemd's part done by somebody else."""

import os
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import ollama
import pytest
import trio

from foreman.embedded.script import ModelScript, Script
from tests.deploy import units
from tests.deploy.stand_in import HANDOVER, ROOT, stand_in
from tests.e2e.processes import audit, chat, raw, reasons, rows, until, upstream
from tests.fakes.daemon import PATIENCE, SMALL, connected

WORDS = "nothing accepted is ever lost"
MODELS = Script(models=(ModelScript(name="small:latest", text=WORDS),))


def said(url: str) -> str:
    """What the unmodified client of the field is answered."""
    client = ollama.Client(host=url, trust_env=False)
    with client._client:
        answer = client.chat("small", [{"role": "user", "content": "Who are you?"}])
        return answer.message.content or ""


async def test_the_units_own_command_serves_ollamas_client_and_a_job_survives_the_power_cut(
    tmp_path: Path,
) -> None:
    """The machine goes down in the middle of a job, comes up, and the job is finished."""
    unit = units.installed(tmp_path / "root", "--socket") / "foreman.service"
    async with (
        upstream(MODELS) as target,
        stand_in(tmp_path, target.url, units.command(unit)) as service,
    ):
        with trio.fail_after(PATIENCE):
            await service.start()
            assert f"STATUS=serving on {service.url}" in service.heard
            assert await trio.to_thread.run_sync(partial(said, service.url)) == WORDS
            target.engine.tokens.close()
            async with connected(service.url) as client:
                job = (await client.post("/jobs", json={"request": chat()})).json()["id"]
                await target.engine.tokens.holds()
                await until(lambda: rows(tmp_path / "data", "batch")[0]["state"] == "working")
                await service.ended_by(signal.SIGKILL)
            target.engine.tokens.open()
            await service.start()
            await until(lambda: rows(tmp_path / "data", "batch")[0]["state"] == "done")
            assert await trio.to_thread.run_sync(partial(said, service.url)) == WORDS
            assert await service.ended_by(signal.SIGTERM) == 0
    assert [step for step in reasons(tmp_path / "data", job) if step != "loading"] == [
        *("queued", "working", "restart", "working", "done")
    ]
    assert audit(tmp_path / "data") == []


async def test_the_inherited_address_is_the_one_that_counts(tmp_path: Path) -> None:
    """FOREMAN_LISTEN speaks of the network, the socket is this machine's: Host is looked at."""
    elsewhere: dict[str, Any] = {"listen": "0.0.0.0:1", "insecure_open": "1"}
    async with (
        upstream(MODELS) as target,
        stand_in(tmp_path, target.url, **elsewhere) as service,
    ):
        await service.start()
        foreign = await raw(service.url, [b"GET /api/tags HTTP/1.0\r\nHost: evil.example\r\n\r\n"])
        assert foreign.startswith(b"HTTP/1.1 403 ")
        assert b"handed over the socket at 127.0.0.1:" in service.log.read_bytes()


def handed(listener: socket.socket, folder: Path, **settings: str) -> subprocess.Popen[str]:
    """`foreman serve` with this socket; its log is a pipe."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("FOREMAN_")}
    wanted = {"listen": "127.0.0.1:1", "data_dir": str(folder), **SMALL, **settings}
    return subprocess.Popen(
        [
            *(sys.executable, HANDOVER, str(listener.fileno())),
            *(sys.executable, "-m", "actors", "serve"),
        ],
        env=plain | {f"FOREMAN_{name.upper()}": str(each) for name, each in wanted.items()},
        pass_fds=[listener.fileno()],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_an_inherited_socket_that_strangers_reach_needs_a_token(tmp_path: Path, host: str) -> None:
    """FOREMAN_LISTEN is harmless; that the socket is not must not slip through."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        listener.bind((host, 0))
        listener.listen()
        with handed(listener, tmp_path / "data") as process:
            _, log = process.communicate(timeout=PATIENCE)
    assert process.returncode == 4
    assert "can be reached from other machines: set FOREMAN_TOKEN" in log
    assert "FOREMAN_LISTEN is overruled by the socket that was handed over" in log
    assert not (tmp_path / "data").exists()


def test_with_a_token_it_is_served(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen()
        with handed(listener, tmp_path / "data", token="me:secret") as process:
            assert process.stderr is not None
            log = ""
            while "serving on" not in log:
                line = process.stderr.readline()
                assert line, log
                log += line
            with socket.create_connection(("127.0.0.1", listener.getsockname()[1])) as client:
                client.sendall(b"GET /queue HTTP/1.0\r\n\r\n")
                assert client.recv(1000).startswith(b"HTTP/1.1 401 ")
            process.terminate()
            process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


def test_what_is_no_listening_socket_is_wrong_settings(tmp_path: Path) -> None:
    with socket.socket() as connected_nowhere:
        with handed(connected_nowhere, tmp_path / "data") as process:
            _, log = process.communicate(timeout=PATIENCE)
    assert process.returncode == 4
    assert "does not listen" in log
