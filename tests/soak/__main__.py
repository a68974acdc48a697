"""`python -m tests.soak`: a daemon under a mixed load for hours; what grows?

Memory, descriptors, threads, the database and the files of results are looked at all the time. The
target is put to sleep now and then. Ends with 1 if something grew, or if work failed.
"""

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path

import trio

from tests.bench.processes import ROOT, Server, daemon, fast_target, receiver
from tests.soak.clients import Load
from tests.soak.samples import QUANTITIES, Growth, Sample, growth, look

HOUR = 3600.0
SAMPLES = 360  # of a run
KEPT = 1 / 20  # of a run is the age at which retention deletes: much comes and goes
SLEEPS = 12  # times in a run that the target is put to sleep
ASLEEP = 1 / 200  # of a run that such a sleep takes
PACE = 0.25  # seconds between two things that a client does
TOLERATED = 0.001  # of what was tried may fail: an edge may hang up on somebody at any moment


def main(arguments: list[str] | None = None) -> int:
    """Run, show, judge: the exit status."""
    parser = argparse.ArgumentParser("tests.soak", description=__doc__)
    parser.add_argument("--hours", type=float, default=1.0, help="how long")
    parser.add_argument("--pace", type=float, default=PACE, help="seconds between a client's deeds")
    parsed = parser.parse_args(arguments)
    (ROOT / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as folder:
        samples, load = _run(Path(folder), parsed.hours * HOUR, parsed.pace)
    grown = [growth(each, samples) for each in QUANTITIES]
    failures = _show(grown, load, samples[-1].at)
    return int(failures or not all(each.flat for each in grown))


def _run(folder: Path, seconds: float, pace: float) -> tuple[list[Sample], Load]:
    with (
        fast_target(None) as target,
        receiver(None) as there,
        daemon(
            folder,
            target,
            retention=f"{max(1.0, seconds * KEPT)}s",
            webhook_allow=f"127.0.0.1:{there.port}",
            embed_model="embedder",
            ballast=4096,
            min_free_disk=1,
        ) as server,
    ):
        server.wait("/readyz")
        load = Load(f"http://127.0.0.1:{server.port}", f"http://127.0.0.1:{there.port}", pace)
        samples = trio.run(_soak, server, target, folder, seconds, load)
    if server.process.returncode:
        raise RuntimeError(f"the daemon ended with {server.process.returncode}")
    return samples, load


async def _soak(
    server: Server, target: Server, folder: Path, seconds: float, load: Load
) -> list[Sample]:
    began, samples = trio.current_time(), list[Sample]()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(load.run)
        nursery.start_soon(_put_to_sleep, target, seconds)
        while (at := trio.current_time() - began) < seconds:
            samples.append(look(server.process.pid, folder, at))
            _tell(samples[-1], load)
            await trio.sleep(seconds / SAMPLES)
        nursery.cancel_scope.cancel("the time is over")
    return samples


async def _put_to_sleep(target: Server, seconds: float) -> None:
    """A machine that sleeps answers nothing, and goes on where it was."""
    while True:
        await trio.sleep(seconds * (1 / SLEEPS - ASLEEP))
        target.process.send_signal(signal.SIGSTOP)
        try:
            await trio.sleep(seconds * ASLEEP)
        finally:
            target.process.send_signal(signal.SIGCONT)


def _tell(sample: Sample, load: Load) -> None:
    if os.isatty(sys.stdout.fileno()):
        done = sum(load.done.values())
        line = f"{sample.at:7.0f} s  {done:,} done  {sample.memory / 1e6:.0f} MB"
        print(
            f"{line}  {sample.descriptors} descriptors  {sample.database / 1e6:.1f} MB database  ",
            end="\r",
            flush=True,
        )


def _show(grown: list[Growth], load: Load, seconds: float) -> int:
    """Print what was found; whether too much failed."""
    print(f"{'':14}{'middle':>12}{'grown':>12}{'allowed':>12}{'a day':>12}")
    for each in grown:
        scale, name = each.quantity.scale, f"{each.quantity.name} {each.quantity.unit}".strip()
        values = (each.middle, each.grown, each.allowed, each.a_day)
        shown = "".join(f"{value / scale:12.2f}" for value in values)
        print(f"{name:14}{shown}  {'flat' if each.flat else 'GROWN'}")
    done, failed = sum(load.done.values()), sum(load.failed.values())
    print(f"in {seconds / 60:.1f} min {done:,} things done ({dict(load.done)}),")
    print(f"{failed} not done {dict(load.failed)}")
    return failed > max(1, TOLERATED * (done + failed))


if __name__ == "__main__":
    sys.exit(main())
