import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import foreman.cli
from foreman import __version__
from foreman.cli.exits import MEANINGS, Exit


def test_the_version_is_shown(foreman: Any) -> None:
    assert foreman("--version").out == f"foreman {__version__}\n"


def test_the_help_documents_every_exit_status(foreman: Any) -> None:
    assert MEANINGS.keys() == set(Exit)
    text = " ".join(foreman("--help").out.split())
    assert all(f"{status:d} {meaning}" in text for status, meaning in MEANINGS.items())


def test_listing_jobs_imports_no_server(daemon: Any) -> None:
    daemon.says("/jobs", {"jobs": []})
    program = (
        "import sys; from foreman.cli.app import app; app(['jobs'], standalone_mode=False);"
        "print(*sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in ran.stdout.split()}
    assert not loaded & {"quart", "hypercorn", "trio", "httpcore", "structlog", "rich", "actors"}


WHOLE = {"bench_report", "bench_target", "config", "data", "demo_view", "doctor"}
"""They look at the settings, the data or the target, or draw: they load what they are about."""


def test_a_command_that_asks_the_daemon_loads_no_servers_library() -> None:
    folder = Path(foreman.cli.__file__).parent
    names = {path.stem for path in folder.glob("*.py")} - WHOLE - {"__init__"}
    program = "".join(f"import foreman.cli.{name}\n" for name in sorted(names))
    program += "import sys; print(*sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    slow = {"quart", "hypercorn", "trio", "httpx", "httpcore", "pydantic", "rich", "structlog"}
    assert not slow.intersection(ran.stdout.split())


@pytest.mark.parametrize("columns", [60, 200])
def test_on_a_terminal_there_are_colours_and_ids_stay_whole(daemon: Any, columns: int) -> None:
    job = {
        "id": "01JD0A000000000000000000AA",
        "state": "failed",
        "class": "interactive",
        "model": "[red]/x:y",
        "attempt": 1,
        "created_at": "2020-01-01T00:00:00Z",
        "error": {"code": "garbled", "message": "what came is not what the route promises " * 4},
    }
    daemon.says("/jobs", {"jobs": [job]})
    text = on_terminal("jobs", columns=columns)
    assert "\x1b[31mfailed" in text
    assert "01JD0A000000000000000000AA" in text
    assert "[red]/x:y" in text
    assert text.count("promises") == 4


def on_terminal(*arguments: str, columns: int) -> str:
    """What the command writes to a terminal that wide."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"COLUMNS": str(columns), "TERM": "xterm-256color", "NO_COLOR": ""}
    program = "import sys; from foreman.cli.app import app; app(sys.argv[1:])"
    command = [sys.executable, "-c", program, *arguments]
    with subprocess.Popen(command, stdout=theirs, env=environment) as process:
        os.close(theirs)
        text = b"".join(iter(lambda: read(ours), b""))
    os.close(ours)
    assert process.returncode == 0
    return text.decode()


def read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says EIO when the other end has gone
        return b""
