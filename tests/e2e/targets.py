"""The target as a process of its own, which can die and come back under the same address."""

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE
from typing import Any

import httpx
import msgspec
import trio

from foreman.embedded.script import Script


@dataclass(frozen=True, slots=True)
class Target:
    """An embedded target that serves."""

    url: str
    process: trio.Process

    async def stats(self) -> dict[str, Any]:
        """What it saw and did."""
        async with httpx.AsyncClient(base_url=self.url, trust_env=False) as client:
            document: dict[str, Any] = (await client.get("/_embedded/stats")).json()
            return document

    async def die(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        await self.process.wait()


async def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens."""
    with trio.socket.socket() as probe:
        await probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@asynccontextmanager
async def target(folder: Path, script: Script, port: int = 0) -> AsyncGenerator[Target]:
    """Play `script` on `port`; killed at the end of the block. `folder` gets the script's file."""
    file = folder / "script.json"
    await trio.Path(file).write_bytes(msgspec.json.encode(script))
    command = [sys.executable, "-m", "foreman.embedded", "--listen", f"127.0.0.1:{port}"]
    process = await trio.lowlevel.open_process([*command, "--script", str(file)], stdout=PIPE)
    assert process.stdout is not None
    try:
        said = b""
        while not said.endswith(b"\n"):
            more = await process.stdout.receive_some()
            assert more, "the target did not start"
            said += more
        yield Target(said.split()[-1].decode(), process)
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            await process.stdout.aclose()
