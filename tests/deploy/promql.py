"""Which series and labels an expression asks for, and whether a daemon has them."""

import re
from collections.abc import Iterable, Iterator

import promql_parser as promql

from foreman.metrics.counts import Metrics
from foreman.metrics.series import Described

OF_PROMETHEUS = {"instance", "job"}  # the labels that a scrape adds
TABLE = {line.name: line for line in Metrics().table}
GRAFANA = {  # what Grafana puts in before it asks
    "$__rate_interval": "1m",
    "$__interval": "15s",
    "$__range": "6h",
    "$instance": ".*",
    "$model": ".*",
}


def plain(expression: str) -> str:
    """The expression with Grafana's variables filled in."""
    for variable, value in GRAFANA.items():
        expression = expression.replace(variable, value)
    return expression


def problems(expression: str) -> list[str]:
    """What is wrong with it. Raises ValueError when it does not parse, or its types do not fit."""
    tree = promql.parse(plain(expression))
    nodes: list[promql.Expr] = []
    promql.walk(tree, nodes.append)
    selectors = [node for node in nodes if isinstance(node, promql.VectorSelector)]
    found = [problem for each in selectors for problem in _of_selector(each)]
    known = {label for each in selectors for label in _labels(each.name or "")}
    found += [
        f"no series of it has the label {label}"
        for node in nodes
        for label in _grouped(node)
        if label not in known
    ]
    return found if selectors or "vector(" in expression else [*found, "it asks for nothing"]


def _of_selector(selector: promql.VectorSelector) -> Iterator[str]:
    name = selector.name or ""
    if name != "up" and _line(name) is None:
        yield f"no daemon has {name}"
        return
    for matcher in selector.matchers.matchers:
        if matcher.name not in _labels(name):
            yield f"{name} has no label {matcher.name}"


def _line(name: str) -> Described | None:
    """The metric that has a series of this name."""
    if (line := TABLE.get(name)) is not None:
        return line if line.kind != "histogram" else None
    line = TABLE.get(re.sub("_(bucket|sum|count)$", "", name))
    return line if line is not None and line.kind == "histogram" else None


def _labels(name: str) -> set[str]:
    line = _line(name)
    own = set(line.labels) if line else set()
    return own | OF_PROMETHEUS | ({"le"} if name.endswith("_bucket") else set())


def _grouped(node: promql.Expr) -> Iterable[str]:
    """The labels that an aggregation or a join names."""
    if isinstance(node, promql.AggregateExpr) and node.modifier is not None:
        yield from node.modifier.labels
    if isinstance(node, promql.BinaryExpr):
        matching = node.modifier and node.modifier.matching
        yield from matching.labels if matching else ()
