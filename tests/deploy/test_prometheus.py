"""A real Prometheus scrapes a real daemon and answers everything that alerts and dashboard ask."""

import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
import yaml

from foreman.metrics.counts import Metrics
from tests.deploy.alerts import ROOT, RULES, alerts
from tests.deploy.promql import plain
from tests.deploy.test_dashboards import SCRAPE_CONFIG, expressions
from tests.e2e.processes import chat, until, upstream
from tests.fakes.daemon import PATIENCE, connected, spawned

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="prometheus is not installed"
)

ALIVE = {  # what must have an answer a moment after some work was done
    "Ollama, A": 1,
    "Clients waiting, A": 0,
    "Jobs waiting, A": 0,
    "Oldest call, A": 0,
    "Version, A": 1,
    "Disk, A": 0,
    "variable instance": None,
    "variable model": None,
    "Mailboxes, A": None,
    "Free disk, A": None,
    "Database, A": None,
    "Wait of calls, A": None,
    "Commits, C": None,
    "Tokens a second, all told, A": None,
}


@asynccontextmanager
async def prometheus(folder: Path, daemon_url: str) -> AsyncGenerator[httpx.AsyncClient]:
    """Prometheus with the configuration that is shipped, but for the place and the pace."""
    config = yaml.safe_load(SCRAPE_CONFIG.read_text())
    config["global"] = {"scrape_interval": "200ms", "evaluation_interval": "200ms"}
    config["rule_files"] = [str(RULES)]
    at = httpx.URL(daemon_url)
    config["scrape_configs"][0]["static_configs"] = [{"targets": [f"{at.host}:{at.port}"]}]
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    port = await _free_port()
    command = [
        "prometheus",
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    ]
    async with trio.open_nursery() as nursery:
        run = partial(trio.run_process, command, check=False, capture_stderr=True)
        nursery.start_soon(run)
        async with connected(f"http://127.0.0.1:{port}") as client:
            yield client
        nursery.cancel_scope.cancel("the test is over")


async def _free_port() -> int:
    with trio.socket.socket() as probe:
        await probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def ask(client: httpx.AsyncClient, expression: str) -> list[Any]:
    """What it answers to an instant query."""
    answer = await client.get("/api/v1/query", params={"query": plain(expression)})
    document = answer.json()
    assert document["status"] == "success", (expression, document)
    assert not document.get("warnings"), (expression, document)
    result: list[Any] = document["data"]["result"]
    return result


async def test_everything_that_is_asked_for_is_answered(tmp_path: Path) -> None:
    with trio.fail_after(PATIENCE):
        async with upstream() as target, spawned(tmp_path / "data", target.url) as foreman:
            async with (
                connected(foreman.url) as clients,
                prometheus(tmp_path, foreman.url) as client,
            ):
                await until(partial(_has, client, "count_over_time(foreman_target_up[1m]) > 1"))
                for seen in (1, 2):  # a rate needs two points that differ
                    assert (await clients.post("/api/chat", json=chat())).status_code == 200
                    await clients.post("/api/embed", json={"model": "embedder", "input": "x"})
                    counted = f"sum(foreman_wait_seconds_count) == {seen}"
                    await until(partial(_has, client, counted))
                answers = {where: await ask(client, each) for where, each in expressions()}
                for where, value in ALIVE.items():
                    assert answers[where], where
                    if value is not None:
                        assert float(answers[where][0]["value"][1]) == value, where
                assert not [each.name for each in alerts() if answers[each.name]]
                await _knows_every_metric(client)
                await _has_sound_rules(client)


async def _has(client: httpx.AsyncClient, expression: str) -> bool:
    try:
        return bool(await ask(client, expression))
    except (httpx.ConnectError, ValueError):
        return False  # it is starting


async def _knows_every_metric(client: httpx.AsyncClient) -> None:
    names = (await client.get("/api/v1/label/__name__/values")).json()["data"]
    scraped = {name.removesuffix("_bucket") for name in names}
    unlabelled = {line.name for line in Metrics().table if not line.labels}
    assert unlabelled <= scraped


async def _has_sound_rules(client: httpx.AsyncClient) -> None:
    [group] = (await client.get("/api/v1/rules")).json()["data"]["groups"]
    assert group["file"] == str(ROOT / RULES)
    assert [rule["name"] for rule in group["rules"]] == [each.name for each in alerts()]
    assert {rule["health"] for rule in group["rules"]} <= {"ok", "unknown"}
