import math
import re
import sys
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter

import msgspec
import pytest
import trio
import trio.testing
from prometheus_client.parser import text_string_to_metric_families

from foreman import __version__, names
from foreman.attempt import Again, Fail, Finish
from foreman.breaker import Breaker
from foreman.inventory import Installed, Inventory
from foreman.jobs import FailureCode, JobClass, JobId, Requeue, State
from foreman.ledger import Backlog
from foreman.metrics.counts import Metrics
from foreman.metrics.gauges import Stock
from foreman.queue_view import QueueView, RunningJob, WaitingCall, WaitingLane
from foreman.streams import Verdict
from foreman.wire import ROUTES

QWEN = "qwen3:8b"
IDLE = QueueView(None, None, (), (), loads=0, fcfs_loads=0, target_away=False)
STOCK = Stock(Backlog(0, 0.0, 0, 0, 0, 0), database=4096, wal=0, free=1 << 30)
CHAT = next(route for route in ROUTES if route.path == "/api/chat")
EVENTS = next(route for route in ROUTES if route.path == "/events")


class Left(BaseException):
    """Stands for trio.Cancelled, which is no Exception either."""


@dataclass
class Answer:
    """An exchange, as far as it is counted."""

    method: str = "POST"
    status: int = 0
    head_at: float = 0.0


def lane(model: str, job_class: JobClass, jobs: int, oldest: float) -> WaitingLane:
    return WaitingLane(model, model, job_class, jobs, oldest)


@pytest.fixture(name="metrics")
def _metrics() -> Metrics:
    return Metrics(lambda: Inventory({names.key(QWEN): Installed(QWEN)}, degraded=False))


def scrape(
    metrics: Metrics, queue: QueueView | None = IDLE, stock: Stock | None = STOCK
) -> dict[str, float]:
    """`name{label values}` -> value, as a Prometheus server reads it."""
    metrics.fill(queue, stock)
    families = text_string_to_metric_families(metrics.text().decode())
    return {
        f"{sample.name}{{{','.join(sample.labels.values())}}}": sample.value
        for family in families
        for sample in family.samples
    }


def test_the_queue_is_what_it_is_at_the_scrape(metrics: Metrics) -> None:
    busy = QueueView(
        None,
        None,
        (
            lane(QWEN, JobClass.BATCH, 2, 7.0),
            lane(QWEN, JobClass.BATCH, 3, 90.0),
            lane(QWEN, JobClass.INTERACTIVE, 1, 4.0),
        ),
        (WaitingCall(JobId("a"), QWEN, 1, 4.0),),
        loads=1,
        fcfs_loads=1,
        target_away=False,
    )
    seen = scrape(metrics, busy)
    assert seen["foreman_queue_jobs{batch,qwen3:8b}"] == 5
    assert seen["foreman_queue_jobs{interactive,qwen3:8b}"] == 1
    assert seen["foreman_queue_oldest_seconds{batch}"] == 90
    assert seen["foreman_clients_waiting{}"] == 1
    later = scrape(metrics)
    assert not [name for name in later if name.startswith("foreman_queue_jobs")]
    assert later["foreman_queue_oldest_seconds{batch}"] == 0
    assert later["foreman_clients_waiting{}"] == 0


@pytest.mark.parametrize("degraded", [True, False])
def test_target_up_follows_the_last_poll(degraded: bool) -> None:
    metrics = Metrics(lambda: Inventory(degraded=degraded))
    assert scrape(metrics)["foreman_target_up{}"] == (not degraded)


@pytest.mark.parametrize("stranger", ["made-up", "../x", "", "qwen3:70b"])
def test_a_model_that_is_not_installed_gets_no_series_of_its_own(
    metrics: Metrics, stranger: str
) -> None:
    metrics.jobs.loaded(stranger, 1.0)
    metrics.jobs.loaded("QWEN3:8b", 1.0)
    queued = (lane(stranger, JobClass.BATCH, 4, 1.0),)
    seen = scrape(metrics, msgspec.structs.replace(IDLE, lanes=queued))
    assert {name: seen[name] for name in seen if name.startswith("foreman_loads")} == {
        "foreman_loads_total{other}": 1,
        "foreman_loads_total{qwen3:8b}": 1,
    }
    assert seen["foreman_queue_jobs{batch,other}"] == 4


def test_swaps_avoided_never_falls(metrics: Metrics) -> None:
    for loads, fcfs_loads, avoided in [(1, 1, 0), (2, 9, 7), (8, 9, 7), (8, 20, 12), (0, 0, 12)]:
        view = QueueView(None, None, (), (), loads, fcfs_loads, target_away=False)
        assert scrape(metrics, view)["foreman_swaps_avoided_total{}"] == avoided


def test_ends_of_attempts_are_told_apart(metrics: Metrics) -> None:
    done = Finish(Verdict(complete=True, tokens_in=12, tokens_out=None), incomplete=False)
    metrics.jobs.concluded(QWEN, JobClass.INTERACTIVE, done, 2.0)
    metrics.jobs.concluded(QWEN, JobClass.BATCH, Fail(FailureCode.TRUNCATED, "cut"), 3.0)
    metrics.jobs.concluded(QWEN, JobClass.BATCH, Again(Requeue.TARGET_LOST, 0.0), 4.0)
    seen = scrape(metrics)
    assert seen["foreman_jobs_total{interactive,,done}"] == 1
    assert seen["foreman_jobs_total{batch,truncated,failed}"] == 1
    assert seen["foreman_jobs_total{batch,target_lost,queued}"] == 1
    assert seen["foreman_tokens_total{in,qwen3:8b}"] == 12
    assert seen["foreman_tokens_total{out,qwen3:8b}"] == 0
    assert seen["foreman_work_seconds_sum{interactive,qwen3:8b}"] == 2
    assert "foreman_work_seconds_sum{batch,qwen3:8b}" not in seen
    assert "foreman_tokens_per_second_sum{qwen3:8b}" not in seen


def test_tokens_per_second_are_those_of_the_work(metrics: Metrics) -> None:
    done = Finish(Verdict(complete=True, tokens_in=None, tokens_out=90), incomplete=False)
    metrics.jobs.concluded(QWEN, JobClass.BATCH, done, 2.0)
    metrics.jobs.concluded(QWEN, JobClass.BATCH, done, 0.0)  # the clock did not move
    seen = scrape(metrics)
    assert seen["foreman_tokens_per_second_count{qwen3:8b}"] == 1
    assert seen["foreman_tokens_per_second_sum{qwen3:8b}"] == 45


def test_what_can_fail_is_at_zero_before_it_does(metrics: Metrics) -> None:
    metrics.supervises(["store", "worker"])
    seen = scrape(metrics)
    assert seen["foreman_loads_total{qwen3:8b}"] == seen["foreman_tokens_total{out,qwen3:8b}"] == 0
    for code in FailureCode:
        assert seen[f"foreman_jobs_total{{batch,{code},failed}}"] == 0
    assert seen["foreman_webhook_attempts_total{retry}"] == 0
    assert seen["foreman_embed_requests_total{failed}"] == 0
    metrics.restarted("worker")
    seen = scrape(metrics)
    assert seen["foreman_actor_restarts_total{store}"] == 0
    assert seen["foreman_actor_restarts_total{worker}"] == 1


@pytest.mark.parametrize(
    ("status", "outcome"), [(200, "ok"), (404, "refused"), (503, "failed"), (0, "cancelled")]
)
def test_an_embedding_is_counted_by_its_outcome(
    metrics: Metrics, status: int, outcome: str
) -> None:
    with metrics.embedding() as call:
        assert scrape(metrics)["foreman_embed_in_flight{}"] == 1
        call.status = status
    seen = scrape(metrics)
    assert seen["foreman_embed_in_flight{}"] == 0
    assert seen[f"foreman_embed_requests_total{{{outcome}}}"] == 1
    assert seen["foreman_embed_seconds_count{}"] == 1


def test_an_embedding_that_crashes_is_over_too(metrics: Metrics) -> None:
    with pytest.raises(OSError, match="gone"), metrics.embedding():
        raise OSError("gone")
    seen = scrape(metrics)
    assert seen["foreman_embed_in_flight{}"] == 0
    assert seen["foreman_embed_requests_total{cancelled}"] == 1


def test_times_and_sizes_fall_into_their_buckets(metrics: Metrics) -> None:
    metrics.committed(3, 0.004, 0.003)
    metrics.jobs.waited(QWEN, JobClass.BATCH, 61.0)
    metrics.jobs.answering(QWEN, 0.2)
    metrics.jobs.loaded(QWEN, 4.0)
    seen = scrape(metrics)
    assert seen["foreman_store_batch_size_bucket{2.0}"] == 0
    assert seen["foreman_store_batch_size_bucket{4.0}"] == 1
    assert seen["foreman_store_commit_seconds_sum{}"] == 0.004
    assert seen["foreman_store_sync_seconds_sum{}"] == 0.003
    assert seen["foreman_wait_seconds_bucket{batch,60.0,qwen3:8b}"] == 0
    assert seen["foreman_wait_seconds_bucket{batch,300.0,qwen3:8b}"] == 1
    assert seen["foreman_target_first_byte_seconds_sum{qwen3:8b}"] == 0.2
    assert seen["foreman_load_seconds_sum{qwen3:8b}"] == 4.0


def test_a_transaction_that_was_rolled_back_has_no_sync(metrics: Metrics) -> None:
    metrics.committed(1, 0.004, None)
    assert scrape(metrics)["foreman_store_sync_seconds_count{}"] == 0


def test_a_request_is_counted_by_its_route(metrics: Metrics) -> None:
    answer = Answer()
    with metrics.http.request(answer) as request:
        request.enter(CHAT)
        assert scrape(metrics)["foreman_http_in_flight{/api/chat}"] == 1
        answer.status, answer.head_at = 200, perf_counter()
    seen = scrape(metrics)
    assert seen["foreman_http_in_flight{/api/chat}"] == 0
    assert seen["foreman_http_requests_total{POST,/api/chat,200}"] == 1
    assert seen["foreman_http_first_byte_seconds_count{POST,/api/chat}"] == 1
    assert seen["foreman_http_request_seconds_count{POST,/api/chat}"] == 1


def test_a_request_outside_the_table_of_routes_counts_as_other(metrics: Metrics) -> None:
    with metrics.http.request(Answer("BREW", 404, 1.0)):
        pass
    seen = scrape(metrics)
    assert seen["foreman_http_requests_total{other,other,404}"] == 1
    assert not [name for name in seen if "BREW" in name]
    assert not [name for name in seen if name.startswith("foreman_http_request_seconds")]


def test_a_client_that_leaves_before_its_answer_is_counted(metrics: Metrics) -> None:
    with pytest.raises(Left), metrics.http.request(Answer()) as request:
        request.enter(CHAT)
        raise Left
    seen = scrape(metrics)
    assert seen["foreman_http_requests_total{POST,/api/chat,499}"] == 1
    assert seen["foreman_http_in_flight{/api/chat}"] == 0
    assert seen["foreman_http_request_seconds_count{POST,/api/chat}"] == 1
    assert "foreman_http_first_byte_seconds_count{POST,/api/chat}" not in seen


def test_an_app_that_crashes_answered_500(metrics: Metrics) -> None:
    with pytest.raises(OSError, match="gone"), metrics.http.request(Answer()) as request:
        request.enter(CHAT)
        raise OSError("gone")
    assert scrape(metrics)["foreman_http_requests_total{POST,/api/chat,500}"] == 1


def test_a_subscription_is_open_and_has_no_duration(metrics: Metrics) -> None:
    answer = Answer("GET", 200, perf_counter())
    with metrics.http.request(answer) as request:
        request.enter(EVENTS)
        seen = scrape(metrics)
        assert seen["foreman_event_subscribers{}"] == 1
        assert "foreman_http_in_flight{/events}" not in seen
    seen = scrape(metrics)
    assert seen["foreman_event_subscribers{}"] == 0
    assert seen["foreman_http_requests_total{GET,/events,200}"] == 1
    assert "foreman_http_request_seconds_count{GET,/events}" not in seen


def test_the_running_job_is_named_and_then_stays_at_zero(metrics: Metrics) -> None:
    running = RunningJob(JobId("a"), QWEN, QWEN, JobClass.BATCH, State.LOADING, 3.0)
    seen = scrape(metrics, msgspec.structs.replace(IDLE, running=running))
    assert seen["foreman_running{batch,qwen3:8b,loading}"] == 1
    working = msgspec.structs.replace(running, state=State.WORKING)
    seen = scrape(metrics, msgspec.structs.replace(IDLE, running=working))
    assert seen["foreman_running{batch,qwen3:8b,loading}"] == 0
    assert seen["foreman_running{batch,qwen3:8b,working}"] == 1
    assert scrape(metrics)["foreman_running{batch,qwen3:8b,working}"] == 0


def test_what_is_not_known_is_not_told(metrics: Metrics) -> None:
    scrape(metrics, msgspec.structs.replace(IDLE, lanes=(lane(QWEN, JobClass.BATCH, 2, 7.0),)))
    seen = scrape(metrics, None, None)
    assert not [name for name in seen if name.startswith("foreman_queue_")]
    for name in ("clients_waiting", "webhook_pending", "webhook_lag_seconds", "database_bytes"):
        assert math.isnan(seen[f"foreman_{name}{{}}"])
    assert seen["foreman_target_up{}"] == 1  # what is known is told all the same


def test_the_stock_is_what_it_is_at_the_scrape(metrics: Metrics) -> None:
    backlog = Backlog(pending=7, lag_s=61.5, dead=2, waiting=3, held=1, disabled=4)
    seen = scrape(metrics, stock=Stock(backlog, database=8192, wal=4096, free=123456))
    assert seen["foreman_webhook_pending{}"] == 7
    assert seen["foreman_webhook_lag_seconds{}"] == 61.5
    assert seen["foreman_webhook_dead{}"] == 2
    states = {"waiting": 3, "held": 1, "disabled": 4}
    for state, count in states.items():
        assert seen[f"foreman_webhook_endpoints{{{state}}}"] == count
    assert seen["foreman_database_bytes{}"] == 8192
    assert seen["foreman_wal_bytes{}"] == 4096
    assert seen["foreman_disk_free_bytes{}"] == 123456


async def test_a_mailbox_counts_those_who_wait_to_send(metrics: Metrics) -> None:
    send, receive = trio.open_memory_channel[int](2)
    metrics.watch_mailbox("worker", receive.statistics)
    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(send.send, number)
        await trio.testing.wait_all_tasks_blocked()
        seen = scrape(metrics)
        assert seen["foreman_mailbox_messages{worker}"] == 3
        assert seen["foreman_mailbox_capacity{worker}"] == 2
        await receive.receive()
    assert scrape(metrics)["foreman_mailbox_messages{worker}"] == 2


def test_the_breaker_of_the_embeddings_is_seen(metrics: Metrics) -> None:
    now = [0.0]
    breaker = Breaker(lambda: now[0], threshold=1)
    metrics.watch_breaker(lambda: breaker.state)
    assert scrape(metrics)["foreman_embed_breaker_open{}"] == 0
    with suppress(OSError), breaker.permit():
        raise OSError
    assert scrape(metrics)["foreman_embed_breaker_open{}"] == 1
    now[0] = 60.0
    assert scrape(metrics)["foreman_embed_breaker_open{}"] == 0


def test_a_failed_backup_leaves_the_time_of_the_last_good_one(metrics: Metrics) -> None:
    metrics.backed_up(1_800_000_000.0, 2.5, ok=True)
    metrics.backed_up(1_800_086_400.0, 0.5, ok=False)
    seen = scrape(metrics)
    assert seen["foreman_backup_last_success_timestamp_seconds{}"] == 1_800_000_000
    assert seen["foreman_backup_seconds{}"] == 0.5
    assert seen["foreman_backup_failures_total{}"] == 1


def test_what_runs_here_is_told(metrics: Metrics) -> None:
    [build] = [name for name in scrape(metrics) if name.startswith("foreman_build_info")]
    assert __version__ in build


def test_two_daemons_in_one_process_count_apart(metrics: Metrics) -> None:
    with metrics.http.request(Answer(status=404)):
        pass
    assert "foreman_http_requests_total{other,other,404}" not in scrape(Metrics())


def test_every_metric_is_described_once_and_exposed(metrics: Metrics) -> None:
    named = [line.name for line in metrics.table]
    metrics.fill(IDLE, STOCK)
    text = metrics.text().decode()
    assert len(set(named)) == len(named)
    own = [name for name in named if not name.startswith("process_")]
    assert all(name.startswith("foreman_") for name in own)
    expected = named if sys.platform == "linux" else own
    assert sorted(expected) == sorted(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))


def test_no_label_is_free(metrics: Metrics) -> None:
    """Each label of each metric is one of these, and their values are few."""
    labels = {label for line in metrics.table for label in line.labels}
    assert labels == {
        "actor", "class", "code", "direction", "mailbox", "method", "model", "outcome", "python",
        "route", "state", "status", "version",
    }  # fmt: skip
