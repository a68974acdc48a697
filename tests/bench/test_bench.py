"""A smoke run of the benchmark: it measures all that it promises, however fast it is."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.__main__ import PARTS

ROOT = Path(__file__).parents[2]
PATIENCE = 120  # seconds; the longest takes some 20
GOALS = {
    "relay": {
        *("chat_p50", "chat_p99", "ttft_p50", "gap_p50", "gap_p99", "lines_astray"),
        *("embed_idle", "embed_share"),
    },
    "footprint": {"rss_idle", "rss_waiting", "start", "claim_long", "start_long"},
    "headline": {"trace_loads", "trace_bound", "trace_gain"},
    "jobs": {"submit_p50", "submit_rate", "bulk_rate", "working_p50", "working_seen_p50"},
    "subscribers": {"event_p99", "rss_subscribers"},
    "webhooks": {"webhooks_one", "webhooks_several", "webhooks_beside"},
    "listing": {"listing"},
    "backup": {"backup_ratio"},
    "llm": {"llm_call", "llm_event", "llm_import", "llm_vendors"},
    "restart": {"restart_failures", "restart_wait"},
    "observability": {"metrics_chat", "metrics_cpu", "metrics_jobs"},
    "traces": {"traces_p50", "traces_cpu"},
}
"""By part, the figures that have a goal."""


def test_each_part_has_goals() -> None:
    assert GOALS.keys() == PARTS.keys()


@pytest.mark.parametrize("part", PARTS)
def test_a_smoke_run_measures_every_figure_that_has_a_goal(part: str, tmp_path: Path) -> None:
    report = tmp_path / "bench.json"
    command = [sys.executable, "-m", "tests.bench", "--quick", "--only", part]
    done = subprocess.run(
        [*command, "--json", report, "--work", tmp_path / "work"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(report.read_text())
    figures = {each["key"]: each for each in document["figures"]}
    assert {key for key, each in figures.items() if each["goal"]} == GOALS[part]
    assert all(isinstance(figures[key]["met"], bool) for key in GOALS[part])
    assert all(each["what"] in done.stdout and each["how"] for each in figures.values())
    assert document["conditions"]["quick"] is True
    assert not list((tmp_path / "work").iterdir())  # the data it needed is gone
