"""A durable job's answer on its way to where it stays: a row, a file, and who follows it live."""

import errno
import os
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.slot import FILE_PAUSE
from foreman import tables
from foreman.artifacts import RealDisk
from foreman.errors import TargetLost
from foreman.jobs import JobId
from foreman.live_output import Abandoned, LiveOutput, RunId
from foreman.rows import Artifact
from tests.fakes.target import DONE, JSON, TOKEN, FakeTarget, Says
from tests.fakes.worker import Shop, working

BODY = TOKEN + DONE
NO_ROOM = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def file(folder: Path, job: JobId) -> Path:
    return folder / "artifacts" / job[-2:] / f"{job}.1"


def artifact(shop: Shop, job: JobId) -> Artifact:
    [found] = shop.ask(lambda db: tables.artifacts_of(db, job))
    assert isinstance(found, Artifact)
    return found


def results(shop: Shop) -> int:
    [(count,)] = shop.ask(lambda db: db.execute("SELECT count(*) FROM results").fetchall())
    return int(count)


@pytest.mark.parametrize("limit", [len(BODY), len(BODY) - 1])
async def test_an_answer_beyond_the_limit_becomes_a_file(
    autojump_clock: MockClock, tmp_path: Path, limit: int
) -> None:
    async with working(tmp_path, FakeTarget(), inline_result=limit) as shop:
        job = await shop.submit()
        await wait_all_tasks_blocked()
        small = limit == len(BODY)
        assert (artifact(shop, job).size, artifact(shop, job).inline) == (len(BODY), small)
        assert results(shop) == small
        assert file(tmp_path, job).exists() == (not small)
        if not small:
            assert file(tmp_path, job).read_bytes() == BODY


class WatchfulDisk(RealDisk):
    """Notes what the job's row said when its file was safe."""

    def __init__(self) -> None:
        self.shop: Shop | None = None
        self.seen = list[str]()

    def sync_directory(self, path: Path) -> None:
        super().sync_directory(path)
        if self.shop is not None:
            [(state,)] = self.shop.ask(lambda db: db.execute("SELECT state FROM jobs").fetchall())
            self.seen.append(state)


async def test_the_file_is_on_disk_before_the_row_speaks_of_it(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    disk = WatchfulDisk()
    async with working(tmp_path, FakeTarget(), disk=disk, inline_result=0) as shop:
        disk.shop = shop
        job = await shop.submit()
        await wait_all_tasks_blocked()
        assert shop.row(job).state == "done"
    assert set(disk.seen) == {"working"}


class FillingDisk(RealDisk):
    """Full while `full`."""

    full = True

    def create(self, path: Path) -> int:
        if self.full:
            raise NO_ROOM
        return super().create(path)


async def test_a_job_whose_answer_has_no_room_goes_back_and_is_answered_when_there_is(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    disk = FillingDisk()
    async with working(tmp_path, FakeTarget(), disk=disk, inline_result=0) as shop:
        job = await shop.submit()
        await wait_all_tasks_blocked()
        row = shop.row(job)
        assert (row.state, row.attempt) == ("queued", 1)
        assert (await shop.view()).running is None
        disk.full = False
        await trio.sleep(FILE_PAUSE + 10)
        assert shop.row(job).state == "done"
        assert file(tmp_path, job).read_bytes() == BODY


# ---------------------------------------------------------------- who follows it


async def running(shop: Shop, job: JobId, run: RunId) -> LiveOutput:
    """The output of this run, once it goes on and the target has begun to speak."""
    output = None
    with trio.fail_after(1000):
        while output is None:
            await trio.sleep(1)
            output = shop.live.of(job, run)
    return output


async def following(output: LiveOutput) -> tuple[bytes, bool]:
    """All that a reader gets, and whether he may believe it."""
    got = b""
    try:
        with trio.fail_after(1000):
            while piece := await output.more(len(got)):
                got += piece
    except Abandoned:
        return got, False
    return got, True


async def test_an_answer_is_complete_for_its_readers_when_its_row_says_so(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    target = FakeTarget()
    target.plays("/api/chat", Says([TOKEN, 5, DONE]))
    async with working(tmp_path, target) as shop:
        job = await shop.submit(stream=True)
        output = await running(shop, job, RunId(1, 2))
        assert await output.more(0) == TOKEN
        assert await following(output) == (BODY, True)
        assert shop.row(job).state == "done"
        assert shop.live.of(job, RunId(1, 2)) is None


@pytest.mark.parametrize(
    "end", [TargetLost("gone"), b'{"error":"the runner died"}\n', b'{"truncated']
)
async def test_readers_of_a_run_that_fails_are_told_and_the_next_run_is_another(
    autojump_clock: MockClock, tmp_path: Path, end: bytes | Exception
) -> None:
    target = FakeTarget()
    target.plays("/api/chat", Says([TOKEN, 5, end]), Says([TOKEN, 5, DONE]))
    async with working(tmp_path, target) as shop:
        job = await shop.submit(stream=True)
        output = await running(shop, job, RunId(1, 2))
        got, complete = await following(output)
        assert got.startswith(TOKEN)
        assert not complete
        again = await running(shop, job, RunId(2, 5))
        assert await following(again) == (BODY, True)


async def test_the_words_of_a_refusal_are_no_output(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    target = FakeTarget()
    refusal = Says([5, b'{"error":"no"}', 5], status=404, content_type=JSON)
    target.plays("/api/chat", refusal)
    async with working(tmp_path, target) as shop:
        job = await shop.submit(stream=True)
        output = await running(shop, job, RunId(1, 2))
        assert await following(output) == (b"", False)
        assert shop.row(job).error_code == "target_refused"


async def test_readers_of_the_running_job_are_let_go_when_the_worker_stops(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    target = FakeTarget()
    target.plays("/api/chat", Says([TOKEN, 500, DONE]))
    async with working(tmp_path, target) as shop:
        job = await shop.submit(stream=True)
        output = await running(shop, job, RunId(1, 2))
    assert await following(output) == (TOKEN, False)
