"""The unit's sandbox: what systemd makes of it, and that the daemon works inside."""

import ctypes.util
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from foreman.embedded.script import ModelScript, Script
from tests.deploy import units
from tests.deploy.stand_in import stand_in
from tests.e2e.processes import audit, chat, until, upstream
from tests.e2e.receiver import SECRET, receiver
from tests.fakes.daemon import connected

CONFINED = Path(__file__).parent / "confined.py"
WORST = 15  # tenths: `systemd-analyze security` says 1.2, of 9.6 without a sandbox
TASKS = 64

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed here"
)
needs_seccomp = pytest.mark.skipif(
    ctypes.util.find_library("seccomp") is None, reason="libseccomp is not installed here"
)
MODELS = Script(
    models=(ModelScript(name="small:latest", tokens=200), ModelScript(name="embedder:latest"))
)


def analyze(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, check=False)


def threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


@needs_systemd
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    folder = units.installed(tmp_path, "--socket")
    for name in ("foreman.service", "foreman.socket"):
        found = analyze("verify", "--man=no", folder / name)
        assert (found.returncode, found.stderr) == (0, "")


@needs_systemd
def test_systemd_finds_nothing_wrong_with_the_units_of_a_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    folder = units.installed(tmp_path, "--user", "--socket")
    for name in ("foreman.service", "foreman.socket"):
        found = analyze("verify", "--user", "--man=no", folder / name)
        assert (found.returncode, found.stderr) == (0, "")


@needs_systemd
def test_systemd_calls_the_service_little_exposed(tmp_path: Path) -> None:
    unit = units.installed(tmp_path) / "foreman.service"
    found = analyze("security", "--offline=true", f"--threshold={WORST}", "--no-pager", unit)
    assert found.returncode == 0, found.stdout


@needs_systemd
@needs_seccomp
async def test_the_daemon_does_all_its_work_inside_the_sandbox(tmp_path: Path) -> None:
    """A system call that the unit forbids would kill it; so would memory both written and run."""
    unit = units.installed(tmp_path / "root") / "foreman.service"
    calls = tmp_path / "calls"
    calls.write_text("\n".join(units.allowed_calls(unit)), encoding="utf-8")
    command = [sys.executable, str(CONFINED), str(calls), *units.command(unit)]
    settings: dict[str, Any] = {
        "embed_model": "embedder",
        "inline_result": "1",  # a result is a file then
        "webhook_secret": SECRET,
        "webhook_allow": "127.0.0.0/8",
    }
    async with upstream(MODELS) as target, receiver() as hook:
        url = target.url.replace("127.0.0.1", "localhost")  # looked up, in a thread
        async with stand_in(tmp_path, url, command, **settings) as service:
            await service.start()
            assert service.process is not None
            async with connected(service.url) as client:
                assert '"done":true' in (await client.post("/api/chat", json=chat())).text
                embedding = {"model": "embedder", "input": "x"}
                assert (await client.post("/api/embed", json=embedding)).status_code == 200
                order = {"request": chat(), "webhook": {"url": hook.url}}
                job = (await client.post("/jobs", json=order)).json()["id"]
                done = await client.get(f"/jobs/{job}/wait", params={"timeout": "20"})
                assert done.json()["state"] == "done", done.text
                listed = (await client.get(f"/jobs/{job}/artifacts")).json()
                assert listed
                for path in ("/metrics", "/api/tags", "/queue", "/healthz", "/openapi.json"):
                    assert (await client.get(path)).status_code == 200
                await until(lambda: bool(hook.messages))
                assert threads(service.process.pid) < TASKS / 2
            assert await service.ended_by(signal.SIGTERM) == 0, service.log.read_text()
    assert audit(tmp_path / "data") == []


@needs_systemd
@needs_seccomp
@pytest.mark.parametrize("forbidden", ["os.setpriority(0, 0, 0)", "os.setuid(os.getuid())"])
def test_the_confinement_of_these_tests_confines(tmp_path: Path, forbidden: str) -> None:
    unit = units.installed(tmp_path / "root") / "foreman.service"
    calls = tmp_path / "calls"
    calls.write_text("\n".join(units.allowed_calls(unit)), encoding="utf-8")
    program = f"import os; {forbidden}"
    done = subprocess.run(
        [sys.executable, CONFINED, calls, sys.executable, "-c", program],
        env=os.environ,
        check=False,
    )
    assert done.returncode == -signal.SIGSYS
