import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from foreman import names
from foreman.attempt import Again, Fail, Finish
from foreman.inventory import Installed, Inventory
from foreman.jobs import FailureCode, JobClass, JobId, Requeue
from foreman.metrics import Metrics
from foreman.queue_view import QueueView, WaitingCall, WaitingLane
from foreman.streams import Verdict

QWEN = "qwen3:8b"
IDLE = QueueView(None, None, (), (), loads=0, fcfs_loads=0, target_away=False)


def lane(model: str, job_class: JobClass, jobs: int, oldest: float) -> WaitingLane:
    return WaitingLane(model, model, job_class, jobs, oldest)


@pytest.fixture(name="metrics")
def _metrics() -> Metrics:
    return Metrics(lambda: Inventory({names.key(QWEN): Installed(QWEN)}, degraded=False))


def scrape(metrics: Metrics, queue: QueueView = IDLE) -> dict[str, float]:
    """`name{label values}` -> value, as a Prometheus server reads it."""
    families = text_string_to_metric_families(metrics.exposition(queue).decode())
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
    metrics.loaded(stranger, 1.0)
    metrics.loaded("QWEN3:8b", 1.0)
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
    metrics.concluded(QWEN, JobClass.INTERACTIVE, done)
    metrics.concluded(QWEN, JobClass.BATCH, Fail(FailureCode.TRUNCATED, "cut"))
    metrics.concluded(QWEN, JobClass.BATCH, Again(Requeue.TARGET_LOST, 0.0))
    seen = scrape(metrics)
    assert seen["foreman_jobs_total{interactive,,done}"] == 1
    assert seen["foreman_jobs_total{batch,truncated,failed}"] == 1
    assert seen["foreman_jobs_total{batch,target_lost,queued}"] == 1
    assert seen["foreman_tokens_total{in,qwen3:8b}"] == 12
    assert seen["foreman_tokens_total{out,qwen3:8b}"] == 0


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
    metrics.committed(3, 0.004)
    metrics.waited(JobClass.BATCH, 61.0)
    metrics.loaded(QWEN, 4.0)
    seen = scrape(metrics)
    assert seen["foreman_store_batch_size_bucket{2.0}"] == 0
    assert seen["foreman_store_batch_size_bucket{4.0}"] == 1
    assert seen["foreman_store_commit_seconds_sum{}"] == 0.004
    assert seen["foreman_wait_seconds_bucket{batch,60.0}"] == 0
    assert seen["foreman_wait_seconds_bucket{batch,300.0}"] == 1
    assert seen["foreman_load_seconds_sum{}"] == 4.0


def test_a_request_outside_the_table_of_routes_counts_as_other(metrics: Metrics) -> None:
    metrics.answered("/jobs/{id}", 200)
    metrics.answered("", 404)
    seen = scrape(metrics)
    assert seen["foreman_http_requests_total{/jobs/{id},200}"] == 1
    assert seen["foreman_http_requests_total{other,404}"] == 1


def test_two_daemons_in_one_process_count_apart(metrics: Metrics) -> None:
    metrics.answered("", 404)
    assert "foreman_http_requests_total{other,404}" not in scrape(Metrics())


def test_every_metric_is_described_once_and_exposed(metrics: Metrics) -> None:
    named = [line.name for line in metrics.table]
    text = metrics.exposition(IDLE).decode()
    assert len(set(named)) == len(named)
    assert all(f"# TYPE {name} " in text for name in named)
    assert all(name.startswith("foreman_") for name in named)
