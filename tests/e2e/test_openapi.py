"""The contract that is served is kept: schemathesis against the real daemon."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import schemathesis
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi import checks

from foreman.api import openapi
from foreman.wire import ROUTES, Dialect
from tests.e2e.processes import upstream
from tests.fakes.daemon import connected, spawned

EXAMPLES = 20  # of each operation
CHECKS = (
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
)
BOUNDED: dict[str, dict[str, str]] = {
    "/events": {"follow": "0"},
    "/jobs/{id}/events": {"follow": "0"},
    "/jobs/{id}/wait": {"timeout": "0"},
}
"""Parameters without which an answer may never end."""


@schemathesis.serializer("application/x-ndjson")
def ndjson(context: schemathesis.SerializationContext, value: Any) -> bytes:
    """A submission as the only line of a bulk."""
    return msgspec.json.encode(value) + b"\n"


def test_every_route_of_foremans_own_is_in_the_contract() -> None:
    own = {
        (method, route.path)
        for route in ROUTES
        for method in route.methods
        if route.dialect is Dialect.OWN and method != "HEAD"
    }
    assert set(openapi.OPERATIONS) == own


@pytest.mark.parametrize("part", ["/jobs", "/webhooks", "/"])
async def test_the_daemon_keeps_the_contract(tmp_path: Path, part: str) -> None:
    """In a process of its own: Hypothesis minds who else draws random numbers in this one."""
    async with upstream() as target, spawned(tmp_path / "data", target.url) as foreman:
        async with connected(foreman.url) as client:
            job = {"request": {"model": "small", "messages": [], "stream": False}}
            done = (await client.post("/jobs", json=job)).json()["id"]
            await client.get(f"/jobs/{done}/wait")
            served = (await client.get("/openapi.json")).json()
        paths = [path for path in served["paths"] if _part(path) == part]
        assert paths
        for path in paths:
            await trio.to_thread.run_sync(try_path, served, foreman.url, path, done)


def _part(path: str) -> str:
    first = "/" + path.split("/")[1]
    return first if first in ("/jobs", "/webhooks") else "/"


def try_path(served: dict[str, Any], url: str, path: str, job: str) -> None:
    """Ask the daemon whatever the contract allows, and some of what it does not."""
    schema = schemathesis.openapi.from_dict(served)
    schema.config.update(base_url=url)
    for method in served["paths"][path]:
        operation = schema[path][method.upper()]

        @settings(
            max_examples=EXAMPLES,
            derandomize=True,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(), known=st.booleans())
        def ask(case: schemathesis.Case[Any], *, known: bool) -> None:
            if known and "id" in case.path_parameters:
                case.path_parameters["id"] = job
            case.query = {**case.query, **BOUNDED.get(path, {})}
            case.call_and_validate(checks=list(CHECKS), timeout=20)

        ask()
