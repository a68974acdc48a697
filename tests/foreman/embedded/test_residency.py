"""Loads, evictions and keep-alives, on virtual time."""

from typing import Any

import httpx
import msgspec
import pytest
import trio

from foreman.embedded.app import EmbeddedTarget
from foreman.embedded.script import ModelScript, Script, SlowLoad
from foreman.embedded.scripted import ScriptedEngine

LOAD = 5.0
CALL = 1.0


def target(*, max_loaded: int = 3, max_queue: int = 512, **script: Any) -> EmbeddedTarget:
    models = tuple(
        ModelScript(name=name, load_seconds=LOAD, first_token_seconds=CALL, tokens=1)
        for name in ("a", "b", "c")
    )
    engine = ScriptedEngine(Script(models=models, **script))
    return EmbeddedTarget(engine, max_loaded=max_loaded, max_queue=max_queue)


async def chat(client: httpx.AsyncClient, model: str, **fields: Any) -> httpx.Response:
    said = {"messages": [{"role": "user", "content": "hi"}], "stream": False}
    return await client.post("/api/chat", json={"model": model, **said, **fields})


async def loaded(client: httpx.AsyncClient) -> list[str]:
    return [each["name"] for each in (await client.get("/api/ps")).json()["models"]]


async def test_a_model_is_absent_from_ps_until_its_load_is_over(
    autojump_clock: Any, open_virtual: Any
) -> None:
    async with open_virtual(target()) as client, trio.open_nursery() as calls:
        calls.start_soon(chat, client, "a")
        await trio.sleep(LOAD - 0.1)
        assert await loaded(client) == []
        await trio.sleep(0.2)
        assert await loaded(client) == ["a:latest"]


async def test_a_second_call_finds_the_model_loaded(autojump_clock: Any, open_virtual: Any) -> None:
    rig = target()
    async with open_virtual(rig) as client:
        first = (await chat(client, "a")).json()
        second = (await chat(client, "A:latest")).json()
    assert trio.current_time() == LOAD + 2 * CALL
    assert first["load_duration"] == LOAD * 1e9 and "load_duration" not in second
    assert [load.seconds for load in rig.oracle.loads] == [LOAD]


async def test_one_generation_runs_at_a_time_per_model(
    autojump_clock: Any, open_virtual: Any
) -> None:
    rig = target()
    async with open_virtual(rig) as client, trio.open_nursery() as calls:
        for _ in range(3):
            calls.start_soon(chat, client, "a")
    assert trio.current_time() == LOAD + 3 * CALL
    assert rig.oracle.max_running == 1 and rig.oracle.finished == 3


async def test_two_models_run_side_by_side_but_load_one_after_the_other(
    autojump_clock: Any, open_virtual: Any
) -> None:
    rig = target()
    async with open_virtual(rig) as client, trio.open_nursery() as calls:
        calls.start_soon(chat, client, "a")
        calls.start_soon(chat, client, "b")
    assert trio.current_time() == 2 * LOAD + CALL


@pytest.mark.parametrize(
    "fields",
    [
        {"options": {"num_ctx": 8192}},
        {"options": {"num_batch": 256}},
        {"options": {"num_gpu": 3}},
        {"options": {"use_mmap": False}},
        {"shift": False},
    ],
)
async def test_other_runner_options_reload(
    autojump_clock: Any, open_virtual: Any, fields: Any
) -> None:
    rig = target()
    async with open_virtual(rig) as client:
        await chat(client, "a")
        await chat(client, "a", **fields)
        await chat(client, "a", **fields)
    assert len(rig.oracle.loads) == 2 and rig.oracle.unloads == ["a:latest"]
    assert rig.oracle.loads[0].options != rig.oracle.loads[1].options


@pytest.mark.parametrize(
    "fields",
    [
        {"options": {"temperature": 0.1, "unknown": 1, "num_ctx": None}},
        {"options": {"num_ctx": 4096, "num_batch": 512, "num_gpu": -1}},
        {"shift": True},
    ],
)
async def test_other_options_and_spelled_out_defaults_do_not_reload(
    autojump_clock: Any, open_virtual: Any, fields: Any
) -> None:
    rig = target()
    async with open_virtual(rig) as client:
        await chat(client, "a")
        await chat(client, "a", **fields)
    assert len(rig.oracle.loads) == 1


async def test_the_shortest_keep_alive_is_evicted_not_the_least_recent(
    autojump_clock: Any, open_virtual: Any
) -> None:
    rig = target(max_loaded=2)
    async with open_virtual(rig) as client:
        await chat(client, "a", keep_alive="1h")
        await chat(client, "b")
        await chat(client, "c")
        assert sorted(await loaded(client)) == ["a:latest", "c:latest"]
    assert rig.oracle.unloads == ["b:latest"]


async def test_an_idle_model_is_evicted_before_a_busy_one(
    autojump_clock: Any, open_virtual: Any
) -> None:
    rig = target(max_loaded=2)
    async with open_virtual(rig) as client:
        await chat(client, "b", keep_alive="1h")
        await chat(client, "a")
        async with trio.open_nursery() as calls:
            calls.start_soon(chat, client, "a")
            await trio.sleep(CALL / 2)
            calls.start_soon(chat, client, "c")
    assert rig.oracle.unloads == ["b:latest"]


async def test_leaving_the_gpus_to_the_server_does_not_reload(
    autojump_clock: Any, open_virtual: Any
) -> None:
    rig = target()
    async with open_virtual(rig) as client:
        await chat(client, "a", options={"num_gpu": 3})
        await chat(client, "a")
    assert len(rig.oracle.loads) == 1


async def test_no_keep_alive_unloads_once_the_call_is_over(
    autojump_clock: Any, open_virtual: Any
) -> None:
    rig = target()
    async with open_virtual(rig) as client:
        await chat(client, "a", keep_alive=0)
        assert await loaded(client) == []
    assert trio.current_time() == LOAD + CALL


async def test_an_eviction_waits_for_the_busy_and_lets_it_take_more(
    autojump_clock: Any, open_virtual: Any
) -> None:
    rig = target(max_loaded=1)
    async with open_virtual(rig) as client:
        await chat(client, "a")
        async with trio.open_nursery() as calls:
            calls.start_soon(chat, client, "a")
            await trio.sleep(0.1)
            calls.start_soon(chat, client, "b")
            await trio.sleep(0.1)
            calls.start_soon(chat, client, "a")
    assert [call.model for call in rig.oracle.calls] == ["a", "a", "a", "b"]
    assert rig.oracle.unloads == ["a:latest"]


async def test_an_idle_model_goes_after_its_keep_alive(
    autojump_clock: Any, open_virtual: Any
) -> None:
    rig = target()
    async with open_virtual(rig) as client:
        await chat(client, "a", keep_alive=60)
        await trio.sleep(59)
        assert await loaded(client) == ["a:latest"]
        await trio.sleep(2)
        assert await loaded(client) == []


async def test_keep_alive_is_sticky(autojump_clock: Any, open_virtual: Any) -> None:
    async with open_virtual(target()) as client:
        await chat(client, "a", keep_alive=-1)
        await chat(client, "a")
        await trio.sleep(86_400)
        (shown,) = (await client.get("/api/ps")).json()["models"]
        assert shown["expires_at"] > "2300"


async def test_expires_at_is_stale_while_a_model_works(
    autojump_clock: Any, open_virtual: Any
) -> None:
    async with open_virtual(target()) as client, trio.open_nursery() as calls:

        async def expires() -> str:
            (shown,) = (await client.get("/api/ps")).json()["models"]
            return str(shown["expires_at"])

        await chat(client, "a", keep_alive=60)
        idle = await expires()
        await trio.sleep(30)
        calls.start_soon(chat, client, "a")
        await trio.sleep(CALL / 2)
        assert await expires() == idle
        await trio.sleep(CALL)
        assert await expires() > idle


async def test_a_client_that_leaves_aborts_its_load(autojump_clock: Any, open_virtual: Any) -> None:
    rig = target()
    async with open_virtual(rig) as client:
        with trio.move_on_after(LOAD / 2):
            await chat(client, "a")
        await trio.sleep(LOAD)
        assert not rig.oracle.loads and await loaded(client) == []


async def test_a_client_that_leaves_stops_its_generation(
    autojump_clock: Any, open_virtual: Any
) -> None:
    rig = target()
    async with open_virtual(rig) as client:
        await chat(client, "a")
        with trio.move_on_after(CALL / 2):
            await chat(client, "a")
        await chat(client, "a")
    assert trio.current_time() == LOAD + 2.5 * CALL
    assert rig.oracle.cancelled == 1 and rig.oracle.running == 0


async def test_a_full_queue_of_loads_is_busy_but_a_loaded_model_is_not(
    autojump_clock: Any, open_virtual: Any
) -> None:
    async with open_virtual(target(max_queue=1)) as client, trio.open_nursery() as calls:
        await chat(client, "a")
        calls.start_soon(chat, client, "b")
        await trio.sleep(0.1)
        refused = await chat(client, "c")
        assert refused.status_code == 503
        text = "server busy, please try again.  maximum pending requests exceeded"
        assert refused.json() == {"error": text}
        assert (await chat(client, "a")).status_code == 200


async def test_a_copy_shares_the_runner_of_its_weights(
    autojump_clock: Any, open_virtual: Any
) -> None:
    rig = target()
    async with open_virtual(rig) as client:
        await client.post("/api/copy", json={"source": "a", "destination": "twin"})
        await chat(client, "a")
        await chat(client, "twin")
        assert await loaded(client) == ["a:latest"]
    assert len(rig.oracle.loads) == 1


async def test_scaled_time_and_slow_loads(autojump_clock: Any, open_virtual: Any) -> None:
    rig = target(time_scale=0.1, faults=(SlowLoad(seconds=20.0, first=1),))
    async with open_virtual(rig) as client:
        await chat(client, "a")
    assert trio.current_time() == pytest.approx((LOAD + 20 + CALL) / 10)


async def test_an_outage_cuts_and_refuses_on_virtual_time(
    autojump_clock: Any, open_virtual: Any
) -> None:
    rig = target()
    async with open_virtual(rig) as client:
        engine = rig.engine
        assert isinstance(engine, ScriptedEngine)
        async with trio.open_nursery() as calls:

            async def is_cut() -> None:
                with pytest.raises(httpx.RemoteProtocolError):
                    await chat(client, "a")

            calls.start_soon(is_cut)
            await trio.sleep(1)
            engine.script = msgspec.structs.replace(engine.script, outage=3600.0)
        with pytest.raises(httpx.ConnectError):
            await client.get("/")
        await trio.sleep(3601)
        assert (await client.get("/")).status_code == 200
