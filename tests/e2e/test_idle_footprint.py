"""What a daemon that idles under its watchers has loaded: memory that is never given back."""

import subprocess
import sys
from pathlib import Path

UNUSED = {"quart", "werkzeug", "sqlite_utils", "httpx", "standardwebhooks"}

PROGRAM = """
import sys
from urllib.request import urlopen

import trio

from actors import system
from foreman.config import load

async def main():
    async with trio.open_nursery() as nursery:
        stop = trio.Event()
        settings = load(listen="127.0.0.1:0", data_dir=sys.argv[1], ballast=4096)
        url = await nursery.start(lambda task_status: system.serve(
            settings, stop=stop, task_status=task_status))
        for path in ("/healthz", "/readyz", "/metrics", "/queue"):
            answer = await trio.to_thread.run_sync(urlopen, url + path)
            assert answer.status == 200 and answer.read(), path
        print(*sys.modules)
        stop.set()

trio.run(main)
"""


def test_an_idle_daemon_loads_no_framework(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "data")]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 0, ran.stderr
    loaded = set(ran.stdout.split())
    assert {"trio", "hypercorn"} <= loaded
    assert sorted(UNUSED & loaded) == []
