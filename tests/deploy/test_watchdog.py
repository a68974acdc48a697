"""A daemon whose disk hangs: its signs of life stop, it is killed, and the next one goes on."""

import signal
import sys
from pathlib import Path

import trio

from foreman.embedded.script import ModelScript, Script
from tests.deploy.stand_in import stand_in
from tests.e2e.processes import audit, chat, reasons, rows, until, upstream
from tests.fakes.daemon import PATIENCE, connected

MODELS = Script(models=(ModelScript(name="small:latest"),))
PERIOD = 3.0  # seconds; a store that works is asked every second


async def test_a_hanging_disk_starves_the_watchdog_and_the_job_survives_the_restart(
    tmp_path: Path,
) -> None:
    hang = tmp_path / "hang"
    command = [sys.executable, "-m", "tests.deploy.hanging", str(hang)]
    async with (
        upstream(MODELS) as target,
        stand_in(tmp_path, target.url, command, watchdog=PERIOD) as service,
    ):
        target.engine.tokens.close()
        with trio.fail_after(2 * PATIENCE):
            await service.start()
            await service.hears(lambda: service.heard.count("WATCHDOG=1") >= 2)
            async with connected(service.url) as client:
                job = (await client.post("/jobs", json={"request": chat()})).json()["id"]
                await target.engine.tokens.holds()
                hang.touch()
                assert await service.watch(PERIOD) == -signal.SIGABRT
            assert not hang.exists()  # it was met
            log = service.log.read_text()
            assert "the store has not answered for 1 s" in log
            assert "Fatal Python error: Aborted" in log
            assert "hanging.py" in log  # where each of its threads stood
            target.engine.tokens.open()
            await service.start()
            await until(
                lambda: [row["state"] for row in rows(tmp_path / "data", "batch")] == ["done"]
            )
            await service.hears(lambda: "WATCHDOG=1" in service.heard)
            assert await service.ended_by(signal.SIGTERM) == 0
    assert reasons(tmp_path / "data", job).count("restart") == 1
    assert audit(tmp_path / "data") == []
