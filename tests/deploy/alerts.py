"""deploy/prometheus/alerts.yml, and its texts as they stand in docs/how-to/monitoring.md.

`python -m tests.deploy.alerts` writes them there.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy/prometheus/alerts.yml"
PAGE = ROOT / "docs/how-to/monitoring.md"
BEGIN = "<!-- Made from deploy/prometheus/alerts.yml by `python -m tests.deploy.alerts`. -->\n"
END = "<!-- The end of what is made. -->\n"


class Alert(NamedTuple):
    """One alert; `after` is how long its expression must hold, empty for at once."""

    name: str
    expression: str
    after: str
    severity: str
    annotations: dict[str, str]


def alerts() -> list[Alert]:
    """Those of the file."""
    [group] = yaml.safe_load(RULES.read_text())["groups"]
    return [_alert(rule) for rule in group["rules"]]


def _alert(rule: dict[str, Any]) -> Alert:
    return Alert(
        rule["alert"],
        rule["expr"],
        rule.get("for", ""),
        rule["labels"]["severity"],
        rule["annotations"],
    )


def section() -> str:
    """The part of the page that tells of each alert."""
    return "".join(_told(alert) for alert in alerts())


def _told(alert: Alert) -> str:
    when = f"`{alert.expression}`" + (f" for {alert.after}" if alert.after else "")
    lines = (
        f"### {alert.name}",
        f"{alert.severity.capitalize()}. {alert.annotations['description']}",
        f"**What to do:** {alert.annotations['action']}",
        f"Fires on {when}.",
    )
    return "".join(f"{line}\n\n" for line in lines)


def page(text: str) -> str:
    """The page with the section put in."""
    between = re.compile(f"(?<={re.escape(BEGIN)}).*(?={re.escape(END)})", re.DOTALL)
    assert between.search(text), "the page has lost its marks"
    return between.sub(lambda _: f"\n{section()}", text)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
