"""C61-C65: the routes that change models, passed through when FOREMAN_ALLOW_ADMIN is on."""

import hashlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from tests.conformance.answers import assert_same, ndjson
from tests.conftest import StartDaemon
from tests.fakes.upstream import CHUNKED, Asked, chunk, upstream

DIGEST = "sha256:" + "0" * 64
CALLS: list[tuple[str, str, Any]] = [
    ("POST", "/api/pull", {"model": "small"}),
    ("POST", "/api/push", {"model": "mike/small"}),
    ("POST", "/api/create", {"model": "mine", "from": "small"}),
    ("POST", "/api/copy", {"source": "small", "destination": "mine"}),
    ("DELETE", "/api/delete", {"model": "small"}),
    ("POST", f"/api/blobs/{DIGEST}", {}),
]
MIB = 1 << 20
UPLOADED = 200 * MIB
ON_ITS_WAY = 16 * MIB  # what may be in foreman and in the buffers of two connections


@pytest.mark.parametrize(("method", "path", "body"), CALLS, ids=[path for _, path, _ in CALLS])
async def test_admin_routes_are_403_unless_they_are_allowed(
    daemon: StartDaemon, method: str, path: str, body: Any
) -> None:
    async with daemon() as foreman:
        answer = await foreman.client.request(method, path, json=body)
        assert answer.status_code == 403
        assert "FOREMAN_ALLOW_ADMIN" in answer.json()["error"]
        assert path.encode() not in [each.target for each in foreman.oracle.requests]


@pytest.mark.parametrize("name", ["model", "name"])
async def test_c61_a_pull_streams_its_progress(daemon: StartDaemon, name: str) -> None:
    async with daemon(allow_admin=True) as foreman:
        body = {"model": "", name: "small"}  # as the CLI sends it
        answer = await assert_same(foreman, "POST", "/api/pull", json=body)
        assert answer.headers["content-type"] == "application/x-ndjson"
        assert ndjson(answer)[-1] == {"status": "success"}
        answer = await assert_same(foreman, "POST", "/api/pull", json={**body, "stream": False})
        assert answer.json() == {"status": "success"}
        failed = await assert_same(foreman, "POST", "/api/pull", json={"model": "nope"})
        assert "error" in ndjson(failed)[-1]


async def test_c61_a_pull_waits_for_no_job(daemon: StartDaemon) -> None:
    async with daemon(allow_admin=True) as foreman:
        foreman.engine.tokens.close()
        async with foreman.crowd(3):
            answer = await foreman.client.post("/api/pull", json={"model": "small"})
            assert ndjson(answer)[-1] == {"status": "success"}


async def test_c61_a_pull_may_be_silent_longer_than_anything_else(daemon: StartDaemon) -> None:
    """It says nothing while another route runs into its limit, again and again."""
    go_on = trio.Event()

    async def handle(asked: Asked) -> None:
        if asked.path == "/api/show":
            await trio.sleep_forever()
        if asked.path == "/api/pull":
            await asked.stream.send_all(CHUNKED + chunk(b'{"status":"pulling manifest"}\n'))
            await go_on.wait()
            await asked.stream.send_all(chunk(b'{"status":"success"}\n') + chunk(b""))

    limits = {"metadata_timeout": 0.05, "gap_timeout": 0.05, "first_byte_timeout": 0.05}
    async with (
        upstream(handle) as url,
        daemon(upstream=url, allow_admin=True, job_timeout=0.05, **limits) as foreman,
        foreman.client.stream("POST", "/api/pull", json={"model": "small"}) as answer,
    ):
        for _ in range(3):
            shown = await foreman.client.post("/api/show", json={"model": "small"})
            assert shown.status_code == 503
        go_on.set()
        assert (await answer.aread()).endswith(b'{"status":"success"}\n')


async def test_c62_a_blob_is_uploaded(daemon: StartDaemon) -> None:
    layer = b"GGUF" + bytes(MIB)
    path = f"/api/blobs/sha256:{hashlib.sha256(layer).hexdigest()}"
    async with daemon(allow_admin=True) as foreman:
        assert (await assert_same(foreman, "HEAD", path)).status_code == 404
        answer = await foreman.client.post(path, content=layer)
        assert (answer.status_code, answer.content) == (201, b"")
        assert (await assert_same(foreman, "HEAD", path)).status_code == 200
        assert (await assert_same(foreman, "POST", path, content=layer)).status_code == 200


async def test_c62_of_a_huge_blob_only_little_is_ever_on_its_way(daemon: StartDaemon) -> None:
    sent = received = most = 0

    async def count(asked: Asked) -> None:
        nonlocal received
        if asked.method == "POST":
            data = asked.begun
            while not data.endswith(b"0\r\n\r\n"):
                received += len(data)
                data = await asked.stream.receive_some()
            await asked.stream.send_all(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal sent, most
        for _ in range(UPLOADED // MIB):
            yield bytes(MIB)
            sent += MIB
            most = max(most, sent - received)

    async with upstream(count) as url, daemon(upstream=url, allow_admin=True) as foreman:
        answer = await foreman.client.post(f"/api/blobs/{DIGEST}", content=pieces())
        assert (answer.status_code, answer.content) == (201, b"")
        assert received >= UPLOADED
        assert most < ON_ITS_WAY


async def test_c62_a_blob_with_the_wrong_digest_is_refused(daemon: StartDaemon) -> None:
    async with daemon(allow_admin=True) as foreman:
        answer = await assert_same(foreman, "POST", f"/api/blobs/{DIGEST}", content=b"other")
        assert answer.status_code == 400
        answer = await assert_same(foreman, "HEAD", "/api/blobs/md5:0")
        assert answer.status_code == 400


async def test_c63_a_delete_carries_its_body(daemon: StartDaemon) -> None:
    async with daemon(allow_admin=True) as foreman:
        await foreman.polled()
        body = b'{"model":"","name":"small"}'  # as the CLI sends it
        answer = await foreman.client.request("DELETE", "/api/delete", content=body)
        assert (answer.status_code, answer.content) == (200, b"")
        assert "content-type" not in answer.headers
        assert body in [each.body for each in foreman.oracle.requests]
        gone = await foreman.client.post("/api/generate", json={"model": "small"})
        assert gone.status_code == 404, "the inventory was looked at again"


async def test_c64_a_copy_answers_with_nothing(daemon: StartDaemon) -> None:
    body = {"source": "small", "destination": "mine"}
    async with daemon(allow_admin=True) as foreman:
        answer = await assert_same(foreman, "POST", "/api/copy", json=body)
        assert (answer.status_code, answer.content) == (200, b"")
        assert (await foreman.client.post("/api/generate", json={"model": "mine"})).is_success


async def test_c65_create_streams_its_progress(daemon: StartDaemon) -> None:
    body = {"model": "mine", "from": "small", "system": "Be brief."}
    async with daemon(allow_admin=True) as foreman:
        answer = await assert_same(foreman, "POST", "/api/create", json=body)
        assert ndjson(answer)[-1] == {"status": "success"}
        assert (await foreman.client.post("/api/generate", json={"model": "mine"})).is_success
