"""What no client should send: refused early, cheaply and in words; the daemon serves on."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import trio

from foreman.embedded.script import ModelScript, Script
from tests.conftest import StartDaemon
from tests.e2e.processes import chat, raw, upstream
from tests.edge.fuzzer import fuzz
from tests.fakes.daemon import connected, spawned

CHAT = "/api/chat"
MODELS = Script(models=(ModelScript(name="small:latest"),))
START = b'{"model": "small", "messages": '
BODIES = {
    "empty": b"",
    "blank": b" \n ",
    "NUL": b"\x00" * 10,
    "BOM": b"\xef\xbb\xbf" + START + b"[]}",
    "truncated": START,
    "array": b"[1, 2, 3]",
    "string": b'"small"',
    "NaN": START + b'[], "options": {"temperature": NaN}}',
    "Infinity": START + b'[], "options": {"temperature": -Infinity}}',
    "number of a million digits": START + b'[], "options": {"seed": ' + b"9" * 1_000_000 + b"}}",
    "100,000 deep arrays": START + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "100,000 deep objects": START + b'{"a":' * 100_000,
    "8 MiB of braces": b"{" * (8 << 20),
    "NUL in a string": START + b'[{"role": "user", "content": "a\x00b"}]}',
    "number for a model": b'{"model": 7, "messages": []}',
    "no model": b'{"messages": []}',
    "half a pair": START + b'[{"role": "user", "content": "\\ud800"}]}',
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_a_body_that_is_wrong_is_a_400_in_ollamas_shape_and_no_job(
    daemon: StartDaemon, body: bytes
) -> None:
    async with daemon(script=MODELS) as foreman:
        with trio.fail_after(2):
            refused = await foreman.client.post(CHAT, content=body)
        assert refused.status_code == 400
        assert list(refused.json()) == ["error"]
        assert (await foreman.client.post(CHAT, json=chat())).status_code == 200
        assert len(await foreman.jobs()) == 1


@pytest.mark.parametrize(
    "body",
    [
        START + b'[{"role": "user", "content": "\xff\xfe"}]}',
        START + b'{"role": "user"}}',
        START + b"[]}}",
    ],
    ids=["no UTF-8", "object for messages", "a brace too many"],
)
async def test_what_only_the_target_can_judge_gets_the_targets_own_answer(
    daemon: StartDaemon, body: bytes
) -> None:
    async with daemon(script=MODELS) as foreman:
        await foreman.polled()
        through = await foreman.client.post(CHAT, content=body)
        direct = await foreman.direct.post(CHAT, content=body)
        assert through.status_code == direct.status_code
        first, expected = (json.loads(each.text.splitlines()[0]) for each in (through, direct))
        assert list(first) == list(expected)
        assert (await foreman.client.post(CHAT, json=chat())).status_code == 200


async def test_a_body_that_drips_is_given_up_though_it_never_pauses(daemon: StartDaemon) -> None:
    """Row 46: the limit is on the whole body, not on each piece."""
    head = b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"

    async with daemon(script=MODELS, body_timeout=0.3) as foreman:
        async with await trio.open_tcp_stream("127.0.0.1", foreman.port) as stream:
            await stream.send_all(head)
            answer = b""
            async with trio.open_nursery() as nursery:

                async def drip() -> None:
                    while True:
                        await stream.send_all(b" ")
                        await foreman.client.get("/healthz")  # takes its time

                nursery.start_soon(drip)
                answer = await stream.receive_some()
                nursery.cancel_scope.cancel("it has answered")
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert (await foreman.client.post(CHAT, json=chat())).status_code == 200


async def test_a_request_line_and_headers_beyond_measure_are_refused(
    daemon: StartDaemon,
) -> None:
    """Row 48."""

    def asked(line: bytes, *fields: bytes) -> Iterator[bytes]:
        yield b"\r\n".join((line, b"Host: localhost", b"Connection: close", *fields, b"", b""))

    async with daemon(script=MODELS) as foreman:
        for pieces in (
            asked(b"GET /api/tags HTTP/1.1", b"X: " + b"x" * 100_000),
            asked(b"GET /api/tags HTTP/1.1", *[b"X-%d: x" % n for n in range(10_000)]),
            asked(b"GET /" + b"x" * 65_536 + b" HTTP/1.1"),
        ):
            answer = await raw(foreman.url, pieces)
            assert answer[9:12] in (b"400", b"414", b"431"), answer[:80]
        assert (await foreman.client.get("/api/tags")).status_code == 200


async def test_two_thousand_fuzzed_connections_leave_the_whole_daemon_as_it_was(
    tmp_path: Path,
) -> None:
    """The edge alone takes ten times as many in tests/edge."""
    # What it leaves hanging must not use up the places of its address.
    roomy = {"max_connections_per_ip": "1024", "body_timeout": "1s"}
    async with upstream(MODELS) as target, spawned(tmp_path, target.url, **roomy) as foreman:
        at = httpx.URL(foreman.url)
        assert await fuzz(at.host, at.port or 0, 2000, seed=46) > 500
        async with connected(foreman.url) as client:
            assert (await client.post(CHAT, json=chat())).status_code == 200
            assert (await client.get("/queue")).json()["calls"] == []
        foreman.process.terminate()
        assert await foreman.process.wait() == 0
