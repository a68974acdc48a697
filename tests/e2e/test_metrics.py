"""GET /metrics of a real daemon: each thing that happens is counted where it should be."""

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from foreman.metrics.counts import Metrics
from tests.e2e.processes import chat, until
from tests.fakes.daemon import Daemon, connected, daemon


async def scrape(foreman: Daemon) -> dict[str, float]:
    """`name{label values}` -> value; the labels in the order of their names."""
    answer = await foreman.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            labels = ",".join(value for _, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


async def test_calls_and_jobs_are_counted_by_model_and_route(tmp_path: Path) -> None:
    async with daemon(tmp_path) as foreman:
        await foreman.polled()
        assert (await foreman.client.post("/api/chat", json=chat())).status_code == 200
        job = (await foreman.client.post("/jobs", json={"request": chat()})).json()
        await foreman.job_ended(job["id"])
        await foreman.client.post("/api/embed", json={"model": "embedder", "input": "x"})
        await foreman.client.get("/nowhere")
        seen = await scrape(foreman)
    for job_class in ("interactive", "batch"):
        assert seen[f"foreman_wait_seconds_count{{{job_class},small:latest}}"] == 1
        assert seen[f"foreman_work_seconds_count{{{job_class},small:latest}}"] == 1
        assert seen[f"foreman_jobs_total{{{job_class},,done}}"] == 1
    assert seen["foreman_loads_total{small:latest}"] == 1
    assert seen["foreman_load_seconds_count{small:latest}"] == 1
    assert seen["foreman_target_first_byte_seconds_count{small:latest}"] == 2
    assert seen["foreman_tokens_per_second_count{small:latest}"] == 2
    assert seen["foreman_http_requests_total{POST,/api/chat,200}"] == 1
    assert seen["foreman_http_request_seconds_count{POST,/jobs}"] == 1
    assert seen["foreman_http_requests_total{other,other,404}"] == 1
    assert seen["foreman_http_in_flight{/metrics}"] == 1
    assert seen["foreman_store_sync_seconds_count{}"] >= 3
    assert seen["foreman_store_sync_seconds_sum{}"] <= seen["foreman_store_commit_seconds_sum{}"]
    assert seen["foreman_database_bytes{}"] > 4096
    assert seen["foreman_disk_free_bytes{}"] > 0
    assert seen["foreman_connections{}"] >= 1


async def test_a_client_that_leaves_the_queue_is_counted_and_no_longer_under_way(
    tmp_path: Path,
) -> None:
    async with daemon(tmp_path) as foreman:
        await foreman.polled()
        foreman.engine.loads.close()
        async with foreman.crowd(3):
            seen = await scrape(foreman)
            assert seen["foreman_http_in_flight{/api/chat}"] == 3
            assert seen["foreman_clients_waiting{}"] == 2
            assert seen["foreman_queue_jobs{interactive,small:latest}"] == 2
            running = {name: n for name, n in seen.items() if name.startswith("foreman_running")}
            assert sum(running.values()) == 1

        async def gone() -> bool:
            return (await scrape(foreman))["foreman_http_in_flight{/api/chat}"] == 0

        await until(gone)
        seen = await scrape(foreman)
        assert seen["foreman_http_requests_total{POST,/api/chat,499}"] == 3
        assert seen["foreman_http_request_seconds_count{POST,/api/chat}"] == 3
        foreman.engine.loads.open()


async def test_connections_are_counted_while_they_are_open(tmp_path: Path) -> None:
    async with daemon(tmp_path) as foreman:
        async with connected(foreman.url) as other:
            await other.get("/healthz")
            assert (await scrape(foreman))["foreman_connections{}"] == 2

        async def own_alone() -> bool:
            return (await scrape(foreman))["foreman_connections{}"] == 1

        await until(own_alone)


async def test_subscribers_are_counted_while_they_listen(tmp_path: Path) -> None:
    async with daemon(tmp_path) as foreman:
        async with foreman.client.stream("GET", "/events"):
            assert (await scrape(foreman))["foreman_event_subscribers{}"] == 1

        async def none() -> bool:
            return (await scrape(foreman))["foreman_event_subscribers{}"] == 0

        await until(none)


async def test_every_actor_and_mailbox_has_its_line_from_the_start(tmp_path: Path) -> None:
    async with daemon(tmp_path) as foreman:
        seen = await scrape(foreman)
    actors = ("store", "poller", "worker", "embed", "webhooks", "ingress")
    for actor in actors:
        assert seen[f"foreman_actor_restarts_total{{{actor}}}"] == 0
    for mailbox in actors[:-1]:
        assert seen[f"foreman_mailbox_capacity{{{mailbox}}}"] > 0
        assert f"foreman_mailbox_messages{{{mailbox}}}" in seen


async def test_a_daemon_exposes_its_table_and_nothing_else(tmp_path: Path) -> None:
    async with daemon(tmp_path) as foreman:
        text = (await foreman.client.get("/metrics")).text
    exposed = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")}
    described = {line.name for line in Metrics().table}
    assert {name for name in exposed if name.startswith("foreman_")} == {
        name for name in described if name.startswith("foreman_")
    }
