"""How a durable job ends without an answer: cancelled, expired, damaged; in virtual time."""

from functools import partial
from pathlib import Path

import pytest
import trio
from msgspec import structs
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.mailbox import write
from foreman import tables
from foreman.batch_lanes import RECONCILE
from foreman.encoding import checksum, stored
from foreman.errors import StaleJob, StoreError
from foreman.jobs import JobId
from tests.fakes.target import CHAT, DONE, TOKEN, FakeTarget, Says
from tests.fakes.worker import EPOCH, Shop, working

LONG = Says([TOKEN, 15, DONE])


async def ended(shop: Shop, job: JobId) -> tuple[str, str | None, str | None]:
    """Its state and error, once there is nothing left to do."""
    await trio.sleep(60)
    row = shop.row(job)
    return row.state, row.error_code, row.error_message


async def cancel_as_the_ingress_does(shop: Shop, job: JobId) -> None:
    """What it claims between the two questions has become the worker's."""
    while not await shop.cancel(job):
        try:
            await write(shop.writes, partial(tables.cancel, job=job))
        except StaleJob:
            continue
        return


async def test_cancelling_the_running_job_ends_its_request_at_the_target(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    target = FakeTarget()
    target.plays("/api/chat", LONG, CHAT)
    async with working(tmp_path, target) as shop:
        job, following = await shop.submit(), await shop.submit()
        await trio.sleep(1)
        assert target.running == 1
        assert await shop.cancel(job)
        await wait_all_tasks_blocked()
        assert target.running == 0
        assert await ended(shop, job) == ("failed", "cancelled", "cancelled on request")
        assert shop.row(following).state == "done"


async def test_a_job_that_waits_in_the_table_is_not_the_workers_to_cancel(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    target = FakeTarget()
    target.plays("/api/chat", LONG)
    async with working(tmp_path, target) as shop:
        await shop.submit()
        waiting = await shop.submit()
        await trio.sleep(1)
        assert not await shop.cancel(waiting)
        await write(shop.writes, partial(tables.cancel, job=waiting))
        assert await ended(shop, waiting) == ("failed", "cancelled", "cancelled on request")
    assert len(target.asked("/api/chat")) == 1


async def test_a_waiting_client_is_told_that_its_call_was_cancelled(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    target = FakeTarget()
    target.plays("/api/chat", LONG)
    async with working(tmp_path, target) as shop:
        first, second = await shop.call(), await shop.call()
        assert await shop.cancel(second.job)
        [refusal] = await second.read()
        assert getattr(refusal, "text", "") == "cancelled on request"
        assert shop.row(second.job).error_code == "cancelled"
        await first.read()


@pytest.mark.parametrize("up", [True, False])
@pytest.mark.parametrize("steps", range(0, 60, 3))
async def test_cancelled_at_any_moment_a_job_ends_once_and_is_not_tried_again(
    autojump_clock: MockClock, tmp_path: Path, steps: int, *, up: bool
) -> None:
    target = FakeTarget()
    target.up = up
    async with working(tmp_path, target) as shop:
        job = await shop.submit()
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        await cancel_as_the_ingress_does(shop, job)
        await wait_all_tasks_blocked()
        target.up = True
        state, code, _ = await ended(shop, job)
        assert (state, code) == ("failed", "cancelled") or (up and state == "done")
        assert [*shop.history(job)].count(state) == 1
        other = await shop.submit()
        assert (await ended(shop, other))[0] == "done"


async def test_a_job_cancelled_on_its_way_back_to_the_queue_does_not_come_again(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    target = FakeTarget()
    target.up = False
    async with working(tmp_path, target) as shop:
        job = await shop.submit()
        await trio.sleep(1)
        await cancel_as_the_ingress_does(shop, job)
        target.up = True
        assert (await ended(shop, job))[:2] == ("failed", "cancelled")
    assert target.asked("/api/chat") == []


async def test_a_job_expires_in_the_queue_soon_after_its_time(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    target = FakeTarget()
    target.plays("/api/chat", Says([TOKEN, 15, TOKEN, 15, DONE]))
    async with working(tmp_path, target) as shop:
        await shop.submit()
        await trio.sleep(1)
        job = await shop.store(expires_at=10)
        await trio.sleep_until(10 + 2 * RECONCILE)
        row = shop.row(job)
        assert (row.state, row.error_code) == ("failed", "expired")
        assert row.finished_at is not None
        assert 10e6 <= row.finished_at - EPOCH <= (10 + 1.3 * RECONCILE) * 1e6


async def test_a_job_whose_time_is_over_is_not_started(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    target = FakeTarget()
    async with working(tmp_path, target) as shop:
        job = await shop.submit(expires_at=0.0)
        assert (await ended(shop, job))[:2] == ("failed", "expired")
    assert target.asked("/api/chat") == []


async def test_a_job_that_starts_in_time_is_not_stopped(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    target = FakeTarget()
    target.plays("/api/chat", LONG)
    async with working(tmp_path, target) as shop:
        job = await shop.submit(expires_at=5.0)
        assert (await ended(shop, job))[0] == "done"


async def test_a_clock_that_is_set_back_keeps_no_job_waiting(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """E82."""
    async with working(tmp_path, FakeTarget()) as shop:
        job = await shop.store()
        ahead = f"UPDATE jobs SET not_before = {EPOCH + 7200 * 10**6}, sum = ? WHERE id = ?"
        row = structs.replace(shop.row(job), not_before=EPOCH + 7200 * 10**6)
        sum_ = checksum(stored(row))
        await write(
            shop.writes, lambda tx: bool(tx.connection.execute(ahead, (sum_, job)).rowcount)
        )
        assert (await ended(shop, job))[0] == "done"


def spoil(tx: tables.Transaction, job: JobId, damage: str) -> None:
    tx.connection.execute(damage, (job,))


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE requests SET body = x'00' WHERE job = ?",
        "DELETE FROM requests WHERE job = ?",
    ],
)
async def test_a_job_whose_request_is_damaged_fails_and_says_so(
    autojump_clock: MockClock, tmp_path: Path, damage: str
) -> None:
    async with working(tmp_path, FakeTarget()) as shop:
        job = await shop.store()
        await write(shop.writes, partial(spoil, job=job, damage=damage))
        other = await shop.submit()
        state, code, text = await ended(shop, job)
        assert (state, code) == ("failed", "damaged")
        assert text is not None
        assert job in text
        assert shop.row(other).state == "done"


async def test_a_job_whose_row_is_damaged_is_set_aside_and_its_lane_goes_on(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    damage = "UPDATE jobs SET endpoint = '/api/chaT' WHERE id = ?"
    async with working(tmp_path, FakeTarget()) as shop:
        job = await shop.store()
        await write(shop.writes, partial(spoil, job=job, damage=damage))
        other = await shop.submit()
        assert (await ended(shop, other))[0] == "done"
        with pytest.raises(StoreError, match=f"{job} is damaged"):
            shop.row(job)
