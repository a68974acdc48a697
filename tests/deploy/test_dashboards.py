"""The dashboard and the alerts: they ask for what a daemon has, and say what they mean."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from foreman.cli.page import text as page_of_commands
from foreman.config import Settings
from foreman.metrics.counts import Metrics
from foreman.queue_view import QueueView
from tests.deploy.alerts import PAGE, ROOT, RULES, Alert, alerts, page
from tests.deploy.promql import GRAFANA, problems

DASHBOARD = json.loads((ROOT / "deploy/grafana/foreman.json").read_text())
SCRAPE_CONFIG = ROOT / "deploy/prometheus/prometheus.yml"
COMMANDS = page_of_commands()
WIDTH = 24  # columns of Grafana's grid
IDLE = QueueView(None, None, (), (), loads=0, fcfs_loads=0, target_away=False)

promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed; it comes with Prometheus"
)


def panels() -> list[dict[str, Any]]:
    return [each for each in DASHBOARD["panels"] if each["type"] != "row"]


def expressions() -> Iterator[tuple[str, str]]:
    """What asks, and what for."""
    for panel in panels():
        for target in panel["targets"]:
            yield f"{panel['title']}, {target['refId']}", target["expr"]
    for note in DASHBOARD["annotations"]["list"]:
        yield f"annotation {note['name']}", note["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            called = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["definition"])
            assert called, variable["definition"]
            yield f"variable {variable['name']}", f"count by ({called[2]}) ({called[1]})"
    for alert in alerts():
        yield alert.name, alert.expression


@pytest.mark.parametrize("expression", [pytest.param(e, id=where) for where, e in expressions()])
def test_an_expression_asks_for_series_and_labels_that_a_daemon_has(expression: str) -> None:
    assert problems(expression) == []


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("foreman_nothing", "no daemon has foreman_nothing"),
        ("foreman_wait_seconds", "no daemon has foreman_wait_seconds"),
        ("foreman_target_up_bucket", "no daemon has foreman_target_up_bucket"),
        ('foreman_queue_jobs{colour="red"}', "foreman_queue_jobs has no label colour"),
        ("sum by (code) (foreman_target_up)", "no series of it has the label code"),
        ("foreman_target_up * on (le) up", "no series of it has the label le"),
    ],
)
def test_a_wrong_expression_is_noticed(expression: str, told: str) -> None:
    assert told in problems(expression)


def test_what_does_not_parse_is_noticed() -> None:
    with pytest.raises(ValueError, match="expected type"):
        problems("rate(foreman_jobs_total)")


# ---------------------------------------------------------------- the dashboard


def test_every_panel_has_a_number_and_a_place_of_its_own() -> None:
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)
    taken = [(panel["title"], panel["gridPos"]) for panel in DASHBOARD["panels"]]
    for title, at in taken:
        assert at["x"] >= 0 and at["x"] + at["w"] <= WIDTH, title
    overlapping = [
        (first, second)
        for (first, a), (second, b) in combinations(taken, 2)
        if a["x"] < b["x"] + b["w"] and b["x"] < a["x"] + a["w"]
        if a["y"] < b["y"] + b["h"] and b["y"] < a["y"] + a["h"]
    ]
    assert overlapping == []


def test_every_panel_says_what_it_shows_and_in_which_unit() -> None:
    for panel in panels():
        assert panel["title"] and panel["description"], panel
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["targets"], panel["title"]


def test_everything_reads_from_the_chosen_data_source() -> None:
    variables = {each["name"]: each for each in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    asking = [*panels(), *(target for panel in panels() for target in panel["targets"])]
    asking += DASHBOARD["annotations"]["list"]
    asking += [each for each in variables.values() if each["type"] == "query"]
    assert all(each["datasource"] == chosen for each in asking)


def test_every_variable_is_there() -> None:
    defined = {f"${each['name']}" for each in DASHBOARD["templating"]["list"]}
    used = {name for _, text in expressions() for name in re.findall(r"\$\w+", text)}
    assert {name for name in used if not name.startswith("$__")} <= defined
    assert used - {"$labels", "$value"} <= set(GRAFANA)


def test_the_dashboard_says_where_to_read_on() -> None:
    named = re.findall(r"docs/\S+\.md", json.dumps(DASHBOARD))
    assert named and all((ROOT / each).is_file() for each in named)


# ---------------------------------------------------------------- the alerts


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)
def test_an_alert_says_what_it_means_and_what_to_do(alert: Alert) -> None:
    assert alert.name.startswith("Foreman")
    assert alert.severity in ("critical", "warning", "info")
    assert set(alert.annotations) == {"summary", "description", "action", "runbook_url"}
    assert "{{ $labels.instance }}" in alert.annotations["summary"]
    place = f"{PAGE.relative_to(ROOT)}#{alert.name.lower()}"
    assert alert.annotations["runbook_url"] == place
    text = " ".join(alert.annotations.values())
    settings = re.findall(r"FOREMAN_(\w+)", text)
    assert all(name.lower() in Settings.model_fields for name in settings)
    commands = re.findall(r"`(foreman [a-z]+(?: [a-z]+)?)", text)
    assert all(re.search(f"^## `{command}\\b", COMMANDS, re.MULTILINE) for command in commands)


def test_the_page_tells_what_the_alerts_tell() -> None:
    text = PAGE.read_text()
    assert page(text) == text, "run python -m tests.deploy.alerts"


def test_the_scrape_configuration_is_what_the_alerts_expect() -> None:
    config = yaml.safe_load(SCRAPE_CONFIG.read_text())
    [scrape] = config["scrape_configs"]
    jobs = {job for each in alerts() for job in re.findall(r'job="(\w+)"', each.expression)}
    assert jobs == {scrape["job_name"]}
    assert config["rule_files"] == [RULES.name]


# ---------------------------------------------------------------- Prometheus' own judgement


def run_promtool(*arguments: str | Path, text: str | None = None) -> None:
    ran = subprocess.run(
        ["promtool", *arguments], input=text, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


@promtool
def test_prometheus_takes_the_rules_and_the_configuration() -> None:
    run_promtool("check", "rules", RULES)
    run_promtool("check", "config", SCRAPE_CONFIG)


@promtool
def test_prometheus_has_no_complaint_about_the_metrics() -> None:
    metrics = Metrics()
    metrics.fill(IDLE, None)
    run_promtool("check", "metrics", text=metrics.text().decode())


@promtool
def test_the_alerts_fire_when_they_should_and_only_then() -> None:
    run_promtool("test", "rules", Path(__file__).parent / "alerts.test.yml")
