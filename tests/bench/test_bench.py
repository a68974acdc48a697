"""A smoke run of the benchmark: it measures all that it promises, however fast it is."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATIENCE = 180  # seconds; it takes some 40
GOALS = {
    "chat_p50",
    "chat_p99",
    "ttft_p50",
    "gap_p50",
    "gap_p99",
    "lines_astray",
    "embed_idle",
    "embed_share",
    "rss_idle",
    "rss_waiting",
    "start",
    "claim_long",
    "start_long",
    "submit_p50",
    "submit_rate",
    "bulk_rate",
    "working_p50",
    "working_seen_p50",
    "event_p99",
    "rss_subscribers",
    "webhooks_one",
    "webhooks_several",
    "webhooks_beside",
    "listing",
    "llm_call",
    "llm_event",
    "llm_import",
    "llm_vendors",
    "trace_loads",
    "trace_bound",
    "trace_gain",
}


def test_a_smoke_run_measures_every_figure_that_has_a_goal(tmp_path: Path) -> None:
    report = tmp_path / "bench.json"
    command = [sys.executable, "-m", "tests.bench", "--quick"]
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
    assert {key for key, each in figures.items() if each["goal"]} == GOALS
    assert all(isinstance(each["met"], bool) for key, each in figures.items() if key in GOALS)
    assert all(each["what"] in done.stdout and each["how"] for each in figures.values())
    assert document["conditions"]["quick"] is True
    assert not list((tmp_path / "work").iterdir())  # the data it needed is gone
