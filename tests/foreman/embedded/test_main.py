"""The target as a process of its own."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import trio

from foreman.embedded.__main__ import main

COMMAND = [sys.executable, "-m", "foreman.embedded", "--listen", "127.0.0.1:0"]


async def test_it_says_where_it_listens_and_ends_on_an_interrupt(tmp_path: Path) -> None:
    script = tmp_path / "script.toml"
    script.write_text('[[models]]\nname = "m"\ntext = "hello"\n')
    with trio.fail_after(20):
        process = await trio.lowlevel.open_process(
            [*COMMAND, "--script", str(script)], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        line = bytes(await process.stdout.receive_some()).decode()
        assert line.startswith("listening on http://127.0.0.1:")
        async with httpx.AsyncClient(base_url=line.split()[-1]) as client:
            answer = await client.post(
                "/api/generate", json={"model": "m", "prompt": "x", "stream": False}
            )
        assert answer.json()["response"] == "hello"
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0
        await process.stdout.aclose()


def test_a_wrong_script_ends_it_with_the_place(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text('{"models": [{"nam": "m"}]}')
    with pytest.raises(SystemExit, match=r"foreman\.embedded: .*\$\.models\[0\]"):
        main(["--script", str(script)])


def test_a_port_that_is_taken_ends_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(SystemExit, match=f"{listen}: .*in use"):
            main(["--listen", listen])
