"""Faults of the scripted engine, as a client sees them."""

import json
from typing import Any

import httpx
import msgspec
import pytest
import trio

from foreman.embedded.script import (
    AnyFault,
    Cut,
    EndEarly,
    ErrorLine,
    Garble,
    Hang,
    HugeLine,
    LoadFailure,
    ModelScript,
    Script,
    Status,
)

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
WHOLE = {**CHAT, "stream": False}


def script(*faults: AnyFault, **model: Any) -> Script:
    return Script(models=(ModelScript(name="m", **model), ModelScript(name="n")), faults=faults)


async def read(client: httpx.AsyncClient, body: Any = CHAT) -> list[str]:
    async with client.stream("POST", "/api/chat", json=body) as answer:
        assert answer.status_code == 200
        return [line async for line in answer.aiter_lines()]


async def test_a_status_strikes_once_and_heals(start: Any) -> None:
    fault = Status(status=503, text="busy", headers={"Retry-After": "7"}, first=1)
    rig = await start(script(fault))
    answer = await rig.client.post("/api/chat", json=WHOLE)
    assert answer.status_code == 503 and answer.headers["retry-after"] == "7"
    assert answer.json() == {"error": "busy"}
    assert (await rig.client.post("/api/chat", json=WHOLE)).status_code == 200


async def test_a_fault_strikes_its_nth_matching_calls_only(start: Any) -> None:
    fault = Status(status=500, model="M:latest", paths=("/api/chat",), skip=1, first=2)
    rig = await start(script(fault))

    async def status(path: str, model: str) -> int:
        body = {"model": model, "prompt": "x", "messages": [], "stream": False}
        return int((await rig.client.post(path, json=body)).status_code)

    assert await status("/api/generate", "m") == 200
    assert await status("/api/chat", "n") == 200
    assert [await status("/api/chat", "m") for _ in range(4)] == [200, 500, 500, 200]


async def test_a_redirect_and_a_body_of_its_own_pass_as_they_are(start: Any) -> None:
    fault = Status(
        status=302, body="<html>", headers={"Location": "/x", "Content-Type": "text/html"}
    )
    rig = await start(script(fault))
    answer = await rig.client.get("/api/tags")
    assert answer.status_code == 302 and answer.headers["location"] == "/x"
    assert answer.text == "<html>" and answer.headers["content-type"] == "text/html"


async def test_a_hang_before_the_headers_sends_nothing(start: Any) -> None:
    rig = await start(script(Hang()))
    with pytest.raises(httpx.ReadTimeout):
        await rig.client.post("/api/chat", json=CHAT, timeout=0.05)


@pytest.mark.parametrize("tokens", [0, 3])
async def test_a_hang_after_tokens_sends_those(start: Any, tokens: int) -> None:
    rig = await start(script(Hang(after_tokens=tokens)))
    got: list[str] = []
    with pytest.raises(httpx.ReadTimeout):
        async with rig.client.stream("POST", "/api/chat", json=CHAT, timeout=0.2) as answer:
            async for line in answer.aiter_lines():
                got.append(line)
    assert len(got) == tokens


@pytest.mark.parametrize(
    ("fault", "body"),
    [
        (Cut(), CHAT),
        (Cut(after_tokens=3), CHAT),
        (Cut(after_bytes=150), CHAT),
        (Cut(after_bytes=20), WHOLE),
        (Cut(after_tokens=3), WHOLE),
    ],
)
async def test_a_cut_is_never_a_clean_end(start: Any, fault: Cut, body: Any) -> None:
    rig = await start(script(fault))
    with pytest.raises(httpx.RemoteProtocolError):
        await read(rig.client, body)
    assert rig.oracle.running == 0


async def test_a_cut_after_bytes_sends_just_those(start: Any) -> None:
    rig = await start(script(Cut(after_bytes=150)))
    got = b""
    with pytest.raises(httpx.RemoteProtocolError):
        async with rig.client.stream("POST", "/api/chat", json=CHAT) as answer:
            async for part in answer.aiter_bytes():
                got += part
    assert len(got) == 150


async def test_a_garbled_line_stands_between_good_ones(start: Any) -> None:
    rig = await start(script(Garble(after_tokens=2, line="{nonsense")))
    lines = await read(rig.client)
    assert lines[2] == "{nonsense" and json.loads(lines[3])["message"]["content"] == " 3"
    assert json.loads(lines[-1])["done"]


async def test_a_huge_line_has_its_size(start: Any) -> None:
    rig = await start(script(HugeLine(after_tokens=1, size=300_000)))
    lines = await read(rig.client)
    assert len(lines[1]) >= 300_000 and json.loads(lines[-1])["done"]


async def test_an_error_after_the_first_byte_is_a_last_line(start: Any) -> None:
    rig = await start(script(ErrorLine(after_tokens=2, text="runner died")))
    lines = await read(rig.client)
    assert len(lines) == 3 and json.loads(lines[-1]) == {"error": "runner died"}


@pytest.mark.parametrize(("tokens", "body"), [(0, CHAT), (2, WHOLE)])
async def test_an_error_before_the_first_byte_is_a_status(
    start: Any, tokens: int, body: Any
) -> None:
    rig = await start(script(ErrorLine(after_tokens=tokens, text="runner died")))
    answer = await rig.client.post("/api/chat", json=body)
    assert answer.status_code == 500 and answer.json() == {"error": "runner died"}


async def test_a_stream_can_end_without_done(start: Any) -> None:
    rig = await start(script(EndEarly(after_tokens=2)))
    assert [json.loads(line)["done"] for line in await read(rig.client)] == [False, False]
    whole = (await rig.client.post("/api/chat", json=WHOLE)).json()
    assert whole["done"] is False and whole["message"]["content"] == "one 2"


async def test_a_failed_load_is_answered_and_the_next_one_works(start: Any) -> None:
    rig = await start(script(LoadFailure(text="out of memory", first=1)))
    answer = await rig.client.post("/api/chat", json=WHOLE)
    assert answer.status_code == 500 and answer.json() == {"error": "out of memory"}
    assert (await rig.client.post("/api/chat", json=WHOLE)).status_code == 200
    assert len(rig.oracle.loads) == 1


async def test_an_outage_closes_the_port_until_the_script_ends_it(start: Any) -> None:
    rig = await start(script())
    await rig.client.get("/")
    rig.engine.script = msgspec.structs.replace(rig.engine.script, outage=3600.0)
    await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(httpx.ConnectError):
        await rig.client.get("/")
    rig.engine.script = script()
    await trio.testing.wait_all_tasks_blocked()
    assert (await rig.client.get("/")).text == "Ollama is running"


async def test_a_new_script_heals_over_http(start: Any) -> None:
    rig = await start(script(Status(status=500)))
    assert (await rig.client.post("/api/chat", json=WHOLE)).status_code == 500
    body = {"models": [{"name": "m"}], "faults": []}
    assert (await rig.client.put("/_embedded/script", json=body)).status_code == 200
    assert (await rig.client.post("/api/chat", json=WHOLE)).status_code == 200


async def test_a_wrong_script_is_refused_with_its_place(rig: Any) -> None:
    body = {"models": [{"name": "m", "tokenz": 3}]}
    answer = await rig.client.put("/_embedded/script", json=body)
    assert answer.status_code == 400 and "$.models[0]" in answer.json()["error"]


async def test_a_script_that_is_set_again_counts_anew(start: Any) -> None:
    rig = await start(script(Status(status=500, first=1)))
    statuses = []
    for _ in range(2):
        statuses += [(await rig.client.get("/api/tags")).status_code for _ in range(2)]
        rig.engine.script = rig.engine.script
    assert statuses == [500, 200, 500, 200]
