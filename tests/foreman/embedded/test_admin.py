"""The routes that change what is installed: C61-C65."""

import hashlib
import json
from typing import Any

import pytest

BYTES = b"x" * 300_000
DIGEST = f"sha256:{hashlib.sha256(BYTES).hexdigest()}"


def statuses(body: str) -> list[Any]:
    return [json.loads(line).get("status") for line in body.splitlines()]


async def test_pull_reports_progress_to_success(rig: Any) -> None:
    answer = await rig.client.post("/api/pull", json={"model": "", "name": "small"})
    assert answer.headers["content-type"] == "application/x-ndjson"
    said = statuses(answer.text)
    assert said[0] == "pulling manifest" and said[-1] == "success"
    quiet = await rig.client.post("/api/pull", json={"model": "small", "stream": False})
    assert quiet.json() == {"status": "success"}
    assert quiet.headers["content-type"] == "application/json"


async def test_pull_of_the_unknown_fails_in_the_stream_or_with_500(rig: Any) -> None:
    error = {"error": "pull model manifest: file does not exist"}
    streamed = await rig.client.post("/api/pull", json={"model": "nope"})
    assert streamed.status_code == 200 and json.loads(streamed.text.splitlines()[-1]) == error
    quiet = await rig.client.post("/api/pull", json={"model": "nope", "stream": False})
    assert quiet.status_code == 500 and quiet.json() == error


async def test_push_ends_in_success(rig: Any) -> None:
    answer = await rig.client.post("/api/push", json={"model": "small"})
    assert statuses(answer.text)[-1] == "success"


async def test_a_created_model_speaks_under_its_own_name(rig: Any) -> None:
    body = {"model": "mario", "from": "small", "system": "You are Mario."}
    answer = await rig.client.post("/api/create", json=body)
    assert statuses(answer.text)[-1] == "success"
    shown = (await rig.client.post("/api/show", json={"model": "mario"})).json()
    assert (
        shown["system"] == "You are Mario." and shown["details"]["parent_model"] == "small:latest"
    )
    assert (await rig.client.post("/api/generate", json={"model": "mario"})).status_code == 200


async def test_copy_and_delete_answer_with_empty_bodies(rig: Any) -> None:
    copied = await rig.client.post("/api/copy", json={"source": "small", "destination": "twin"})
    assert copied.status_code == 200 and copied.content == b""
    tags = (await rig.client.get("/api/tags")).json()["models"]
    assert tags[0]["name"] == "twin:latest"  # the newest comes first
    deleted = await rig.client.request("DELETE", "/api/delete", json={"name": "twin"})
    assert deleted.status_code == 200 and deleted.content == b""
    again = await rig.client.request("DELETE", "/api/delete", json={"model": "twin"})
    assert again.status_code == 404 and again.json() == {"error": "model 'twin' not found"}


async def test_a_blob_is_created_once(rig: Any) -> None:
    assert (await rig.client.head(f"/api/blobs/{DIGEST}")).status_code == 404
    assert (await rig.client.post(f"/api/blobs/{DIGEST}", content=BYTES)).status_code == 201
    assert (await rig.client.post(f"/api/blobs/{DIGEST}", content=BYTES)).status_code == 200
    assert (await rig.client.head(f"/api/blobs/{DIGEST}")).status_code == 200


async def test_a_blob_must_be_what_it_says(rig: Any) -> None:
    wrong = await rig.client.post(f"/api/blobs/{DIGEST}", content=b"other")
    assert wrong.status_code == 400 and wrong.json()["error"].startswith("digest mismatch")
    none = await rig.client.post("/api/blobs/sha256:12", content=b"")
    assert none.status_code == 400 and none.json() == {"error": "invalid digest format"}


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        ("/api/pull", {}, 400, "invalid model name"),
        ("/api/push", {}, 400, "model is required"),
        ("/api/copy", {"source": "", "destination": "x"}, 400, 'source "" is invalid'),
        (
            "/api/copy",
            {"source": "small", "destination": "a/b/c/d"},
            400,
            'destination "a/b/c/d" is invalid',
        ),
        ("/api/copy", {"source": "nope", "destination": "x"}, 404, 'model "nope" not found'),
        ("/api/create", {"model": "x"}, 400, "neither 'from' or 'files' was specified"),
    ],
)
async def test_bad_names_are_refused(
    rig: Any, path: str, body: Any, status: int, error: str
) -> None:
    answer = await rig.client.post(path, json=body)
    assert answer.status_code == status and answer.json() == {"error": error}
