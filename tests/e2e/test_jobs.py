"""POST /jobs and what can be done with a job, over real HTTP against the real daemon."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.fakes.daemon import Daemon, daemon, until

CHAT: dict[str, Any] = {"model": "small", "messages": [{"role": "user", "content": "x"}]}


@pytest.fixture
async def foreman(tmp_path: Path) -> AsyncGenerator[Daemon]:
    async with daemon(tmp_path / "data") as running:
        await running.polled()
        yield running


async def submit(foreman: Daemon, headers: dict[str, str] | None = None, **fields: Any) -> Any:
    answer = await foreman.client.post("/jobs", json={"request": CHAT} | fields, headers=headers)
    assert answer.status_code == 202, answer.text
    return answer.json()


async def ended(foreman: Daemon, job: str) -> Any:
    return (await foreman.client.get(f"/jobs/{job}/wait")).json()


async def occupied(foreman: Daemon) -> Any:
    """Submit a job that has the slot for as long as the target's loads are held up."""
    foreman.engine.loads.close()
    job = await submit(foreman)

    async def is_loading() -> bool:
        return bool((await foreman.job(job["id"]))["state"] == "loading")

    await until(is_loading)
    return job


# ---------------------------------------------------------------- taken


async def test_a_job_is_taken_run_and_shown_with_its_result(foreman: Daemon) -> None:
    answer = await foreman.client.post("/jobs", json={"request": CHAT, "labels": {"team": "ä"}})
    taken = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/jobs/{taken['id']}"
    assert (taken["state"], taken["class"], taken["position"]) == ("queued", "batch", 0)
    done = await ended(foreman, taken["id"])
    assert (done["state"], done["labels"], done["error"]) == ("done", {"team": "ä"}, None)
    assert done["result"]["message"] == {"role": "assistant", "content": "one 2 3 4 5 6 7 8"}
    assert done["result"]["eval_count"] == done["tokens_out"] == 8
    assert [each["name"] for each in done["artifacts"]] == ["result.ndjson"]


@pytest.mark.parametrize(
    ("endpoint", "request_", "found"),
    [
        ("/api/generate", {"model": "small", "prompt": "x"}, "response"),
        ("/api/chat", CHAT | {"stream": False}, "message"),
        ("/v1/chat/completions", CHAT, "choices"),
        ("/v1/messages", CHAT | {"max_tokens": 9}, "content"),
        ("/api/embed", {"model": "embedder", "input": "x"}, "embeddings"),
    ],
)
async def test_every_kind_of_call_can_be_a_job(
    foreman: Daemon, endpoint: str, request_: dict[str, Any], found: str
) -> None:
    job = await submit(foreman, endpoint=endpoint, request=request_)
    done = await ended(foreman, job["id"])
    assert (done["state"], done["endpoint"]) == ("done", endpoint)
    assert found in done["result"]


async def test_a_stream_of_openais_is_kept_as_its_records(foreman: Daemon) -> None:
    job = await submit(foreman, endpoint="/v1/chat/completions", request=CHAT | {"stream": True})
    done = await ended(foreman, job["id"])
    deltas = [each["choices"][0]["delta"].get("content", "") for each in done["result"]]
    assert "".join(deltas) == "one 2 3 4 5 6 7 8"


async def test_the_position_counts_the_jobs_that_run_before(foreman: Daemon) -> None:
    running = await occupied(foreman)
    jobs = [await submit(foreman), await submit(foreman), await submit(foreman, priority=5)]
    shown = [(await foreman.job(each["id"]))["position"] for each in (running, *jobs)]
    assert shown == [None, 2, 3, 1]
    foreman.engine.loads.open()


# ---------------------------------------------------------------- once


async def test_the_same_key_and_body_are_the_same_job(foreman: Daemon) -> None:
    key = {"Idempotency-Key": "order-1"}
    first = await submit(foreman, key)
    again = await foreman.client.post("/jobs", json={"request": CHAT}, headers=key)
    other = await foreman.client.post("/jobs", json={"request": CHAT, "priority": 1}, headers=key)
    assert (again.status_code, again.json()["id"]) == (200, first["id"])
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    assert len(await foreman.jobs()) == 1


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        (b"", 400, "invalid", ""),
        (b'{"request":{"model":"small"},"prio":1}', 400, "invalid", "/prio"),
        (b'{"request":{"model":"nope","messages":[1]}}', 404, "model_not_found", "/request/model"),
        (b'{"request":{"messages":[]}}', 400, "invalid", "/request"),
        (b'{"request":{"model":"x:cloud","messages":[1]}}', 400, "cloud_model", "/request/model"),
        (b'{"request":{"model":"faraway:cloud"}}', 400, "cloud_model", "/request/model"),
        (
            b'{"request":{"model":"small"},"webhook":{"url":"http://127.0.0.1:1/"}}',
            400,
            "webhook_blocked",
            "/webhook/url",
        ),
    ],
)
async def test_a_bad_submission_is_a_problem_that_names_the_field(
    foreman: Daemon, body: bytes, status: int, code: str, field: str
) -> None:
    answer = await foreman.client.post("/jobs", content=body)
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, problem["status"]) == (status, status)
    assert (problem["code"], problem["field"]) == (code, field)
    assert await foreman.jobs() == []


async def test_a_full_queue_is_said_and_keeps_what_it_has(tmp_path: Path) -> None:
    async with daemon(tmp_path / "data", max_queue=2) as foreman:
        running = await occupied(foreman)
        waiting = [await submit(foreman), await submit(foreman)]
        full = await foreman.client.post("/jobs", json={"request": CHAT})
        assert (full.status_code, full.json()["code"]) == (429, "queue_full")
        assert int(full.headers["retry-after"]) > 0
        foreman.engine.loads.open()
        for job in (running, *waiting):
            assert (await ended(foreman, job["id"]))["state"] == "done"
        assert len(await foreman.jobs()) == 3


async def test_a_body_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    async with daemon(tmp_path / "data", max_body=1000) as foreman:
        answer = await foreman.client.post("/jobs", content=b" " * 1001)
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


# ---------------------------------------------------------------- many


async def test_each_line_of_a_bulk_stands_for_itself(foreman: Daemon) -> None:
    lines = [
        json.dumps({"request": CHAT, "idempotency_key": "a"}),
        "",
        "nope",
        json.dumps({"request": CHAT | {"model": "absent"}}),
        json.dumps({"request": CHAT, "idempotency_key": "a"}),
        json.dumps({"request": CHAT}),
    ]
    answer = await foreman.client.post("/jobs/bulk", content="\n".join(lines))
    assert answer.headers["content-type"] == "application/x-ndjson"
    said = [json.loads(line) for line in answer.text.splitlines()]
    assert [(each["line"], each["status"]) for each in said] == [
        (1, 202),
        (2, 400),
        (3, 404),
        (4, 200),
        (5, 202),
    ]
    assert said[0]["job"]["id"] == said[3]["job"]["id"]
    assert said[2]["error"]["code"] == "model_not_found"
    assert len(await foreman.jobs()) == 2


class Bulk:
    """A bulk submission in pieces, read while it is written: no HTTP client does that."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._read = b""

    async def send(self, data: bytes) -> None:
        await self._stream.send_all(b"%x\r\n%b\r\n" % (len(data), data))

    async def answer(self, line: int) -> Any:
        """What was said of this line."""
        mark = b'{"line":%d,' % line
        while mark not in self._read or b"\n" not in self._read.split(mark)[1]:
            self._read += await self._stream.receive_some()
        return json.loads(mark + self._read.split(mark)[1].split(b"\n")[0])


@asynccontextmanager
async def bulk(foreman: Daemon) -> AsyncGenerator[Bulk]:
    stream = await trio.open_tcp_stream("127.0.0.1", foreman.port)
    async with stream:
        head = b"POST /jobs/bulk HTTP/1.1\r\nHost: x.local\r\nTransfer-Encoding: chunked\r\n\r\n"
        await stream.send_all(head)
        yield Bulk(stream)


LINE = json.dumps({"request": CHAT}).encode() + b"\n"


async def test_a_bulk_is_answered_while_it_is_being_sent(foreman: Daemon) -> None:
    async with bulk(foreman) as sending:
        await sending.send(LINE)
        first = await sending.answer(1)
        await sending.send(LINE[:10])
        await sending.send(LINE[10:] + LINE)
        assert [(await sending.answer(line))["status"] for line in (2, 3)] == [202, 202]
        assert (await ended(foreman, first["job"]["id"]))["state"] == "done"


async def test_an_answered_line_stays_when_the_client_breaks_off(foreman: Daemon) -> None:
    async with bulk(foreman) as sending:
        await sending.send(LINE + b'{"request":')
        accepted = await sending.answer(1)
    assert (await ended(foreman, accepted["job"]["id"]))["state"] == "done"
    assert len(await foreman.jobs()) == 1


# ---------------------------------------------------------------- listed and waited for


async def test_jobs_are_listed_by_label_and_page(foreman: Daemon) -> None:
    ids = [(await submit(foreman, labels={"n": str(number % 2)}))["id"] for number in range(4)]
    even = await foreman.jobs(label="n:0")
    assert [each["id"] for each in even] == [ids[2], ids[0]]
    page = (await foreman.client.get("/jobs", params={"limit": "3"})).json()
    rest = (await foreman.client.get("/jobs", params={"before": page["next"]})).json()
    assert [each["id"] for each in page["jobs"] + rest["jobs"]] == ids[::-1]
    assert rest["next"] is None


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("state=gone", "state"),
        ("limit=0", "limit"),
        ("label=x", "label"),
        ("class=x", "class"),
        ("lable=a:b", "lable"),
        ("label=a:b&label=c:d", "label"),
    ],
)
async def test_a_bad_filter_is_named(foreman: Daemon, query: str, field: str) -> None:
    answer = await foreman.client.get(f"/jobs?{query}")
    assert (answer.status_code, answer.json()["field"]) == (400, field)


async def test_a_wait_that_runs_out_shows_the_job_as_it_stands(foreman: Daemon) -> None:
    job = await occupied(foreman)
    answer = await foreman.client.get(f"/jobs/{job['id']}/wait", params={"timeout": "0"})
    assert (answer.status_code, answer.json()["state"]) == (200, "loading")
    foreman.engine.loads.open()


async def test_a_wait_of_nonsense_is_refused(foreman: Daemon) -> None:
    job = await submit(foreman)
    for timeout in ("-1", "x", "nan", "301"):
        answer = await foreman.client.get(f"/jobs/{job['id']}/wait", params={"timeout": timeout})
        assert (answer.status_code, answer.json()["field"]) == (400, "timeout")


async def test_a_job_that_is_not_there_is_said_on_every_route(foreman: Daemon) -> None:
    for path in ("", "/wait", "/artifacts", "/artifacts/result.json", "/output", "/events"):
        answer = await foreman.client.get(f"/jobs/01M7YEJZ3BHEGBNS2ND1QCDRRW{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "job_not_found"), path


# ---------------------------------------------------------------- cancelled


async def test_a_waiting_job_is_cancelled_at_once(foreman: Daemon) -> None:
    await occupied(foreman)
    waiting = await submit(foreman)
    answer = await foreman.client.delete(f"/jobs/{waiting['id']}")
    assert answer.status_code == 200
    assert answer.json()["error"] == {"code": "cancelled", "message": "cancelled on request"}
    again = await foreman.client.delete(f"/jobs/{waiting['id']}")
    assert (again.status_code, again.json()) == (200, answer.json())
    foreman.engine.loads.open()


async def test_the_running_job_is_cancelled_and_the_target_let_go(foreman: Daemon) -> None:
    foreman.engine.tokens.close()
    job = await submit(foreman)
    await foreman.engine.tokens.holds()
    answer = await foreman.client.delete(f"/jobs/{job['id']}")
    assert answer.status_code == 200
    assert answer.json()["error"]["code"] == "cancelled"
    assert (await foreman.queue())["running"] is None
    foreman.engine.tokens.open()


async def test_a_call_is_its_clients_as_a_job_is(tmp_path: Path) -> None:
    async with daemon(tmp_path / "data", token="ann:secret-a,bob:secret-b") as foreman:
        ann = {"Authorization": "Bearer secret-a"}
        answer = await foreman.client.post("/api/chat", json=CHAT | {"stream": False}, headers=ann)
        job = answer.headers["x-foreman-job"]
        assert (await foreman.client.get(f"/jobs/{job}", headers=ann)).status_code == 200
        bob = {"Authorization": "Bearer secret-b"}
        assert (await foreman.client.get(f"/jobs/{job}", headers=bob)).status_code == 404


async def test_a_job_that_has_ended_cannot_be_cancelled(foreman: Daemon) -> None:
    job = await submit(foreman)
    await ended(foreman, job["id"])
    answer = await foreman.client.delete(f"/jobs/{job['id']}")
    assert (answer.status_code, answer.json()["code"]) == (409, "already_done")


# ---------------------------------------------------------------- whose


async def test_a_job_is_seen_by_the_token_that_made_it(tmp_path: Path) -> None:
    """C64."""
    async with daemon(tmp_path / "data", token="ann:secret-a,bob:secret-b") as foreman:
        ann = {"Authorization": "Bearer secret-a"}
        bob = {"Authorization": "Bearer secret-b"}
        job = await submit(foreman, ann | {"Idempotency-Key": "k"})
        other = await submit(foreman, bob | {"Idempotency-Key": "k"})
        assert job["id"] != other["id"]
        for path in ("", "/wait", "/artifacts", "/artifacts/result.ndjson", "/output", "/events"):
            answer = await foreman.client.get(f"/jobs/{job['id']}{path}", headers=bob)
            assert (answer.status_code, answer.json()["code"]) == (404, "job_not_found"), path
        answer = await foreman.client.delete(f"/jobs/{job['id']}", headers=bob)
        assert answer.status_code == 404
        listed = (await foreman.client.get("/jobs", headers=bob)).json()["jobs"]
        assert [each["id"] for each in listed] == [other["id"]]
        events = await foreman.client.get("/events?after=0&follow=0", headers=bob)
        assert {json.loads(line)["job"] for line in events.text.splitlines()} == {other["id"]}
        assert (await foreman.client.get(f"/jobs/{job['id']}", headers=ann)).status_code == 200
        assert (await foreman.client.get(f"/jobs/{job['id']}")).status_code == 401
