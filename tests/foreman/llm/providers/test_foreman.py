"""The foreman provider against a real daemon in front of the embedded target."""

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from foreman.embedded.script import ErrorLine
from foreman.embedded.script import ToolCall as Called
from foreman.llm import (
    FinishReason,
    ModelNotFound,
    Place,
    Request,
    ServerError,
    StreamBroken,
    Unauthorized,
    tool,
    user,
)
from foreman.llm.dsn import DSN, Secret
from foreman.llm.errors import SpecError
from foreman.llm.messages import ToolResult
from foreman.llm.providers.foreman import ForemanProvider, from_dsn
from foreman.llm.providers.script import Cut, Say
from foreman.llm.waiting import Queueing
from tests.foreman.llm.providers.homes import Home, foreman
from tests.foreman.llm.providers.rigs import opened

Start = Callable[..., AbstractContextManager[tuple[Home, ForemanProvider]]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """A daemon, and a provider for it, which the test closes."""

    @contextmanager
    def started(
        secret: Secret | None = None, **variables: str
    ) -> Generator[tuple[Home, ForemanProvider]]:
        with foreman(tmp_path, **variables) as home:
            yield home, ForemanProvider("box", url=home.url, token=secret)

    return started


async def test_an_answer_is_a_job_of_its_own(start: Start) -> None:
    with start() as (home, provider):
        name = home.play(text="The answer is 42", thinking="Hm. So")
        model, request = provider.model(name), Request.of("Why?")

        response = await model.complete(request)
        again = await model.complete(request)
        [listed] = await provider.models() or ()
        jobs = (await fetch(home, "/jobs"))["jobs"]
        await provider.aclose()

    assert (response.text, response.thinking) == ("The answer is 42", "Hm. So")
    assert (response.finish, response.target) == (FinishReason.STOP, f"box/{name}")
    assert response.usage.total is not None
    assert again == response  # the same request is the same job
    assert [job["state"] for job in jobs] == ["done"]
    assert listed.name == f"{name}:latest"


async def test_tools_go_there_and_back(start: Start) -> None:
    def weather(city: str) -> str:
        """The weather."""
        return city

    with start() as (home, provider):
        name = home.play(tool_calls=(Called("weather", {"city": "Oslo"}),))
        asked = Request.of("Weather?", tools=[tool(weather)])
        response = await provider.model(name).complete(asked)
        [call] = response.tool_calls
        result = user(ToolResult(call.id, call.name, "Rain."))
        after = await provider.model(name).complete(
            Request.of((*asked.messages, response.message, result))
        )
        await provider.aclose()

    assert (call.name, call.arguments) == ("weather", {"city": "Oslo"})
    assert response.finish is FinishReason.TOOL_CALLS
    assert after.finish is FinishReason.STOP


async def test_a_waiting_call_shows_its_place_and_leaving_takes_it_out(start: Start) -> None:
    with start() as (home, provider):
        name = home.play()
        model = provider.model(name)
        await model.complete(Request.of("first"))  # from now on there is a pace
        home.hold()

        async with model.submit(Request.of("runs")), model.stream(Request.of("waits")) as waits:
            await until_running(home)
            event = await anext(aiter(waits))
            estimate = await model.estimate(Request.of("one more"))

        jobs = (await fetch(home, "/jobs"))["jobs"]
        home.release()
        await provider.aclose()

    assert event.place is not None
    assert not event.begins
    assert event.place.position == 1
    assert event.place.starts_in is not None
    assert estimate.position == 2
    assert [job["error"] and job["error"]["code"] for job in jobs if job["state"] == "failed"]
    assert all(job["state"] in ("done", "failed", "working") for job in jobs)


async def test_a_job_is_withdrawn_only_before_it_begins(start: Start) -> None:
    with start() as (home, provider):
        model = provider.model(home.play(text="Hello"))
        home.hold()
        request = Request.of("waits")

        async with model.submit(Request.of("runs")) as runs:
            await until_running(home)
            async with model.submit(request) as waits:
                out = await waits.withdraw()
            begun = await runs.withdraw()
            home.release()
            texts = [event.delta async for event in runs.events()]
        after = await model.complete(request)  # a new job, not the withdrawn one
        await provider.aclose()

    assert (out, begun) == (True, False)
    assert "".join(texts) == after.text == "Hello"


async def test_places_end_when_the_worker_has_taken_it(start: Start) -> None:
    with start() as (home, provider):
        model = provider.model(home.play(text="Hello"))
        home.hold()
        async with model.submit(Request.of("runs")):
            await until_running(home)
            async with model.submit(Request.of("waits")) as waits:
                places = waits.places()
                first = await anext(places)
                home.release()
                rest = [place async for place in places]
                text = [event async for event in waits.events()][-1].text
        await provider.aclose()

    assert first.position == 1
    assert [place.position for place in rest] in ([], [0])
    assert text == "Hello"


async def test_an_idle_foreman_would_start_at_once(start: Start) -> None:
    with start() as (home, provider):
        model = provider.model(home.play())
        estimate = await model.estimate(Request.of("Hi"))
        await provider.aclose()

    assert estimate == Place(0, 0.0)
    assert isinstance(model, Queueing)


async def test_what_the_target_refuses_has_its_own_words(start: Start) -> None:
    with start(max_attempts="1") as (home, provider):
        name = home.play(ErrorLine(after_tokens=2, text="out of memory"))
        with pytest.raises(ModelNotFound):
            await provider.model("zzz").complete(Request.of("Hi"))
        with pytest.raises(ServerError, match="out of memory"):
            await provider.model(name).complete(Request.of("Hi"))
        with pytest.raises(ServerError, match="out of memory"):  # a new job, not the failed one
            await provider.model(name).complete(Request.of("Hi"))
        await provider.aclose()


async def test_a_run_that_broke_off_before_it_spoke_is_no_matter() -> None:
    async with opened("foreman") as rig:
        rig.plays(Cut(), Say(tokens=("Hello", " there")))

        async with rig.model.stream(Request.of("Hi")) as events:
            deltas = [event.delta async for event in events]

    assert deltas == ["Hello", " there", ""]


async def test_a_run_that_broke_off_in_the_middle_cannot_be_taken_up() -> None:
    heard: list[str] = []
    async with opened("foreman") as rig:
        rig.plays(Cut(2), Say("Hello there"))

        with pytest.raises(StreamBroken, match="anew"):
            async with rig.model.stream(Request.of("Hi")) as events:
                async for event in events:
                    heard.append(event.delta)

    assert heard == ["token ", "token "]


async def test_a_token_opens_it(start: Start) -> None:
    with start(Secret("s3cret-word"), token="ann:s3cret-word") as (home, provider):
        name = home.play(text="Hello")
        stranger = ForemanProvider("box", url=home.url, token=Secret("wr0ng"))

        assert (await provider.model(name).complete(Request.of("Hi"))).text == "Hello"
        with pytest.raises(Unauthorized):
            await stranger.model(name).complete(Request.of("Hi"))
        await provider.aclose()
        await stranger.aclose()


def test_a_dsn_says_what_is_wrong_with_it() -> None:
    with pytest.raises(SpecError, match="priority"):
        from_dsn(DSN.parse("box", "foreman://s3cret@h?priority=high"))
    with pytest.raises(SpecError, match="keep_alive"):
        from_dsn(DSN.parse("box", "foreman://s3cret@h?keep_alive=1h"))
    assert from_dsn(DSN.parse("box", "foreman://s3cret@h?priority=5")).how == {"priority": 5}


async def fetch(home: Home, path: str) -> Any:
    async with httpx.AsyncClient(base_url=home.url, trust_env=False) as client:
        return (await client.get(path)).json()


async def until_running(home: Home) -> None:
    async with httpx.AsyncClient(base_url=home.url, trust_env=False) as client:
        while (await client.get("/queue")).json()["running"] is None:
            await anyio.lowlevel.checkpoint()
