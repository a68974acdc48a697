"""Both clients and a real daemon, which is killed and started again in the middle of everything."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from foreman import ChatResponse, EmbedResponse, Job, JobFailed, Refused, WaitTimeout
from foreman.embedded.script import ModelScript, Script, Status
from tests.conftest import StartDaemon
from tests.e2e.processes import Upstream, audit, chat, until, upstream
from tests.fakes.clients import KINDS, Connect, Driver, connect
from tests.fakes.daemon import spawned

TEXT = "one two three four five six"
MODELS = Script(
    models=(
        ModelScript(name="small:latest", text=TEXT),
        ModelScript(name="embedder:latest", capabilities=("embedding",)),
    )
)


@pytest.fixture(params=KINDS, name="client")
def _client(request: pytest.FixtureRequest) -> Connect:
    return partial(connect, request.param)


async def test_what_a_client_does_in_a_day(
    daemon: StartDaemon, client: Connect, tmp_path: Path
) -> None:
    async with daemon(script=MODELS) as foreman, client(foreman.url) as driver:
        await foreman.polled()
        message = {"role": "user", "content": "x"}
        assert (await driver.call("chat", "small", [message])).message.content == TEXT
        pieces = await driver.collect("chat", "small", [message], stream=True)
        assert "".join(piece.message.content for piece in pieces) == TEXT
        assert (await driver.call("generate", "small", "x")).response == TEXT
        vectors = await driver.call("embed", "embedder", ["x", "y"])
        assert isinstance(vectors, EmbedResponse)
        assert len(vectors.embeddings) == 2

        job = await driver.call("submit", "/api/chat", chat(), labels={"who": "me"})
        answer = await driver.call("result", job, ChatResponse)
        assert answer.message.content == TEXT
        events = await driver.collect("watch", job)
        assert [event.state for event in events] == ["queued", "loading", "working", "done"]
        records = await driver.collect("output", job, 2)
        assert (records[0].n, records[0].data["message"]["content"]) == (2, " three")
        [artifact] = await driver.call("artifacts", job)
        saved = await driver.call("download", job, tmp_path / "answer")
        assert saved == artifact
        assert (tmp_path / "answer").read_bytes() == await driver.call("artifact", job)
        [found] = await driver.collect("jobs", label="who:me")
        assert found.id == job.id
        assert (await driver.call("queue")).resident == "small:latest"


async def test_a_result_that_is_kept_in_a_file_is_the_same(
    daemon: StartDaemon, client: Connect
) -> None:
    async with daemon(script=MODELS) as foreman, client(foreman.url) as driver:
        await foreman.polled()
        job = await driver.call("submit", "/api/chat", chat(), artifacts="fetch")
        assert (await driver.call("result", job)).message.content == TEXT
        assert (await driver.call("get", job)).result is None


async def test_the_same_key_is_the_same_job(daemon: StartDaemon, client: Connect) -> None:
    async with daemon(script=MODELS) as foreman, client(foreman.url) as driver:
        await foreman.polled()
        submit = partial(driver.call, "submit", "/api/chat", idempotency_key="mine")
        first, second = await submit(chat()), await submit(chat())
        assert first.id == second.id
        with pytest.raises(Refused) as caught:
            await submit(chat(stream=False))
        assert (caught.value.status, caught.value.code) == (422, "idempotency_mismatch")


async def test_a_job_that_fails_and_one_that_is_cancelled_raise_their_error(
    daemon: StartDaemon, client: Connect
) -> None:
    fault = Status(paths=("/api/chat",), status=400, text="too long", skip=1)  # 0 is the load
    script = Script(models=MODELS.models, faults=(fault,))
    async with daemon(script=script) as foreman, client(foreman.url) as driver:
        await foreman.polled()
        foreman.engine.loads.close()
        running = await driver.call("submit", "/api/chat", chat())
        await foreman.engine.loads.holds()
        waiting = await driver.call("submit", "/api/chat", chat())
        assert (await driver.call("cancel", waiting)).ended
        with pytest.raises(JobFailed) as caught:
            await driver.call("result", waiting)
        assert caught.value.code == "cancelled"
        with pytest.raises(JobFailed):
            await driver.collect("output", waiting)
        foreman.engine.loads.open()
        with pytest.raises(JobFailed) as caught:
            await driver.call("result", running)
        assert caught.value.code == "target_refused"
        with pytest.raises(Refused) as refused:
            await driver.call("cancel", running)
        assert refused.value.code == "already_done"


async def test_what_is_wrong_with_a_submission_is_named(
    daemon: StartDaemon, client: Connect
) -> None:
    async with daemon(script=MODELS) as foreman, client(foreman.url) as driver:
        await foreman.polled()
        with pytest.raises(Refused) as caught:
            await driver.call("submit", "/api/chat", chat(), priority=1000)
        assert (caught.value.status, caught.value.field) == (400, "/priority")
        with pytest.raises(Refused) as caught:
            await driver.call("submit", "/api/chat", chat("nobody"))
        assert (caught.value.status, caught.value.code) == (404, "model_not_found")
        outcomes = await driver.collect("map", [chat(), chat("nobody"), chat()], ordered=True)
        assert [outcome.error is None for outcome in outcomes] == [True, False, True]


async def test_a_map_fills_a_small_queue_again_and_again(
    daemon: StartDaemon, client: Connect
) -> None:
    async with daemon(script=MODELS, max_queue=3) as foreman, client(foreman.url) as driver:
        await foreman.polled()
        outcomes = await driver.collect("map", [chat() for _ in range(20)])
        assert {outcome.result().message.content for outcome in outcomes} == {TEXT}
        assert len(await foreman.jobs(limit="500")) == 20


async def test_a_wait_of_the_blocking_client_ends_in_time(daemon: StartDaemon) -> None:
    async with daemon(script=MODELS) as foreman, connect("sync", foreman.url) as driver:
        await foreman.polled()
        foreman.engine.tokens.close()
        job = await driver.call("submit", "/api/chat", chat())
        with pytest.raises(WaitTimeout, match="is still"):
            await driver.call("wait", job, 0.01)
        foreman.engine.tokens.open()
        assert (await driver.call("wait", job)).ended


@dataclass(frozen=True)
class Box:
    """A target, and the place where a daemon is started before it, each time the same."""

    target: Upstream
    folder: Path
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def daemon(self) -> AsyncGenerator[None]:
        """Serves until the end of the block; there it is killed."""
        listen = f"127.0.0.1:{self.port}"
        async with spawned(self.folder, self.target.url, listen=listen) as foreman:
            yield
            foreman.process.kill()
            await foreman.process.wait()


@pytest.fixture(name="box")
async def _box(tmp_path: Path) -> AsyncGenerator[Box]:
    async with upstream(MODELS) as target:
        with trio.socket.socket() as free:
            await free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        yield Box(target, tmp_path, port)


async def submitted(driver: Driver, target: Upstream) -> Job:
    """A job that runs, and stands still before its third token."""
    target.engine.tokens.close()
    job: Job = await driver.call("submit", "/api/chat", chat())
    await target.engine.tokens.holds()
    target.engine.tokens.release(2)
    await target.engine.tokens.holds()
    return job


async def test_a_wait_goes_on_after_a_kill(box: Box, client: Connect) -> None:
    answers: list[ChatResponse] = []
    async with client(box.url, patience=30) as driver, trio.open_nursery() as nursery:

        async def wait(job: Job) -> None:
            answers.append(await driver.call("result", job, ChatResponse))

        async with box.daemon():
            job = await submitted(driver, box.target)
            nursery.start_soon(wait, job)
        box.target.engine.tokens.open()
        async with box.daemon():
            await until(lambda: bool(answers))
            states = [event.reason for event in await driver.collect("watch", job)]
            assert states.count("restart") == 1
    assert answers[0].message.content == TEXT


@pytest.mark.parametrize("everything", [True, False], ids=["everything", "one job"])
async def test_a_subscription_goes_on_after_a_kill_without_a_gap(
    box: Box, client: Connect, tmp_path: Path, everything: bool
) -> None:
    events: list[Any] = []
    async with client(box.url, patience=30) as driver, trio.open_nursery() as nursery:

        async def watch(job: Job) -> None:
            if everything:
                await driver.collect("watch", after=0, count=7, into=events)
            else:
                await driver.collect("watch", job, into=events)

        async with box.daemon():
            nursery.start_soon(watch, await submitted(driver, box.target))
            await until(lambda: len(events) == 3)
        box.target.engine.tokens.open()
        async with box.daemon():
            await until(lambda: bool(events) and events[-1].state == "done")
    assert [event.seq for event in events] == list(range(1, 8))
    assert [event.state for event in events] == [
        "queued",
        "loading",
        "working",
        "queued",
        "loading",
        "working",
        "done",
    ]
    assert audit(tmp_path) == []


async def test_output_goes_on_after_a_kill_and_says_that_it_begins_again(
    box: Box, client: Connect
) -> None:
    records: list[Any] = []
    async with client(box.url, patience=30) as driver, trio.open_nursery() as nursery:
        finished = trio.Event()

        async def read(job: Job) -> None:
            await driver.collect("output", job, into=records)
            finished.set()

        async with box.daemon():
            nursery.start_soon(read, await submitted(driver, box.target))
            await until(lambda: len(records) == 2)
        box.target.engine.tokens.open()
        async with box.daemon():
            await finished.wait()  # and not only for the last record: its end is still to be heard
    first, last = records[0].run, records[-1].run
    assert first != last
    assert [record.n for record in records if record.run == first] == [0, 1]
    whole = [record for record in records if record.run == last]
    assert [record.n for record in whole] == list(range(len(whole)))
    assert "".join(record.data["message"]["content"] for record in whole) == TEXT


async def test_a_map_goes_on_after_two_kills_and_doubles_nothing(
    box: Box, client: Connect, tmp_path: Path
) -> None:
    outcomes: list[Any] = []
    requests = [{**chat(), "options": {"seed": number}} for number in range(20)]
    async with client(box.url, patience=30) as driver, trio.open_nursery() as nursery:

        async def work() -> None:
            await driver.collect("map", requests, window=8, into=outcomes)

        box.target.engine.tokens.close()
        for count in (0, 3):
            async with box.daemon():
                if count == 0:
                    nursery.start_soon(work)
                await box.target.engine.tokens.holds()
                while len(outcomes) < count:
                    box.target.engine.tokens.release()
                    await trio.lowlevel.checkpoint()
        box.target.engine.tokens.open()
        async with box.daemon():
            await until(lambda: len(outcomes) == len(requests))
            assert len(await driver.collect("jobs")) == len(requests)
    assert sorted(outcome.index for outcome in outcomes) == list(range(20))
    assert {outcome.result().message.content for outcome in outcomes} == {TEXT}
    assert audit(tmp_path) == []


async def test_submissions_under_way_at_a_kill_make_one_job_each(
    box: Box, client: Connect, tmp_path: Path
) -> None:
    jobs: list[Job] = []
    async with client(box.url, patience=30) as driver, trio.open_nursery() as nursery:

        async def submit() -> None:
            jobs.append(await driver.call("submit", "/api/chat", chat()))

        async with box.daemon():
            for _ in range(20):
                nursery.start_soon(submit)
            await until(lambda: len(jobs) > 3)
        async with box.daemon():
            await until(lambda: len(jobs) == 20)
            assert len({job.id for job in jobs}) == 20
            assert len(await driver.collect("jobs")) == 20
    assert audit(tmp_path) == []
