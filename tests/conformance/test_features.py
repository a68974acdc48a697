"""F-T1 to F-T13 and F-T19: what the issue itself asks of foreman, beside speaking Ollama's wire."""

import os
import signal
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
import trio

from foreman import names, tables
from foreman.commit import Committer
from foreman.config import load
from foreman.database import open_reader, open_writer
from foreman.embedded.script import DEFAULT_MODELS, ModelScript, Script, Status
from foreman.jobs import JobClass, JobId, JobIds, Requeue, fingerprint
from foreman.tables import NewJob
from tests.conformance.answers import chat, ndjson, text_of
from tests.conftest import StartDaemon
from tests.fakes import http
from tests.fakes.daemon import Daemon, spawned, until

TOKEN = "s3cret"


async def test_ft1_tags_and_ps_are_the_targets(daemon: StartDaemon) -> None:
    script = Script(models=(ModelScript(name="a:1"), ModelScript(name="b:1")))
    async with daemon(script=script) as foreman:
        tags = (await foreman.client.get("/api/tags")).json()["models"]
        assert {each["name"] for each in tags} == {"a:1", "b:1"}
        assert (await foreman.client.get("/api/ps")).json() == {"models": []}


async def test_ft2_an_unknown_model_costs_one_look_and_no_call(daemon: StartDaemon) -> None:
    async with daemon(poll_interval=3600) as foreman:
        await foreman.polled()
        before = asked(foreman, b"/api/tags")
        answer = await foreman.client.post("/api/chat", json=chat("zzz"))
        assert answer.status_code == 404
        assert asked(foreman, b"/api/tags") == before + 1
        assert asked(foreman, b"/api/chat") == 0


async def test_ft2_many_who_miss_at_once_share_their_looks(daemon: StartDaemon) -> None:
    async with daemon(poll_interval=3600) as foreman:
        await foreman.polled()
        before = asked(foreman, b"/api/tags")
        async with trio.open_nursery() as clients:
            for _ in range(20):
                clients.start_soon(post_chat, foreman, "zzz")
        assert asked(foreman, b"/api/tags") - before < 20


async def test_ft3_a_model_pulled_since_the_last_look_is_found(daemon: StartDaemon) -> None:
    async with daemon(poll_interval=3600) as foreman:
        await foreman.polled()
        await foreman.direct.post("/api/copy", json={"source": "small", "destination": "new"})
        assert (await foreman.client.post("/api/chat", json=chat("new"))).status_code == 200


async def test_ft4_bytes_come_as_the_target_sent_them_when_it_sent_them(
    daemon: StartDaemon,
) -> None:
    script = Script(models=(ModelScript(name="small", tokens=3),))
    async with daemon(script=script) as foreman:
        foreman.engine.tokens.close()
        foreman.engine.tokens.release()
        async with http.post(foreman.url, "/api/chat", chat()) as answer:
            assert answer.headers["content-type"] == "application/x-ndjson"
            for _ in range(3):
                assert not msgspec.json.decode(await answer.line())["done"]
                foreman.engine.tokens.release()
            assert msgspec.json.decode(await answer.line())["done"]
            assert await answer.rest() == b""


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
async def test_ft5_streaming_is_on_until_it_is_turned_off(daemon: StartDaemon, path: str) -> None:
    body = chat() | {"prompt": "hi"}
    async with daemon() as foreman:
        assert len(ndjson(await foreman.client.post(path, json=body))) > 1
        whole = await foreman.client.post(path, json=body | {"stream": False})
        assert whole.headers["content-type"].startswith("application/json")
        assert whole.json()["done"]


async def test_ft6_a_poll_that_fails_degrades_and_keeps_the_inventory(daemon: StartDaemon) -> None:
    async with daemon(poll_interval=0.05) as foreman:
        await foreman.polled()
        foreman.engine.script = Script(outage=3600)
        degraded = await health(foreman, "degraded")
        assert degraded["target"]["models"] == len(DEFAULT_MODELS)
        assert degraded["target"]["reason"]
        foreman.engine.script = Script()
        assert (await health(foreman, "ok"))["target"]["up"]


async def test_ft7_it_starts_without_a_target(daemon: StartDaemon) -> None:
    async with daemon(upstream="http://127.0.0.1:9") as foreman:
        degraded = await health(foreman, "degraded")
        assert not degraded["target"]["up"]
        assert (await foreman.client.get("/readyz")).status_code == 200
        assert (await foreman.client.get("/api/tags")).json() == {"models": []}
        assert (await foreman.client.get("/")).text == "Ollama is running"


@pytest.mark.parametrize("token", [TOKEN, None], ids=["set", "unset"])
async def test_ft8_the_targets_token_goes_out_and_the_clients_never(
    daemon: StartDaemon, token: str | None
) -> None:
    mine = {"Authorization": "Bearer of-the-client", "X-Api-Key": "of-the-client"}
    async with daemon(ollama_token=token) as foreman:
        await foreman.client.post("/api/chat", json=chat(), headers=mine)
        await foreman.client.get("/api/tags", headers=mine)
        await foreman.client.get("/api/ps", headers=mine)
        body = {"model": "embedder", "input": "hi"}
        await foreman.client.post("/api/embed", json=body, headers=mine)
        paths = {each.target for each in foreman.oracle.requests}
        assert paths >= {b"/api/chat", b"/api/tags", b"/api/ps", b"/api/embed"}
        wanted = [f"Bearer {token}".encode()] if token else []
        for each in foreman.oracle.requests:
            sent = [value for name, value in each.headers if name.lower() == b"authorization"]
            assert sent == wanted, each.target
            assert b"x-api-key" not in {name.lower() for name, _ in each.headers}


async def test_ft9_ten_embeddings_return_during_one_chat(daemon: StartDaemon) -> None:
    async with daemon(embed_concurrency=10) as foreman:
        foreman.engine.tokens.close()
        foreman.engine.embeddings.close()
        async with foreman.crowd(1):
            async with trio.open_nursery() as clients:
                for number in range(10):
                    clients.start_soon(embed, foreman, f"text {number}")
                # The target holds the first of them, and yet has all ten.
                await until(lambda: is_so(asked(foreman, b"/api/embed") == 10))
                foreman.engine.embeddings.open()
            assert (await foreman.queue())["running"]["model"].startswith("small")


async def test_ft10_two_chats_never_overlap(daemon: StartDaemon) -> None:
    async with daemon() as foreman:
        async with trio.open_nursery() as clients:
            for _ in range(5):
                clients.start_soon(post_chat, foreman, "small")
        assert foreman.oracle.max_running == 1
        assert foreman.oracle.finished == 5


async def test_ft11_the_loaded_model_is_drained_before_the_next_is_loaded(
    daemon: StartDaemon,
) -> None:
    script = Script(models=tuple(ModelScript(name=name) for name in "abc"))
    async with daemon(script=script, linger=0, max_loaded=1) as foreman:
        foreman.engine.tokens.close()
        async with foreman.crowd(1, "a"), trio.open_nursery() as clients:
            for waiting, name in enumerate(["a", "b", "a", "b", "a", "c"], start=1):
                clients.start_soon(post_chat, foreman, name)
                await foreman.waits(waiting)
            shown = [call["model"] for call in (await foreman.queue())["calls"]]
            assert [name[0] for name in shown] == ["a", "a", "a", "b", "b", "c"]
            foreman.engine.tokens.open()
        ran = [call.model for call in foreman.oracle.calls]
        assert ran == ["a", "a", "a", "a", "b", "b", "c"]
        assert len(foreman.oracle.loads) == 3


async def test_ft12_a_killed_daemon_loses_nothing_and_finishes_nothing_twice(
    daemon: StartDaemon, tmp_path: Path
) -> None:
    folder = tmp_path / "killed"
    ids = enqueue(folder, [f"number {number}" for number in range(4)])
    async with daemon() as rig:  # for its target
        rig.engine.tokens.close()
        async with spawned(folder, rig.target_url) as first:
            await rig.engine.tokens.holds()
            os.kill(first.process.pid, signal.SIGKILL)
            await first.process.wait()
        rig.engine.tokens.open()
        async with spawned(folder, rig.target_url):
            await until(lambda: is_so(all(state == "done" for state in states(folder, ids))))
    for job in ids:
        ended = [event.state for event in log_of(folder, job) if event.state == "done"]
        assert len(ended) == 1
    reasons = [event.detail.reason for event in log_of(folder, ids[0])]
    assert reasons.count(Requeue.RESTART) == 1, "the one that was at work was put back"


async def test_ft13_a_job_waits_for_a_target_that_sleeps(daemon: StartDaemon) -> None:
    async with daemon() as foreman:
        await foreman.polled()
        foreman.engine.script = Script(outage=3600)
        answers: list[str] = []

        async def ask() -> None:
            answer = await foreman.client.post("/api/chat", json=chat())
            answers.append(text_of(ndjson(answer)))

        async with trio.open_nursery() as clients:
            clients.start_soon(ask)
            await until(lambda: away(foreman))
            await foreman.waits(1)
            (job,) = await foreman.jobs()
            assert (job["state"], job["error"]) == ("queued", None)
            foreman.engine.script = Script()
        assert answers == ["one 2 3 4 5 6 7 8"]


async def test_ft13_a_refusal_by_the_target_fails_the_job(daemon: StartDaemon) -> None:
    fault = Status(status=400, text="no", paths=("/v1/chat/completions",))
    async with daemon(script=Script(faults=(fault,))) as foreman:
        answer = await foreman.client.post("/v1/chat/completions", json=chat())
        assert answer.status_code == 400
        job = await foreman.job_ended(answer.headers["x-foreman-job"])
        assert (job["state"], job["error"]["code"]) == ("failed", "target_refused")
        assert job["attempt"] == 1


def test_ft19_a_bare_ollama_url_is_nobodys_business(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("OLLAMA_URL", "OLLAMA_HOST", "OLLAMA_TOKEN"):
        monkeypatch.setenv(name, "http://elsewhere.example:1")
    settings = load()
    assert settings.ollama_url == "http://127.0.0.1:11434"
    assert settings.ollama_token is None


def asked(foreman: Daemon, path: bytes) -> int:
    """How often the target was asked for this path."""
    return sum(each.target == path for each in foreman.oracle.requests)


async def health(foreman: Daemon, status: str) -> dict[str, dict[str, object]]:
    """The body of /healthz once it says `status`; it answers 200 whatever it says."""

    async def says_so() -> bool:
        answer = await foreman.client.get("/healthz")
        assert answer.status_code == 200
        return bool(answer.json()["status"] == status)

    await until(says_so)
    body: dict[str, dict[str, object]] = (await foreman.client.get("/healthz")).json()
    return body


async def away(foreman: Daemon) -> bool:
    """The worker has found nobody at the target."""
    return bool((await foreman.queue())["target_away"])


async def post_chat(foreman: Daemon, model: str) -> None:
    """One client."""
    await foreman.client.post("/api/chat", json=chat(model))


async def embed(foreman: Daemon, text: str) -> None:
    """One client that embeds."""
    body = {"model": "embedder", "input": text}
    answer = await foreman.client.post("/api/embed", json=body)
    assert len(answer.json()["embeddings"]) == 1


async def is_so(value: bool) -> bool:
    """A condition for `until` that asks nobody."""
    return value


def enqueue(folder: Path, contents: Sequence[str]) -> list[JobId]:
    """Put durable chats into the database of a daemon that does not run."""
    now = time.time_ns() // 1000
    ids = JobIds()
    jobs = [
        NewJob(
            ids.new(),
            JobClass.BATCH,
            "/api/chat",
            "small",
            fingerprint(names.key("small"), None, None),
            request=msgspec.json.encode(chat(content=content, stream=False)),
        )
        for content in contents
    ]
    with open_writer(folder, now=now, ballast=4096) as database:
        operations = [lambda tx, job=job: tables.submit(tx, job) for job in jobs]
        for answer in Committer(database, 0).commit(operations, now).answers:
            answer.unwrap()
    return [job.id for job in jobs]


def reading(folder: Path) -> sqlite3.Connection:
    """A connection to the database beside the daemon's."""
    return open_reader(folder / "foreman.db")


def states(folder: Path, ids: Sequence[JobId]) -> list[str]:
    """The states of these jobs as they stand on disk."""
    connection = reading(folder)
    try:
        rows = [tables.get_job(connection, job) for job in ids]
    finally:
        connection.close()
    return [row.state for row in rows if row is not None]


def log_of(folder: Path, job: JobId) -> list[tables.Event]:
    """A job's events."""
    connection = reading(folder)
    try:
        return tables.events_of(connection, job)
    finally:
        connection.close()
