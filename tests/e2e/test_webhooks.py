"""Webhooks over real sockets: from POST /jobs to a receiver that checks them; bad receivers."""

import signal
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from foreman import ledger, outbox
from foreman.database import open_writer
from tests.e2e.processes import audit, chat, until, upstream
from tests.e2e.receiver import SECRET, Receiver, receiver
from tests.e2e.targets import free_port
from tests.fakes.daemon import Daemon, connected, daemon, spawned

EVERY = ["job.queued", "job.loading", "job.working", "job.done"]
ALLOW = "127.0.0.0/8"


@pytest.fixture
async def hook() -> AsyncGenerator[Receiver]:
    async with receiver() as listening:
        yield listening


@pytest.fixture
async def foreman(tmp_path: Path) -> AsyncGenerator[Daemon]:
    settings: dict[str, Any] = {
        "webhook_secret": SECRET,
        "webhook_allow": ALLOW,
        "webhook_timeout": "300ms",
    }
    async with daemon(tmp_path / "data", **settings) as running:
        await running.polled()
        yield running


async def submit(client: httpx.AsyncClient, url: str, *events: str, **more: Any) -> str:
    webhook = {"url": url, "events": list(events or ("*",))}
    order = {"request": chat(), "webhook": webhook} | more
    answer = await client.post("/jobs", json=order)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def deliveries(client: httpx.AsyncClient, **query: str) -> list[Any]:
    """Oldest first."""
    found: list[Any] = (await client.get("/webhooks/deliveries", params=query)).json()["deliveries"]
    return found[::-1]


async def settled(client: httpx.AsyncClient, count: int) -> list[Any]:
    """The ledger, once so many messages have come to an end."""

    async def all_ended() -> bool:
        found = await deliveries(client)
        return len(found) == count and all(each["settled_at"] for each in found)

    await until(all_ended)
    return await deliveries(client)


async def tried(foreman: Daemon, url: str) -> Any:
    """The answer of POST /webhooks/test."""
    answer = await foreman.client.post("/webhooks/test", json={"url": url})
    assert answer.status_code == 200, answer.text
    return answer.json()


@asynccontextmanager
async def saying(answer: bytes, *, patient: bool = False) -> AsyncGenerator[str]:
    """A server that says these bytes to everybody, and no more, or (`patient`) may yet; its URL."""

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            with suppress(trio.BrokenResourceError):  # the other side may have enough
                await stream.send_all(answer)
                if not patient:
                    await stream.send_eof()
                async for _ in stream:
                    pass

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.serve_listeners, serve, listeners))
        yield f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/"
        nursery.cancel_scope.cancel("the test is over")


# ---------------------------------------------------------------- delivered


async def test_every_event_of_a_job_arrives_signed_and_in_order(
    foreman: Daemon, hook: Receiver
) -> None:
    job = await submit(foreman.client, hook.url, artifacts="inline")
    ledger_ = await settled(foreman.client, 4)
    assert [type_ for _, type_ in hook.events] == EVERY
    assert [each["type"] for each in ledger_] == EVERY
    assert [each["id"] for each in ledger_] == [each.id for each in hook.messages]
    assert {each["state"] for each in ledger_} == {"delivered"}
    assert [each["status"] for each in ledger_[0]["attempts"]] == [200]
    done = hook.messages[-1].data
    assert done["result"]["message"]["role"] == "assistant"
    [artifact] = done["artifacts"]
    assert artifact["url"] == f"/jobs/{job}/artifacts/result.ndjson"
    assert (await foreman.client.get(artifact["url"])).status_code == 200
    assert (await foreman.job(job))["result"] == done["result"]


async def test_the_result_stays_behind_unless_it_was_asked_for_inline(
    foreman: Daemon, hook: Receiver
) -> None:
    await submit(foreman.client, hook.url, "job.done")
    await settled(foreman.client, 1)
    [message] = hook.messages
    assert "result" not in message.data
    assert b"content" not in message.body.replace(b"content_type", b"")


async def test_an_endpoint_shows_how_it_fares(foreman: Daemon, hook: Receiver) -> None:
    await submit(foreman.client, hook.url, "job.done")
    await settled(foreman.client, 1)
    [found] = (await foreman.client.get("/webhooks/endpoints")).json()["endpoints"]
    assert found.pop("last_success_at").endswith("Z")
    assert found == {
        "url": hook.url,
        "state": "ok",
        "reason": None,
        "pending": 0,
        "dead": 0,
        "retry_in": None,
    }


async def test_a_test_message_is_signed_and_its_answer_told(
    foreman: Daemon, hook: Receiver
) -> None:
    found = await tried(foreman, hook.url)
    assert (found["status"], found["error"], found["signed"]) == (200, None, True)
    assert b"foreman.test" in hook.messages[0].body


# ---------------------------------------------------------------- killed


async def test_a_daemon_killed_before_it_wrote_down_an_answer_sends_it_again_and_in_order(
    tmp_path: Path, hook: Receiver
) -> None:
    """D71: twice, under the same id; what comes after it still comes after it."""
    settings = {"webhook_secret": SECRET, "webhook_allow": ALLOW}
    async with upstream() as target:
        hook.gate.close()
        async with (
            spawned(tmp_path, target.url, **settings) as foreman,
            connected(foreman.url) as client,
        ):
            await submit(client, hook.url)
            await until(lambda: len(hook.messages) == 1)
            foreman.process.send_signal(signal.SIGKILL)
            await foreman.process.wait()
        hook.gate.open()
        due_now(tmp_path)
        async with (
            spawned(tmp_path, target.url, **settings) as foreman,
            connected(foreman.url) as client,
        ):
            await until(lambda: "job.done" in [event for _, event in hook.events])
            await settled(client, len(hook.messages) - 1)
    ids = [each.id for each in hook.messages]
    assert ids[0] == ids[1]
    assert hook.messages[0].body == hook.messages[1].body
    assert ids[1:] == sorted(set(ids))
    assert hook.events[-1][1] == "job.done"
    assert audit(tmp_path) == []


def due_now(folder: Path) -> None:
    """Instead of waiting for the five seconds until the second attempt."""
    now = time.time_ns() // 1000
    with open_writer(folder, now=now, ballast=4096) as database:
        ids = ledger.replayable(database.connection, ledger.Selection())
        outbox.replay(database.connection, ids, now)
        database.close()


# ---------------------------------------------------------------- receivers that misbehave


BAD_HEADS = {
    "no HTTP at all": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "an invalid status line": b"HTTP/1.1 abc OK\r\n\r\n",
    "10 MB of headers": b"HTTP/1.1 200 OK\r\n" + b"x-filler: " + b"x" * 10_000_000 + b"\r\n\r\n",
    "a head that breaks off": b"HTTP/1.1 200 OK\r\ncontent-",
}


@pytest.mark.parametrize("what", BAD_HEADS)
async def test_an_answer_that_is_none_is_a_failed_attempt(foreman: Daemon, what: str) -> None:
    """D73."""
    async with saying(BAD_HEADS[what]) as url:
        found = await tried(foreman, url)
    assert found["status"] is None
    assert "RemoteProtocolError" in found["error"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_to_the_inside_is_not_followed(
    foreman: Daemon, hook: Receiver, status: int
) -> None:
    """D68."""
    head = f"HTTP/1.1 {status} Moved\r\nlocation: {hook.url}\r\ncontent-length: 0\r\n\r\n"
    async with saying(head.encode()) as url:
        found = await tried(foreman, url)
    assert (found["status"], found["error"]) == (status, "a redirect, which is not followed")
    assert hook.messages == []


@pytest.mark.parametrize(
    ("answer", "status", "error"),
    [
        (b"", None, "no answer within 0.3 s"),
        (b"HTTP/1.1 200 OK\r\nx-slow:", None, "no answer within 0.3 s"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n1", 200, None),
        (b"HTTP/1.1 503 Busy\r\ncontent-length: 9999999\r\n\r\n" + b"x" * 9_000_000, 503, None),
    ],
)
async def test_a_receiver_that_never_finishes_is_cut_off(
    foreman: Daemon, answer: bytes, status: int | None, error: str | None
) -> None:
    """D66."""
    async with saying(answer, patient=True) as url:
        found = await tried(foreman, url)
    assert (found["status"], found["error"]) == (status, error)
    assert found["seconds"] < 2


async def test_a_2xx_counts_although_the_connection_is_reset_before_the_body(
    foreman: Daemon,
) -> None:
    """D70."""
    async with saying(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n") as url:
        await submit(foreman.client, url, "job.done")
        [delivered] = await settled(foreman.client, 1)
    assert delivered["state"] == "delivered"


async def test_nobody_there_is_a_failed_attempt(foreman: Daemon) -> None:
    """D65."""
    found = await tried(foreman, f"http://127.0.0.1:{await free_port()}/")
    assert found["status"] is None
    assert found["error"].startswith("ConnectError")


async def test_an_address_that_is_no_longer_allowed_is_a_dead_letter(
    tmp_path: Path, hook: Receiver
) -> None:
    """D72: it is judged at each attempt, not only when it is submitted."""
    hook.gate.close()
    impatient: dict[str, Any] = {"shutdown_grace": "500ms"}
    async with daemon(tmp_path, webhook_allow=ALLOW, webhook_secret=SECRET, **impatient) as foreman:
        await foreman.polled()
        await submit(foreman.client, hook.url, "job.done")
        await until(lambda: len(hook.messages) == 1)
    due_now(tmp_path)
    async with daemon(tmp_path, webhook_secret=SECRET) as foreman:
        [dead] = await settled(foreman.client, 1)
        assert dead["state"] == "dead"
        assert "FOREMAN_WEBHOOK_ALLOW" in dead["attempts"][-1]["error"]
        refused = {"request": chat(), "webhook": {"url": hook.url}}
        assert (await foreman.client.post("/jobs", json=refused)).status_code == 400
    assert len(hook.messages) == 1


# ---------------------------------------------------------------- by hand


async def test_a_gone_endpoint_is_enabled_by_hand_and_its_dead_letters_replayed(
    foreman: Daemon,
) -> None:
    """D69."""
    async with saying(b"HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n") as url:
        job = await submit(foreman.client, url)
        ledger_ = await settled(foreman.client, 4)
    assert {each["state"] for each in ledger_} == {"dead"}
    post = foreman.client.post
    again = {"job": job, "state": "dead"}
    assert (await post("/webhooks/deliveries/replay", json=again)).json()["code"] == (
        "endpoint_disabled"
    )
    enabled = await post("/webhooks/endpoints/enable", json={"url": url})
    assert (enabled.status_code, enabled.json()["state"]) == (200, "ok")
    replayed = await post("/webhooks/deliveries/replay", json=again)
    assert (replayed.status_code, replayed.json()) == (202, {"replayed": 4})

    async def tried_again() -> bool:
        found = await deliveries(foreman.client)
        return [each["status"] for each in found[0]["attempts"]] == [410, None]

    await until(tried_again)  # nobody listens there any more


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "field"),
    [
        ("deliveries/replay", {}, 400, "invalid", ""),
        ("deliveries/replay", {"id": "a", "job": "b"}, 400, "invalid", ""),
        ("deliveries/replay", {"after": "2027-01-15T08:00:00Z"}, 400, "invalid", ""),
        ("deliveries/replay", {"after": "yesterday", "before": 1}, 400, "invalid", "/after"),
        ("deliveries/replay", {"jobs": "b"}, 400, "invalid", "/jobs"),
        ("deliveries/replay", {"id": "msg_none"}, 404, "no_such_delivery", "/id"),
        ("endpoints/enable", {"url": "http://nobody/"}, 404, "no_such_endpoint", "/url"),
        ("endpoints/enable", {}, 400, "invalid", "/url"),
        ("test", {"url": 7}, 400, "invalid", "/url"),
    ],
)
async def test_a_request_that_cannot_be_is_refused_with_its_place(
    foreman: Daemon, path: str, body: Any, status: int, code: str, field: str
) -> None:
    answer = await foreman.client.post(f"/webhooks/{path}", json=body)
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["field"]) == (status, code, field)


async def test_the_ledger_is_paged(foreman: Daemon, hook: Receiver) -> None:
    await submit(foreman.client, hook.url)
    await settled(foreman.client, 4)
    get = partial(foreman.client.get, "/webhooks/deliveries")
    first = (await get(params={"limit": "3"})).json()
    second = (await get(params={"limit": "3", "before": first["next"]})).json()
    assert [len(first["deliveries"]), len(second["deliveries"])] == [3, 1]
    assert second["next"] is None
    assert (await get(params={"state": "gone"})).json()["field"] == "state"


async def test_a_client_sees_and_replays_only_what_its_own_jobs_caused(
    tmp_path: Path, hook: Receiver
) -> None:
    both = "alice:aaaaaaaaaaaaaaaa,bob:bbbbbbbbbbbbbbbb"
    async with daemon(tmp_path, token=both, webhook_allow=ALLOW, webhook_secret=SECRET) as foreman:
        alice, bob = ({"authorization": f"Bearer {letter * 16}"} for letter in "ab")
        order = {"request": chat(), "webhook": {"url": hook.url}}
        taken = await foreman.client.post("/jobs", json=order, headers=alice)
        assert taken.status_code == 202, taken.text
        await until(lambda: len(hook.messages) == 1)
        get, post = foreman.client.get, foreman.client.post
        [mine] = (await get("/webhooks/deliveries", headers=alice)).json()["deliveries"]
        assert (await get("/webhooks/deliveries", headers=bob)).json()["deliveries"] == []
        assert (await get("/webhooks/endpoints", headers=bob)).json()["endpoints"] == []
        replay = {"id": mine["id"]}
        theirs = await post("/webhooks/deliveries/replay", json=replay, headers=bob)
        assert theirs.status_code == 404
        url = {"url": hook.url}
        assert (await post("/webhooks/endpoints/enable", json=url, headers=bob)).status_code == 404
        own = await post("/webhooks/deliveries/replay", json=replay, headers=alice)
        assert own.status_code == 202
        await until(lambda: len(hook.messages) == 2)
        assert hook.messages[0] == hook.messages[1]
