"""A scrape while something is in trouble: the rest is told all the same."""

import sqlite3
from collections.abc import Callable
from typing import Any, cast

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from foreman.api.ports import Desk
from foreman.api.scrape import PATIENCE, Scrape
from foreman.errors import NoReply
from foreman.ledger import Backlog
from foreman.metrics.counts import Metrics
from foreman.metrics.gauges import Stock
from foreman.queue_view import QueueView

IDLE = QueueView(None, None, (), (), loads=0, fcfs_loads=0, target_away=False)
STOCK = Stock(Backlog(0, 0.0, 0, 0, 0, 0), database=4096, wal=0, free=1 << 30)


class TroubledDesk:
    """The two questions of a scrape."""

    def __init__(self, worker: Exception | None = None, disk: Exception | None = None) -> None:
        self.worker = worker
        self.disk = disk
        self.asked_at: list[float] = []

    async def queue(self) -> QueueView:
        self.asked_at.append(trio.current_time())
        if self.worker is not None:
            raise self.worker
        return IDLE

    async def read(self, query: Callable[[Any], Stock]) -> Stock:
        if self.disk is not None:
            raise self.disk
        return query(None)


def lines(text: bytes) -> list[str]:
    return text.decode().splitlines()


def scrape_of(desk: TroubledDesk) -> Scrape:
    metrics = Metrics()
    metrics.restarted("worker")
    return Scrape(cast(Desk, desk), metrics, lambda connection: STOCK)


async def test_everything_is_told() -> None:
    found = lines(await scrape_of(TroubledDesk())())
    assert "foreman_clients_waiting 0.0" in found
    assert "foreman_database_bytes 4096.0" in found


async def test_a_worker_that_is_being_restarted_costs_its_own_lines_only() -> None:
    found = lines(await scrape_of(TroubledDesk(worker=NoReply()))())
    assert "foreman_clients_waiting NaN" in found
    assert "foreman_database_bytes 4096.0" in found
    assert 'foreman_actor_restarts_total{actor="worker"} 1.0' in found


@pytest.mark.parametrize(
    "trouble", [sqlite3.OperationalError("disk I/O error"), OSError(5, "Input/output error")]
)
async def test_a_disk_in_trouble_costs_its_own_lines_only(
    trouble: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    found = lines(await scrape_of(TroubledDesk(disk=trouble))())
    assert "foreman_database_bytes NaN" in found
    assert "foreman_clients_waiting 0.0" in found
    assert "the metrics are not complete" in caplog.text


async def test_a_worker_that_does_not_answer_is_not_waited_for(
    mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = TroubledDesk()
    monkeypatch.setattr(desk, "queue", trio.sleep_forever)
    texts: list[bytes] = []

    async def scrape() -> None:
        texts.append(await scrape_of(desk)())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(scrape)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(PATIENCE)
    assert "foreman_clients_waiting NaN" in lines(texts[0])
