"""Routing, origins, metadata and the rig's own routes: C12-C16, C48, C54-C60, C70, C72."""

from typing import Any

import pytest

from foreman.embedded.script import ModelScript, Script

SAID = [{"role": "user", "content": "hi"}]


async def test_the_root_says_that_ollama_is_running(rig: Any) -> None:
    answer = await rig.client.get("/")
    assert answer.text == "Ollama is running"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    head = await rig.client.head("/")
    assert head.status_code == 200 and head.content == b""
    assert head.headers["content-length"] == "17"


@pytest.mark.parametrize(
    ("method", "path", "status", "text", "allow"),
    [
        ("GET", "/nowhere", 404, "404 page not found", None),
        ("GET", "/api/chat", 405, "405 method not allowed", "POST"),
        ("POST", "/api/tags", 405, "405 method not allowed", "HEAD, GET"),
        ("HEAD", "/api/ps", 405, "", "GET"),
        ("GET", "/v1/models/a/b", 404, "404 page not found", None),
        ("OPTIONS", "/api/chat", 405, "405 method not allowed", "POST"),
    ],
)
async def test_the_router_answers_in_plain_text(
    rig: Any, method: str, path: str, status: int, text: str, allow: str | None
) -> None:
    answer = await rig.client.request(method, path)
    assert answer.status_code == status and answer.text == text
    assert answer.headers["content-type"] == "text/plain"
    assert answer.headers.get("allow") == allow


@pytest.mark.parametrize(
    ("method", "path", "status", "location"),
    [
        ("GET", "/api/tags/", 301, "/api/tags"),
        ("POST", "/api/chat/", 307, "/api/chat"),
        ("POST", "/api//chat", 307, "/api/chat"),
    ],
)
async def test_misspelled_paths_are_redirected(
    rig: Any, method: str, path: str, status: int, location: str
) -> None:
    request = rig.client.build_request(method, "/")
    request.url = request.url.copy_with(raw_path=path.encode())
    answer = await rig.client.send(request)
    assert answer.status_code == status and answer.headers["location"] == location


async def test_tags_show_what_a_client_needs(rig: Any) -> None:
    models = (await rig.client.get("/api/tags")).json()["models"]
    by_name = {entry["name"]: entry for entry in models}
    small = by_name["small:latest"]
    assert small["model"] == "small:latest" and len(small["digest"]) == 64
    assert small["details"]["format"] == "gguf" and "completion" in small["capabilities"]
    stub = by_name["faraway:cloud"]
    assert stub["remote_model"] == "faraway" and stub["remote_host"].startswith("https://")


async def test_show_takes_either_field_and_an_empty_model_counts_as_absent(rig: Any) -> None:
    first = await rig.client.post("/api/show", json={"model": "small"})
    second = await rig.client.post("/api/show", json={"model": "", "name": "SMALL:latest"})
    assert first.json() == second.json()
    assert first.json()["model_info"]["general.architecture"] == "llama"


async def test_copilot_is_shown_the_name_it_asked_for(rig: Any) -> None:
    headers = {"user-agent": "GitHubCopilotChat/1.2"}
    answer = await rig.client.post("/api/show", json={"model": "SMALL"}, headers=headers)
    assert answer.json()["model_info"]["general.basename"] == "SMALL"


async def test_a_foreign_origin_gets_an_empty_403(rig: Any) -> None:
    for method in ("GET", "OPTIONS"):
        answer = await rig.client.request(
            method, "/api/tags", headers={"origin": "https://evil.example"}
        )
        assert answer.status_code == 403 and answer.content == b""


@pytest.mark.parametrize("origin", ["http://localhost:3000", "https://127.0.0.1", "app://obsidian"])
async def test_a_local_origin_is_granted(rig: Any, origin: str) -> None:
    answer = await rig.client.get("/api/tags", headers={"origin": origin})
    assert answer.status_code == 200
    assert (
        answer.headers["access-control-allow-origin"] == origin
        and answer.headers["vary"] == "Origin"
    )
    preflight = await rig.client.options("/api/chat", headers={"origin": origin})
    assert preflight.status_code == 204
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert preflight.headers["access-control-max-age"] == "43200"


async def test_the_servers_own_origin_is_not_cross_origin(rig: Any) -> None:
    answer = await rig.client.get("/api/tags", headers={"origin": rig.url})
    assert answer.status_code == 200 and "access-control-allow-origin" not in answer.headers


async def test_a_foreign_host_is_refused(rig: Any) -> None:
    answer = await rig.client.get("/api/tags", headers={"host": "evil.example"})
    assert answer.status_code == 403 and answer.content == b""
    assert (await rig.client.get("/api/tags", headers={"host": "box.local:80"})).status_code == 200


async def test_requests_are_remembered_byte_for_byte(rig: Any) -> None:
    body = b' {"model" : "small", "x":1e5,"messages":[]}\xff'
    headers = {"X-MiXeD": "v", "content-type": "text/plain"}
    await rig.client.post("/api/chat?a=b", content=body, headers=headers)
    recorded = rig.oracle.requests[-1]
    assert recorded.body == body and recorded.target == b"/api/chat?a=b"
    assert (b"X-MiXeD", b"v") in recorded.headers
    stats = (await rig.client.get("/_embedded/stats")).json()
    assert ["X-MiXeD", "v"] in stats["requests"][-1]["headers"]
    assert stats["loads"] == 1 and stats["requests"][-1]["size"] == len(body)


async def test_calls_are_listed_in_the_order_they_were_served(start: Any) -> None:
    rig = await start(Script(models=(ModelScript(name="a"), ModelScript(name="b"))))
    for name in ("b", "a", "B"):
        await rig.client.post("/api/chat", json={"model": name, "messages": SAID})
    assert [call.model for call in rig.oracle.calls] == ["b", "a", "B"]
    assert [load.model for load in rig.oracle.loads] == ["b:latest", "a:latest"]


async def test_forty_megabytes_are_accepted(rig: Any) -> None:
    message = {"role": "user", "content": "hi", "images": ["A" * 40_000_000]}
    body = {"model": "small", "messages": [message], "stream": False}
    answer = await rig.client.post("/api/chat", json=body)
    assert answer.json()["done"]
    recorded = rig.oracle.requests[-1]
    assert recorded.size > 40_000_000 and recorded.body == b"" and len(recorded.sha256) == 64


async def test_deep_json_is_refused(rig: Any) -> None:
    answer = await rig.client.post("/api/chat", content=b'{"a":' + b"[" * 100_000)
    assert answer.status_code == 400 and answer.json() == {"error": "exceeded max depth"}
