"""The webhook dispatcher against scripted receivers, in virtual time."""

import gzip
import itertools
import json
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import outcome
import pytest
import trio
from standardwebhooks import Webhook
from trio.testing import MockClock, wait_all_tasks_blocked

from actors import webhooks
from actors.mailbox import StoreInbox, ask, nudge, respond, write
from actors.messages import Posted, TestWebhook, Write
from actors.supervisor import Child, RestartBudget, keep_running
from foreman import ledger
from foreman.commit import Committer
from foreman.database import Database, open_writer
from foreman.delivery import SCHEDULE
from foreman.errors import StoreBusy, StoreError
from foreman.executor import inline
from foreman.jobs import Fingerprint, JobClass, JobId
from foreman.ledger import Delivery, Selection
from foreman.metrics.counts import Metrics
from foreman.netguard import Blocked, Rule
from foreman.queue_view import QueueView
from foreman.reader import Reader
from foreman.sending import KEPT, READ_AT_MOST, Sender
from foreman.signing import Signer
from foreman.tables import JobRef, NewJob, Transaction, claim, finish, start, submit
from tests.fakes.receivers import HANGS, Got, Receivers, Says, refuses

START = 1_800_000_000
URL = "https://receiver.example/hook"
OTHER = "https://other.example/hook"
SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NEWER = "whsec_" + "C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
EVERY = ("job.queued", "job.loading", "job.working", "job.done", "job.failed")
GRACE = 3.0
OUTAGE = httpx.ConnectError("connection refused")


@dataclass
class Clock:
    """The wall clock: it goes with trio's, and may be set."""

    ahead: float = 0.0

    def __call__(self) -> int:
        return START * 1_000_000 + round((trio.current_time() + self.ahead) * 1e6)


def new_job(number: int, url: str = URL, events: tuple[str, ...] = ("job.queued",)) -> NewJob:
    return NewJob(
        JobId(f"{number:026d}"),
        JobClass.BATCH,
        "/api/chat",
        "m",
        Fingerprint("m"),
        b"{}",
        webhook=json.dumps({"url": url, "events": events}),
    )


async def keep_store(
    inbox: trio.MemoryReceiveChannel[Write[Any]],
    database: Database,
    clock: Clock,
    hints: trio.MemorySendChannel[Posted],
    refusals: list[StoreError],
) -> None:
    """A store that tends nothing: its five seconds would be most of the work of 76 hours.

    It answers with the `refusals` first.
    """
    committer = Committer(database, keep_free=0)
    async for message in inbox:
        await trio.lowlevel.checkpoint()
        if refusals:
            respond(message.reply, outcome.Error(refusals.pop()))
            continue
        committed = committer.commit([message.do], clock())
        respond(message.reply, committed.answers[0])
        if committed.posted:
            nudge(hints, Posted())


@dataclass
class Jitter:
    """None; and if wanted, the dispatcher crashes of it."""

    broken: bool = False

    def __call__(self, least: float, most: float) -> float:
        if self.broken:
            self.broken = False
            raise RuntimeError("unforeseen")
        return (least + most) / 2


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with open_writer(tmp_path / "data", now=START * 1_000_000, ballast=4096) as opened:
        yield opened


@dataclass
class Post:
    """A running dispatcher with all it stands on."""

    store: StoreInbox
    reader: Reader
    receivers: Receivers
    inbox: trio.MemorySendChannel[TestWebhook]
    clock: Clock
    metrics: Metrics
    jitter: Jitter
    refusals: list[StoreError]
    numbers: Iterator[int]

    async def submit(self, url: str = URL, events: tuple[str, ...] = ("job.queued",)) -> JobRef:
        job = new_job(next(self.numbers), url, events)
        return await write(self.store, partial(submit, job=job))

    async def run(self, ref: JobRef) -> None:
        """Queued to done: three more events."""

        def work(tx: Transaction) -> None:
            finish(tx, start(tx, claim(tx, ref, resident=True), load_s=None))

        await write(self.store, work)

    async def deliveries(self, selection: Selection | None = None) -> list[Delivery]:
        """Oldest first."""
        asked = partial(ledger.deliveries, wanted=selection or Selection(), limit=1000)
        return (await self.reader.read(asked))[::-1]

    async def endpoint(self, url: str = URL) -> ledger.Endpoint:
        [found] = await self.reader.read(partial(ledger.list_endpoints, url=url))
        return found

    async def states(self) -> list[str]:
        return [each.state for each in await self.deliveries()]


@asynccontextmanager
async def dispatching(
    database: Database,
    receivers: Receivers,
    concurrency: int = 8,
    secrets: tuple[str, ...] = (SECRET,),
    limit: float = 20,
) -> AsyncGenerator[Post]:
    """A store and a dispatcher; at the end of the block the inbox is closed, and both end."""
    metrics, clock, refusals = Metrics(), Clock(), list[StoreError]()
    numbers = itertools.count(len(receivers.got) + 1)
    writes, operations = trio.open_memory_channel[Write[Any]](1024)
    inbox, tests = trio.open_memory_channel[TestWebhook](8)
    hints, posted = trio.open_memory_channel[Posted](1)
    with operations, posted, hints, Reader(database.directory.database, inline) as reader:
        sender = Sender(receivers, Signer(secrets), limit, clock)
        jitter = Jitter()
        ports = webhooks.Ports(writes, reader, sender, clock, metrics, jitter)
        child = Child("webhooks", partial(webhooks.run, tests, posted, ports, concurrency))
        async with trio.open_nursery() as storing:
            storing.start_soon(keep_store, operations, database, clock, hints, refusals)
            with writes:
                async with trio.open_nursery() as nursery:
                    with tests, inbox:
                        await nursery.start(keep_running, child, RestartBudget(3, 60), 0.5)
                        yield Post(
                            writes,
                            reader,
                            receivers,
                            inbox,
                            clock,
                            metrics,
                            jitter,
                            refusals,
                            numbers,
                        )
                    nursery.cancel_scope.deadline = trio.current_time() + GRACE


def verified(got: Got, secret: str = SECRET) -> Any:
    """Checked as a receiver checks it, except for the time, which is virtual here."""
    at = int(got.headers["webhook-timestamp"])
    assert at == START + int(got.at)
    signed = Webhook(secret)
    found = got.headers["webhook-signature"].split()
    expected = signed.sign(got.id, datetime.fromtimestamp(at, UTC), got.body.decode())
    assert expected in found
    return json.loads(got.body)


async def test_every_event_arrives_signed_and_in_order(
    database: Database, autojump_clock: MockClock
) -> None:
    receivers = Receivers()
    async with dispatching(database, receivers) as post:
        await post.run(await post.submit(events=EVERY))
        await wait_all_tasks_blocked()
        assert [verified(got)["type"] for got in receivers.got] == [
            "job.queued",
            "job.loading",
            "job.working",
            "job.done",
        ]
        previous = [got.data["previous_seq"] for got in receivers.got]
        assert previous == [0, *[got.data["seq"] for got in receivers.got][:-1]]
        assert await post.states() == ["delivered"] * 4
        assert receivers.got[0].headers["content-type"] == "application/json"
        assert trio.current_time() == 0


async def test_an_outage_of_76_hours_is_followed_to_the_second_and_then_given_up(
    database: Database, autojump_clock: MockClock
) -> None:
    """D65: down, or a name that does not resolve."""
    receivers = Receivers()
    receivers.plays(URL, refuses(OUTAGE), refuses(httpx.ConnectError("no such host")))
    began = time.process_time()
    async with dispatching(database, receivers) as post:
        await post.submit()
        await trio.sleep(80 * 3600)
        times = receivers.times(URL)
        assert times == pytest.approx(list(itertools.accumulate(SCHEDULE)), abs=0.001)
        [delivery] = await post.deliveries()
        assert delivery.state == "dead"
        assert [each.error for each in delivery.attempts] == [
            "ConnectError: connection refused",
            *["ConnectError: no such host"] * 9,
        ]
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("says", "status", "error"),
    [
        (HANGS, None, "no answer within 20 s"),
        (Says(500, [b"x", 60.0]), 500, None),
        (Says(500, [b"x" * 4096] * 20 + [60.0]), 500, None),
        (Says(200, [b"x", 60.0]), 200, None),
    ],
)
async def test_a_receiver_that_never_finishes_is_cut_off_and_its_place_is_free(
    database: Database, autojump_clock: MockClock, says: Says, status: int | None, error: str | None
) -> None:
    """D66: hangs after accept, drips, sends a body without end."""
    receivers = Receivers()
    receivers.plays(URL, says)
    async with dispatching(database, receivers, concurrency=1) as post:
        await post.submit()
        await post.submit(OTHER)
        await trio.sleep(21)
        [tried, other] = await post.deliveries()
        assert (tried.attempts[0].status, tried.attempts[0].error) == (status, error)
        assert tried.attempts[0].seconds <= 20
        assert len(tried.attempts[0].reply) <= KEPT
        assert other.state == "delivered"
        assert receivers.open == 0


async def test_a_body_without_end_is_read_no_further_than_64_kib(
    database: Database, autojump_clock: MockClock
) -> None:
    """D66."""
    pieces = itertools.repeat(b"x" * 1000)
    counted = itertools.count()
    receivers = Receivers()
    receivers.plays(URL, Says(200, (piece for piece, _ in zip(pieces, counted, strict=False))))
    async with dispatching(database, receivers) as post:
        await post.submit()
        await wait_all_tasks_blocked()
        assert await post.states() == ["delivered"]
    assert next(counted) * 1000 <= READ_AT_MOST + 2000


async def test_a_failing_endpoint_is_left_alone_and_costs_the_others_nothing(
    database: Database, autojump_clock: MockClock
) -> None:
    """D67: 500 for ever."""
    receivers = Receivers()
    receivers.plays(URL, Says(500))
    async with dispatching(database, receivers) as post:
        for _ in range(10):
            await post.submit()
            await post.submit(OTHER)
        await trio.sleep(29)
        assert receivers.times(URL) == [0.0] * 5
        assert receivers.times(OTHER) == [0.0] * 10
        await trio.sleep(30 + 60 + 120)
        assert receivers.times(URL)[5:] == [30, 90, 210]


async def test_a_flapping_endpoint_closes_its_breaker_with_one_probe(
    database: Database, autojump_clock: MockClock
) -> None:
    """D67: flapping."""
    receivers = Receivers()
    receivers.plays(URL, *[Says(500)] * 5, Says(200), *[Says(500)] * 4, Says(200))
    async with dispatching(database, receivers) as post:
        for _ in range(7):
            await post.submit()
        await trio.sleep(600)
        assert await post.states() == ["delivered"] * 7
        times = receivers.times(URL)
        assert times[:5] == [0] * 5
        assert times[5] == 30
        assert (await post.endpoint()).failures == 0
        charged = [len(each.attempts) for each in await post.deliveries()]
        assert sum(charged) == len(times)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(
    database: Database, autojump_clock: MockClock, status: int
) -> None:
    """D68."""
    receivers = Receivers()
    receivers.plays(URL, Says(status, headers={"location": "http://127.0.0.1:11434/api/delete"}))
    async with dispatching(database, receivers) as post:
        await post.submit()
        await wait_all_tasks_blocked()
        assert [got.url for got in receivers.got] == [URL]
        [delivery] = await post.deliveries()
        assert delivery.state == "pending"
        assert delivery.attempts[0].error == "a redirect, which is not followed"


async def test_410_disables_the_endpoint_and_the_rest_are_dead_letters(
    database: Database, autojump_clock: MockClock
) -> None:
    """D69."""
    receivers = Receivers()
    receivers.plays(URL, Says(200), Says(410))
    async with dispatching(database, receivers) as post:
        jobs = [await post.submit(events=EVERY) for _ in range(4)]
        for job in jobs:
            await post.run(job)
        await trio.sleep(1)
        sent = len(receivers.got)
        states = await post.states()
        assert states.count("delivered") == 1
        assert states.count("dead") == 15
        assert (await post.endpoint()).reason == "it answered 410 Gone"
        await post.submit()
        await trio.sleep(80_000)
        assert len(receivers.got) == sent == 2


async def test_a_2xx_counts_although_the_connection_breaks_before_the_body(
    database: Database, autojump_clock: MockClock
) -> None:
    """D70."""
    receivers = Receivers()
    receivers.plays(URL, Says(200, [httpx.ReadError("connection reset by peer")]))
    async with dispatching(database, receivers) as post:
        await post.submit()
        await wait_all_tasks_blocked()
        [delivery] = await post.deliveries()
        assert delivery.state == "delivered"
        assert delivery.attempts[0].error is None


async def test_what_was_sent_and_not_recorded_is_sent_again_first(
    database: Database, autojump_clock: MockClock
) -> None:
    """D71: the daemon dies between sending and recording. With kill -9 it is in tests/e2e."""
    receivers = Receivers()
    receivers.plays(URL, HANGS, Says(200))
    async with dispatching(database, receivers) as post:
        await post.run(await post.submit(events=EVERY))
        await wait_all_tasks_blocked()
    assert len(receivers.got) == 1  # it was under way when the grace ran out
    async with dispatching(database, receivers) as post:
        await trio.sleep(60)
        assert await post.states() == ["delivered"] * 4
    ids = [got.id for got in receivers.got]
    assert ids[0] == ids[1]
    assert receivers.got[0].body == receivers.got[1].body
    assert ids[1:] == sorted(set(ids))


async def test_a_blocked_address_is_a_dead_letter_each_time(
    database: Database, autojump_clock: MockClock
) -> None:
    """D72: a name that came to stand for 127.0.0.1. The rules are in test_guarded_transport.py."""
    receivers = Receivers()
    blocked = refuses(Blocked(Rule.LOOPBACK, "127.0.0.1 is this machine"))
    receivers.plays(URL, Says(200), blocked)
    async with dispatching(database, receivers) as post:
        for _ in range(3):
            await post.submit()
        await wait_all_tasks_blocked()
        assert await post.states() == ["delivered", "dead", "dead"]
        [_, dead, _] = await post.deliveries()
        assert dead.attempts[0].error == "127.0.0.1 is this machine"


async def test_a_bomb_is_not_unpacked(database: Database, autojump_clock: MockClock) -> None:
    """D73: gzip. Oversized heads and bad status lines are the real transport's: tests/e2e."""
    bomb = gzip.compress(bytes(50_000_000))
    receivers = Receivers()
    receivers.plays(URL, Says(500, [bomb], headers={"content-encoding": "gzip"}))
    async with dispatching(database, receivers) as post:
        await post.submit()
        await wait_all_tasks_blocked()
        [delivery] = await post.deliveries()
        assert delivery.attempts[0].reply == bomb[:KEPT]


async def test_a_secret_can_be_replaced_while_a_message_is_tried_again(
    database: Database, autojump_clock: MockClock
) -> None:
    """D74: both signatures, so that old receivers and new ones accept it."""
    receivers = Receivers()
    receivers.plays(URL, Says(500), Says(200))
    async with dispatching(database, receivers) as post:
        await post.submit()
        await wait_all_tasks_blocked()
    async with dispatching(database, receivers, secrets=(NEWER, SECRET)) as post:
        await trio.sleep(6)
        assert await post.states() == ["delivered"]
    before, after = receivers.got
    verified(before)
    assert verified(after) == verified(after, NEWER) == verified(before)


async def test_a_backlog_drains_one_at_a_time_and_starves_nobody(
    database: Database, autojump_clock: MockClock
) -> None:
    """D75: 100 here; that the size does not matter is shown in tests/foreman/test_outbox.py."""
    receivers = Receivers()
    receivers.plays(URL, *[refuses(OUTAGE)] * 5, Says(200, [0.01]))
    async with dispatching(database, receivers, concurrency=1) as post:
        for _ in range(100):
            await post.submit()
        await trio.sleep(31)  # the breaker opens, and finds the receiver well
        await post.submit(OTHER)
        asked = trio.current_time()
        await trio.sleep(30)
        [other] = receivers.times(OTHER)
        assert other - asked < 1
        assert set(await post.states()) == {"delivered"}
        assert receivers.most_open == 1


async def test_at_most_so_many_endpoints_are_served_at_once(
    database: Database, autojump_clock: MockClock
) -> None:
    receivers = Receivers()
    urls = [f"https://receiver-{number}.example/" for number in range(20)]
    async with dispatching(database, receivers, concurrency=3) as post:
        for url in urls:
            receivers.plays(url, Says(200, before=[1.0]))
            await post.submit(url)
            await post.submit(url)
        await trio.sleep(20)
        assert set(await post.states()) == {"delivered"}
        assert receivers.most_open == 3


async def test_a_lost_hint_costs_a_minute_at_most(
    database: Database, autojump_clock: MockClock
) -> None:
    receivers = Receivers()
    async with dispatching(database, receivers) as post:

        def unannounced(tx: Transaction) -> None:
            submit(tx, new_job(1))
            tx.posted = False

        await write(post.store, unannounced)
        await trio.sleep(webhooks.LOOK_EVERY)
        assert len(receivers.got) == 1


async def test_after_a_long_sleep_each_message_that_is_due_is_sent_once(
    database: Database, autojump_clock: MockClock
) -> None:
    """E81: the wall clock jumps while no monotonic time passes."""
    receivers = Receivers()
    receivers.plays(URL, *[Says(500)] * 3, Says(200))
    async with dispatching(database, receivers) as post:
        for _ in range(3):
            await post.submit()
        await wait_all_tasks_blocked()
        assert len(receivers.got) == 3
        post.clock.ahead = 3 * 24 * 3600
        await trio.sleep(webhooks.LOOK_EVERY)
        assert len(receivers.got) == 6
        assert await post.states() == ["delivered"] * 3


async def test_a_message_that_breaks_the_sender_stops_no_other(
    database: Database, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    receivers = Receivers()
    receivers.plays(URL, refuses(RuntimeError("unforeseen")), Says(200))
    async with dispatching(database, receivers) as post:
        await post.submit()
        await post.submit()
        await trio.sleep(10)
        assert await post.states() == ["delivered"] * 2
    assert "unforeseen way" in caplog.text


async def test_a_crash_loses_nothing(database: Database, autojump_clock: MockClock) -> None:
    receivers = Receivers()
    receivers.plays(OTHER, Says(200, before=[0.1]))
    async with dispatching(database, receivers) as post:
        await post.submit(OTHER)
        await wait_all_tasks_blocked()
        post.jitter.broken = True
        await post.submit()
        await trio.sleep(10)
        assert await post.states() == ["delivered"] * 2
        assert len(receivers.times(URL)) == 1
        assert receivers.times(OTHER) == [0, 5]  # it was under way at the crash


async def test_a_store_that_cannot_write_is_waited_for(
    database: Database, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    receivers = Receivers()
    async with dispatching(database, receivers) as post:

        def refuse_what_follows(got: Got) -> None:
            if len(receivers.got) == 1:
                post.refusals.append(StoreBusy("another process holds the lock"))

        receivers.heard = refuse_what_follows
        await post.submit()
        await trio.sleep(10)
        assert receivers.times(URL) == [0, 5]
        assert await post.states() == ["delivered"]
    assert "webhooks wait: another process holds the lock" in caplog.text


async def test_attempts_are_counted(database: Database, autojump_clock: MockClock) -> None:
    receivers = Receivers()
    receivers.plays(URL, Says(500), Says(200), Says(410))
    async with dispatching(database, receivers) as post:
        await post.submit()
        await post.submit()
        await post.submit()
        await trio.sleep(6)
        idle = QueueView(None, None, (), (), loads=0, fcfs_loads=0, target_away=False)
        post.metrics.fill(idle, None)
        text = post.metrics.text().decode()
    assert 'foreman_webhook_attempts_total{outcome="delivered"} 1.0' in text
    assert 'foreman_webhook_attempts_total{outcome="retry"} 1.0' in text
    assert 'foreman_webhook_attempts_total{outcome="gone"} 1.0' in text
    assert "foreman_webhook_dead_letters_total 1.0" in text


async def test_a_test_message_is_signed_and_leaves_no_trace(
    database: Database, autojump_clock: MockClock
) -> None:
    receivers = Receivers()
    receivers.plays(URL, Says(204))
    async with dispatching(database, receivers) as post:
        tested = await ask(post.inbox, partial(TestWebhook, URL))
        assert (tested.attempt.status, tested.signed) == (204, True)
        [got] = receivers.got
        assert verified(got)["type"] == "foreman.test"
        assert await post.deliveries() == []


async def test_a_stop_waits_for_what_is_under_way_and_begins_nothing(
    database: Database, autojump_clock: MockClock
) -> None:
    receivers = Receivers()
    receivers.plays(URL, Says(200, before=[2.0]))
    async with dispatching(database, receivers) as post:
        await post.submit()
        await post.submit()
        await wait_all_tasks_blocked()
    assert trio.current_time() == 2
    assert len(receivers.got) == 1
    async with dispatching(database, receivers) as post:
        assert await post.states() == ["delivered", "pending"]


async def test_a_dead_letter_is_logged_without_the_path_of_its_url(
    database: Database, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    receivers = Receivers()
    url = "https://receiver.example/a-secret"
    receivers.plays(url, Says(410))
    async with dispatching(database, receivers) as post:
        await post.submit(url)
        await wait_all_tasks_blocked()
    assert "gave up a webhook to receiver.example: it answered 410" in caplog.text
    assert "a-secret" not in caplog.text
