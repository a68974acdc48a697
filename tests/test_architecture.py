"""What the import contracts cannot say about the source."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("actors", "foreman")

CONCURRENT = ("foreman/client/", "foreman/embedded/", "foreman/llm/")
"""Parts of foreman/ that run on their own, without actors."""
OPENS = {
    "TaskGroup",
    "create_task",
    "create_task_group",
    "open_memory_channel",
    "open_nursery",
    "serve_listeners",
    "spawn_system_task",
    "start_soon",
}

LONG = {
    "actors/connection.py": "everything that can happen on a connection, and its deadlines",
    "actors/system.py": "the whole wiring on one page",
    "actors/worker.py": "the loop, its state, and what each message does to it",
    "foreman/api/openapi.py": "one table of what is to be said of each route",
    "foreman/attempt.py": "one attempt, every way it can end, and what each end means",
    "foreman/config.py": "every setting, with its documentation beside it",
    "foreman/embedded/llama.py": "one library's every peculiarity, in one place",
    "foreman/transitions.py": "every change a job can undergo, and the one way to write it",
    "foreman/outbox.py": "a message's life, from the commit that caused it to its end or replay",
}
"""Files above the limit, and why they are better whole."""
LIMIT = 300

SLOW_TO_IMPORT = {"httpcore", "httpx", "hypercorn", "pydantic", "quart", "rich", "trio"}


def sources() -> Iterator[tuple[str, Path]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), path


def calls(path: Path) -> Iterator[str]:
    """The last part of the name of everything that is called in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name)):
                yield name
            case ast.Call(func=ast.Subscript(value=ast.Attribute(attr=name) | ast.Name(id=name))):
                yield name  # as in open_memory_channel[int](1)


def test_foreman_opens_no_nursery_channel_or_task_of_its_own() -> None:
    opened = {
        name: found
        for name, path in sources()
        if name.startswith("foreman/") and not name.startswith(CONCURRENT)
        if (found := OPENS.intersection(calls(path)))
    }
    assert not opened


def test_the_check_for_nurseries_sees_every_way_of_writing_one(tmp_path: Path) -> None:
    source = tmp_path / "source.py"
    source.write_text("trio.open_nursery()\nopen_memory_channel[int](1)\nnursery.start_soon(f)\n")
    assert set(calls(source)) == {"open_nursery", "open_memory_channel", "start_soon"}


@pytest.mark.parametrize("module", ["actors.__main__", "foreman.cli.app"])
def test_a_command_starts_without_the_servers_libraries(module: str) -> None:
    program = f"import sys, {module}; print(*sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert not SLOW_TO_IMPORT.intersection(ran.stdout.split())


NOTHING_TO_TRACE = """
import sys, trio
from pathlib import Path
from actors import system
from foreman.config import Address, Settings

async def main():
    stop = trio.Event()
    listen = Address("127.0.0.1", 0)
    settings = Settings(data_dir=Path(sys.argv[1]), listen=listen, ballast=4096, min_free_disk=1)
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: system.serve(
            settings, stop=stop, task_status=task_status))
        stop.set()

trio.run(main)
print(*sys.modules)
"""


def test_a_daemon_that_does_not_trace_has_nothing_of_opentelemetrys(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", NOTHING_TO_TRACE, tmp_path],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    loaded = ran.stdout.split()
    assert "actors.worker" in loaded
    ours = {"actors.traces", "foreman.otlp", "foreman.recording"}
    assert not [each for each in loaded if each in ours or each.startswith(("opentel", "google"))]


def test_a_file_is_short_or_has_a_reason() -> None:
    long = {name for name, path in sources() if len(path.read_text().splitlines()) > LIMIT}
    assert long <= set(LONG)
