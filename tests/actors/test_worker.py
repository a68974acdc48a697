"""The worker: order, endings, outages, clients that leave, crashes; in virtual time."""

import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.worker import BUSY, INTERRUPTED, LOSSES, STOPPING
from foreman import tables
from foreman.errors import TargetLost, TargetUnreachable
from foreman.executor import inline
from foreman.reader import Reader
from foreman.scheduling import Limits
from foreman.wire import ResponseEnd, ResponseFailed, ResponseHead
from tests.fakes.target import CHAT, DONE, JSON, TOKEN, FakeTarget, Says
from tests.fakes.worker import Shop, working

T = TypeVar("T")
LONG = Says([TOKEN, 15, DONE])


def sound(shop: Shop) -> bool:
    """What the store's own audit says, and that nothing is left between two states."""
    live = "SELECT count(*) FROM jobs WHERE state IN ('loading', 'working')"
    [(running,)] = shop.ask(lambda db: db.execute(live).fetchall())
    problems: list[str] = shop.ask(lambda db: tables.check(db, None))
    return running == 0 and problems == []


async def test_a_call_is_loaded_for_answered_and_journalled(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    target = FakeTarget()
    target.load_s["a"] = 5
    async with working(tmp_path, target) as shop:
        client = await shop.call()
        got = await client.read()
        assert (trio.current_time(), client.position) == (5, 0)
        assert [type(part) for part in got] == [ResponseHead, bytes, bytes, ResponseEnd]
        row = shop.row(client.job)
        assert (row.state, row.load_s, row.tokens_in, row.tokens_out) == ("done", 5, 2, 3)
        assert shop.history(client.job) == ["queued", "loading", "working", "done"]


async def test_no_byte_goes_to_a_client_before_its_claim_is_on_disk(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async def slow(work: Callable[[], T], /) -> T:
        await trio.sleep(1)
        return work()

    async with working(tmp_path, FakeTarget(), execute=slow) as shop:
        await (await shop.call()).read()
        client = await shop.call()  # of a resident model: the target answers at once
        await client.parts.receive()
        assert shop.row(client.job).state == "working"
        await client.read()


async def test_a_resident_model_is_not_loaded_again(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    target = FakeTarget()
    async with working(tmp_path, target) as shop:
        for _ in range(3):
            await (await shop.call()).read()
    assert len(target.asked("load")) == 1


async def test_exactly_one_job_runs_and_a_model_is_drained_before_the_next(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    target = FakeTarget()
    target.plays("/api/chat", Says([TOKEN, 1, DONE]))
    target.load_s = {"a": 5, "b": 5}
    async with working(tmp_path, target) as shop, trio.open_nursery() as readers:
        for model in "abababab":
            readers.start_soon((await shop.call(model)).read)
    assert target.most_running == 1
    assert len(target.asked("load")) == 2
    assert trio.current_time() == 5 + 4 + 5 + 4


async def test_positions_tell_how_many_run_before(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    target = FakeTarget()
    target.plays("/api/chat", LONG)
    async with working(tmp_path, target) as shop:
        clients = [await shop.call() for _ in range(3)]
        assert [client.position for client in clients] == [0, 1, 2]
        view = await shop.view()
        assert view.running is not None
        assert (view.running.id, view.running.model) == (clients[0].job, "a:latest")
        assert [(each.id, each.position) for each in view.calls] == [
            (clients[1].job, 1),
            (clients[2].job, 2),
        ]
        assert [(lane.model, lane.jobs) for lane in view.lanes] == [("a:latest", 2)]
        for client in clients:
            await shop.leave(client)


async def test_a_full_queue_refuses_in_ollamas_words_and_says_when_to_come_back(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    target = FakeTarget()
    target.plays("/api/chat", Says([TOKEN, 9, DONE]))
    async with working(tmp_path, target, max_waiting=2) as shop, trio.open_nursery() as readers:
        for _ in range(5):  # each takes 9 s: the mean rises from 1 towards 9
            await (await shop.call()).read()
        clients = [await shop.call() for _ in range(2)]
        [refused] = await (await shop.call()).read()
        mean = 9 - 8 * 0.8**5
        assert refused == ResponseFailed(503, BUSY, retry_after=int(mean) + 1)
        for client in clients:
            readers.start_soon(client.read)
    assert all(shop.row(client.job).state == "done" for client in clients)


async def test_a_batch_job_is_done_and_its_answer_kept(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    target = FakeTarget()
    target.plays("/api/chat", Says([DONE], content_type=JSON))
    async with working(tmp_path, target) as shop:
        job = await shop.submit()
        await wait_all_tasks_blocked()
        assert shop.row(job).state == "done"
        assert shop.ask(lambda db: tables.get_result(db, job)).body == DONE


async def test_a_lost_hint_costs_a_poll_interval_and_no_more(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    target = FakeTarget()
    async with working(tmp_path, target) as shop:
        await shop.view()
        await trio.sleep(1)
        job = await shop.store()
        await trio.sleep(6)
        assert shop.row(job).state == "done"


async def test_a_batch_job_is_seen_without_a_hint_although_clients_never_pause(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    target = FakeTarget()
    target.plays("/api/chat", Says([TOKEN, 1, DONE]))
    limits = Limits(30, linger=0)
    async with working(tmp_path, target, scheduling=limits) as shop, trio.open_nursery() as readers:
        job = await shop.store("b")

        async def chat() -> None:
            while shop.row(job).state != "done":
                await (await shop.call("a")).read()

        for _ in range(3):
            readers.start_soon(chat)
    assert trio.current_time() < 30 + 10


async def test_the_starvation_bound_counts_from_the_lanes_oldest_job(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """Row 85: newer jobs of higher priority keep taking the head of b's lane, and a is busy."""
    target = FakeTarget()
    target.plays("/api/chat", Says([TOKEN, 10, DONE]))
    limits = Limits(100, linger=0)
    async with working(tmp_path, target, scheduling=limits) as shop, trio.open_nursery() as readers:

        async def served() -> bool:
            query = "SELECT count(*) FROM jobs WHERE class = 'batch' AND state = 'done'"
            [(done,)] = shop.ask(lambda db: db.execute(query).fetchall())
            return bool(done)

        async def chat() -> None:
            while not await served():
                await (await shop.call("a")).read()

        readers.start_soon(chat)
        readers.start_soon(chat)
        for priority in range(13):
            await shop.submit("b", priority)
            await trio.sleep(10)
            if await served():
                break
    assert trio.current_time() <= 100 + 10 + 10 + 10


# ---------------------------------------------------------------- clients that leave


async def test_a_client_that_leaves_while_it_waits_takes_its_own_job_only(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    target = FakeTarget()
    target.plays("/api/chat", LONG)
    async with working(tmp_path, target) as shop:
        first, second, third = [await shop.call() for _ in range(3)]
        await shop.leave(second)
        assert [type(part) for part in (await first.read())[-1:]] == [ResponseEnd]
        await third.read()
        rows = [shop.row(each.job) for each in (first, second, third)]
        assert [row.state for row in rows] == ["done", "failed", "done"]
        assert rows[1].error_code == "cancelled"
    assert len(target.asked("/api/chat")) == 2


async def test_a_client_that_leaves_while_it_runs_ends_the_request_at_the_target(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    target = FakeTarget()
    target.plays("/api/chat", LONG, CHAT)
    async with working(tmp_path, target) as shop:
        first, second = await shop.call(), await shop.call()
        await trio.sleep(1)
        assert target.running == 1
        await shop.leave(first)
        await second.read()
        assert trio.current_time() == 1
        assert shop.row(first.job).error_code == "cancelled"
        assert shop.row(second.job).state == "done"


@pytest.mark.parametrize("steps", range(12))
async def test_a_client_that_leaves_at_any_moment_leaves_the_rows_consistent(
    autojump_clock: MockClock, tmp_path: Path, steps: int
) -> None:
    target = FakeTarget()
    async with working(tmp_path, target) as shop:
        client = await shop.call()
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        await shop.leave(client)
        other = await shop.call()
        await other.read()
        assert shop.row(other.job).state == "done"
        assert sound(shop)


async def test_a_client_that_leaves_during_an_outage_is_not_tried_again(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    target = FakeTarget()
    target.up = False
    async with working(tmp_path, target) as shop:
        client = await shop.call()
        await trio.sleep(10)
        await shop.leave(client)
        await wait_all_tasks_blocked()
        target.up = True
        await trio.sleep(10)
        assert shop.row(client.job).error_code == "cancelled"
    assert target.asked("/api/chat") == []


@pytest.mark.parametrize("steps", range(1, 25, 2))
async def test_a_client_that_leaves_while_its_job_goes_back_is_not_tried_again(
    autojump_clock: MockClock, tmp_path: Path, steps: int
) -> None:
    target = FakeTarget()
    target.up = False
    async with working(tmp_path, target) as shop:
        client = await shop.call()
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        await shop.leave(client)
        await wait_all_tasks_blocked()
        target.up = True
        await trio.sleep(10)
        assert sound(shop)
    assert target.asked("/api/chat") == target.asked("load") == []


async def test_a_client_that_has_gone_is_answered_without_harm(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """The hint that it left may be lost: its channel tells."""
    async with working(tmp_path, FakeTarget()) as shop:
        client = await shop.call()
        client.parts.close()
        await (await shop.call()).read()
        assert shop.row(client.job).error_code == "cancelled"


async def test_a_description_nobody_waits_for_is_no_error(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with working(tmp_path, FakeTarget()) as shop:
        with trio.CancelScope() as scope:
            scope.cancel()
            await shop.view()
        assert (await shop.view()).running is None


# ---------------------------------------------------------------- a target that goes away


async def test_a_target_that_is_away_keeps_the_call_and_charges_nothing(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    target = FakeTarget()
    target.up = False
    async with working(tmp_path, target) as shop, trio.open_nursery() as readers:
        job = await shop.submit()
        client = await shop.call()
        readers.start_soon(client.read)
        await trio.sleep(3600)
        assert (await shop.view()).target_away
        target.up, back = True, trio.current_time()
        await trio.sleep(5)
        assert target.asked("/api/chat")[0] <= back + 5
        assert shop.row(client.job).state == "done"
        assert shop.row(job).attempt == 1


async def test_an_outage_of_a_night_is_no_crash(
    autojump_clock: MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = FakeTarget()
    target.up = False
    async with working(tmp_path, target) as shop:
        job = await shop.submit()
        await trio.sleep(9 * 3600)
        target.up = True
        await trio.sleep(5)
        assert shop.row(job).state == "done"
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


async def test_a_wake_ends_the_wait_for_the_target_at_once(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    target = FakeTarget()
    target.up = False
    async with working(tmp_path, target) as shop:
        job = await shop.submit()
        await trio.sleep(100)
        target.up = True
        await shop.submit()
        await wait_all_tasks_blocked()
        assert trio.current_time() == 100
        assert shop.row(job).state == "done"


async def test_a_batch_job_that_the_target_lost_goes_back_uncharged(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    target = FakeTarget()
    target.plays("/api/chat", Says(before=[TargetUnreachable("refused")]), CHAT)
    async with working(tmp_path, target) as shop:
        job = await shop.submit()
        await trio.sleep(5)
        assert shop.history(job) == [
            "queued", "loading", "working", "target_lost", "loading", "working", "done",
        ]  # fmt: skip
        assert shop.row(job).attempt == 1


async def test_a_request_that_breaks_every_connection_is_not_tried_for_ever(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    target = FakeTarget()
    target.plays("/api/chat", *[Says(before=[TargetLost("reset")])] * LOSSES, CHAT)
    async with working(tmp_path, target) as shop:
        client, other = await shop.call(), await shop.call()
        [failed] = await client.read()
        assert isinstance(failed, ResponseFailed)
        assert failed.status == 502
        await other.read()
        assert shop.row(client.job).error_code == "truncated"
        assert shop.row(other.job).state == "done"


async def test_losses_are_counted_for_each_job_whatever_ran_in_between(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    target = FakeTarget()
    target.plays("/api/chat", Says(before=[1, TargetLost("reset")]))
    async with working(tmp_path, target) as shop:
        job = await shop.submit()
        await trio.sleep(0.5)
        await (await shop.call()).read()  # goes first, and is lost as often as may be
        await trio.sleep(60)
        history = shop.history(job)
        assert history[: history.index("retry")].count("target_lost") == LOSSES - 1


async def test_a_garbled_batch_job_is_tried_again_later_and_then_fails(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    target = FakeTarget()
    target.plays("/api/chat", Says([b"\x00\n"]))
    async with working(tmp_path, target) as shop:
        job = await shop.submit()
        await trio.sleep(60)
        assert (shop.row(job).error_code, shop.row(job).attempt) == ("garbled", 3)
        first, second, third = target.asked("/api/chat")
        assert 2 <= second - first <= 9
        assert 4 <= third - second <= 11


async def test_an_answer_beyond_the_limit_is_stopped(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    target = FakeTarget()
    target.plays("/api/chat", Says([b"x" * 65536] * 1000, content_type=JSON))
    async with working(tmp_path, target) as shop:
        job = await shop.submit()
        await wait_all_tasks_blocked()
        assert shop.row(job).error_code == "output_too_large"
    assert target.running == 0


# ---------------------------------------------------------------- stops and crashes


async def test_a_closed_inbox_puts_the_running_job_back_uncharged(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    target = FakeTarget()
    target.plays("/api/chat", LONG)
    async with working(tmp_path, target) as shop:
        job = await shop.submit()
        await trio.sleep(1)
        assert shop.row(job).state == "working"
    assert shop.history(job)[-1] == "shutdown"
    assert (shop.row(job).attempt, shop.row(job).crashes) == (1, 0)


async def test_a_closed_inbox_ends_the_running_call_as_interrupted(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    target = FakeTarget()
    target.plays("/api/chat", LONG)
    async with working(tmp_path, target) as shop:
        client = await shop.call()
        await trio.sleep(1)
    assert shop.row(client.job).error_code == "interrupted"
    last = (await client.read())[-1]
    assert last == ResponseFailed(503, INTERRUPTED, retry_after=5)
    assert sound(shop)


async def test_a_drain_refuses_who_still_waits_at_its_end_and_lets_the_running_call_end(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    target = FakeTarget()
    target.plays("/api/chat", LONG)
    async with working(tmp_path, target) as shop:
        running, waiting = await shop.call(), await shop.call()
        await shop.drain(refuse_at=3)
        assert await waiting.read() == [ResponseFailed(503, STOPPING, retry_after=5)]
        assert trio.current_time() == 3
        [refused] = await (await shop.call()).read()
        assert isinstance(refused, ResponseFailed)
        assert refused.text == STOPPING
        assert isinstance((await running.read())[-1], ResponseEnd)
        assert shop.row(waiting.job).error_code == "interrupted"


async def test_a_drain_serves_who_waits_and_who_comes_in_order_and_no_batch_job(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    target = FakeTarget()
    target.plays("/api/chat", Says([TOKEN, 1, DONE]))
    async with working(tmp_path, target) as shop:
        clients = [await shop.call() for _ in range(3)]
        job = await shop.submit()
        await shop.drain(refuse_at=1000)
        await trio.sleep(0.5)
        clients.append(await shop.call())
        for number, client in enumerate(clients, start=1):
            assert isinstance((await client.read())[-1], ResponseEnd)
            assert trio.current_time() == number
        await trio.sleep(500)
        assert shop.history(job) == ["queued"]
    assert all(shop.row(client.job).state == "done" for client in clients)


class Slow(Reader):
    """Takes some turns of the event loop for each question, as a thread would."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, inline)

    async def read(self, question: Callable[[sqlite3.Connection], T]) -> T:
        for _ in range(5):
            await trio.lowlevel.checkpoint()
        return await super().read(question)


@pytest.mark.parametrize("steps", range(30))
async def test_a_drain_puts_the_running_batch_job_back_at_once_for_the_calls(
    autojump_clock: MockClock, tmp_path: Path, steps: int
) -> None:
    """Wherever it just was: chosen, claimed, loading, or at work."""
    target = FakeTarget()
    target.plays("/api/chat", LONG)
    async with working(tmp_path, target, reader=Slow) as shop:
        job = await shop.submit()
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        await shop.drain(refuse_at=1000)
        assert isinstance((await (await shop.call()).read())[-1], ResponseEnd)
        assert trio.current_time() == 15
        assert (shop.row(job).state, shop.row(job).attempt, shop.row(job).crashes) == (
            "queued", 1, 0,
        )  # fmt: skip
        assert set(shop.history(job)) <= {"queued", "loading", "working", "shutdown"}
        assert sound(shop)


async def test_a_batch_job_that_was_given_back_can_still_be_cancelled(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    target = FakeTarget()
    target.plays("/api/chat", LONG)
    async with working(tmp_path, target) as shop:
        job = await shop.submit()
        await trio.sleep(1)
        await shop.drain(refuse_at=1000)
        assert await shop.cancel(job)
        await wait_all_tasks_blocked()
        assert shop.row(job).error_code == "cancelled"


@pytest.mark.parametrize("steps", range(0, 40, 2))
async def test_cancelled_at_any_moment_it_leaves_no_job_between_two_states(
    autojump_clock: MockClock, tmp_path: Path, steps: int
) -> None:
    target = FakeTarget()
    async with working(tmp_path, target) as shop:
        job = await shop.submit()
        client = await shop.call("b")
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
    assert sound(shop)
    assert shop.row(job).state in ("queued", "done")
    assert shop.row(job).attempt == 1
    got = await client.read()
    assert got
    assert shop.ask(lambda db: tables.get_job(db, client.job)) is None or (
        shop.row(client.job).state in ("done", "failed")
    )


class Failing(Reader):
    """Fails its n-th question, once."""

    def __init__(self, path: Path, at: int) -> None:
        super().__init__(path, inline)
        self.left = at

    async def read(self, question: Callable[[sqlite3.Connection], T]) -> T:
        self.left -= 1
        if self.left == 0:
            await trio.lowlevel.checkpoint()
            raise RuntimeError("an error nobody foresaw")
        return await super().read(question)


class Exploding(FakeTarget):
    """Raises what no target should, at its n-th step."""

    def __init__(self, *at: int) -> None:
        super().__init__()
        fault = Says([RuntimeError("an error nobody foresaw")])
        self.plays("/api/chat", *[fault if n in at else CHAT for n in range(max(at) + 2)])


@pytest.mark.parametrize("at", [1, 2, 3, 4])
async def test_a_crash_at_any_read_is_survived_and_every_job_ends(
    autojump_clock: MockClock, tmp_path: Path, at: int
) -> None:
    target = FakeTarget()
    async with working(tmp_path, target, reader=lambda path: Failing(path, at)) as shop:
        jobs = [await shop.submit() for _ in range(2)]
        await trio.sleep(20)
        assert [shop.row(job).state for job in jobs] == ["done", "done"]
        assert sound(shop)


async def test_a_crash_cuts_waiting_clients_with_an_answer_and_keeps_the_mail(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    target = Exploding(0)
    async with working(tmp_path, target) as shop:
        running, waiting = await shop.call(), await shop.call()
        assert (await running.read())[-1] == ResponseFailed(503, INTERRUPTED, retry_after=5)
        assert await waiting.read() == [ResponseFailed(503, INTERRUPTED, retry_after=5)]
        late = await shop.call()  # sent while nobody listens
        assert isinstance((await late.read())[-1], ResponseEnd)
        assert trio.current_time() == 0.5
        codes = [shop.row(each.job).error_code for each in (running, waiting, late)]
        assert codes == ["interrupted", "interrupted", None]
        assert sound(shop)


async def test_a_crash_puts_the_running_batch_job_back_and_counts_it(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with working(tmp_path, Exploding(0)) as shop:
        job = await shop.submit()
        await trio.sleep(5)
        assert (shop.row(job).state, shop.row(job).crashes) == ("done", 1)
        assert "restart" in shop.history(job)


async def test_a_job_that_crashes_the_worker_three_times_is_given_up_and_others_go_on(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with working(tmp_path, Exploding(0, 1, 2)) as shop:
        poison, other = await shop.submit(), await shop.store()
        await trio.sleep(10)
        assert shop.row(poison).error_code == "crash_loop"
        assert shop.row(other).state == "done"


async def test_a_stop_with_a_reader_that_takes_nothing_is_no_crash(
    autojump_clock: MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = FakeTarget()
    target.plays("/api/chat", Says([TOKEN] * 30), CHAT)
    async with working(tmp_path, target, room=2) as shop:
        stuck = await shop.call()
        await trio.sleep(1)
        other = await shop.call()
    await stuck.read()
    assert await other.read() == [ResponseFailed(503, INTERRUPTED, retry_after=5)]
    assert sound(shop)
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]
