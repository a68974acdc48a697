"""`python -m foreman.embedded`: the embedded target as a process of its own."""

import argparse
import sys
from functools import partial
from pathlib import Path

import msgspec
import trio

from foreman.embedded import script
from foreman.embedded.app import EmbeddedTarget
from foreman.embedded.engine import Engine, EngineError
from foreman.embedded.scripted import ScriptedEngine
from foreman.embedded.server import serve


def main(arguments: list[str] | None = None) -> None:
    """Serve until interrupted. The first line on stdout tells the URL."""
    parsed = _parser().parse_args(arguments)
    host, _, port = parsed.listen.rpartition(":")
    try:
        engine = _engine(parsed)
    except (OSError, EngineError, msgspec.MsgspecError) as error:
        sys.exit(f"foreman.embedded: {error}")
    try:
        trio.run(partial(_run, engine, host.strip("[]"), int(port), parsed))
    except* OSError as group:
        sys.exit(f"foreman.embedded: {parsed.listen}: {group.exceptions[0]}")
    except* KeyboardInterrupt:
        pass


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("foreman.embedded", description=__doc__)
    parser.add_argument("--engine", choices=("scripted", "llama"), default="scripted")
    parser.add_argument("--listen", default="127.0.0.1:11434", help="address:port; port 0: any")
    parser.add_argument("--script", type=Path, help="JSON or TOML, for the scripted engine")
    parser.add_argument("--max-loaded", type=int, default=3, help="models loaded at a time")
    parser.add_argument("--max-queue", type=int, default=512, help="requests waiting for a load")
    parser.add_argument("--threads", type=int, default=0, help="of the llama engine; 0: all cores")
    return parser


def _engine(parsed: argparse.Namespace) -> Engine:
    if parsed.engine == "scripted":
        return ScriptedEngine(script.load(parsed.script) if parsed.script else None)
    from foreman.embedded.llama import (
        LlamaEngine,  # imports a hundred megabytes of library
    )

    return LlamaEngine(threads=parsed.threads)


async def _run(engine: Engine, host: str, port: int, parsed: argparse.Namespace) -> None:
    target = EmbeddedTarget(engine, max_loaded=parsed.max_loaded, max_queue=parsed.max_queue)
    async with trio.open_nursery() as nursery:
        url = await nursery.start(serve, target, host, port)
        print(f"listening on {url}", flush=True)


if __name__ == "__main__":
    main()
