"""One key, many hands."""

from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from tests.e2e.processes import audit, chat, rows
from tests.fakes.daemon import connected, daemon

HANDS = 100


@pytest.mark.parametrize("inside", [False, True], ids=["header", "line of a bulk"])
async def test_a_hundred_with_one_key_at_once_are_one_job_and_hear_the_same(
    tmp_path: Path, inside: bool
) -> None:
    """Row C56."""
    answers = list[httpx.Response]()
    async with daemon(tmp_path) as foreman, connected(foreman.url) as client:
        await foreman.polled()
        foreman.engine.tokens.close()
        body: dict[str, Any] = {"request": chat()}

        async def submit() -> None:
            if inside:
                line = body | {"idempotency_key": "one"}
                answers.append(await client.post("/jobs/bulk", json=line))
            else:
                headers = {"idempotency-key": "one"}
                answers.append(await client.post("/jobs", json=body, headers=headers))

        async with trio.open_nursery() as nursery:
            for _ in range(HANDS):
                nursery.start_soon(submit)
        foreman.engine.tokens.open()
        said = [answer.json() for answer in answers]
        jobs = [each["job"] if inside else each for each in said]
        statuses = (
            [each["status"] for each in said]
            if inside
            else [answer.status_code for answer in answers]
        )
        assert sorted(statuses) == [200] * (HANDS - 1) + [202]
        [job] = {each["id"] for each in jobs}
        assert (await foreman.job_ended(job))["state"] == "done"
        assert foreman.oracle.max_running == 1
    assert [row["id"] for row in rows(tmp_path, "batch")] == [job]
    assert audit(tmp_path) == []
