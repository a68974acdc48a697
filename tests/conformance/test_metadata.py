"""C12-C16, C48, C59, C60, C72: what is never queued, and the router."""

import re

import pytest

from foreman.embedded.script import DEFAULT_MODELS, ModelScript, Script
from tests.conformance.answers import assert_same, chat
from tests.conftest import StartDaemon

CROWD = 100


async def test_c12_tags_are_the_targets(daemon: StartDaemon) -> None:
    async with daemon() as foreman:
        answer = await assert_same(foreman, "GET", "/api/tags")
        assert len(answer.json()["models"]) == len(DEFAULT_MODELS)
        head = await assert_same(foreman, "HEAD", "/api/tags")
        assert int(head.headers["content-length"]) == len(answer.content)


async def test_c13_the_root_says_that_ollama_is_running(daemon: StartDaemon) -> None:
    async with daemon() as foreman:
        answer = await assert_same(foreman, "GET", "/")
        assert answer.content == b"Ollama is running"
        head = await assert_same(foreman, "HEAD", "/")
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type"] == "text/plain; charset=utf-8"
        assert head.headers["content-length"] == "17"


async def test_c14_the_version_is_the_targets(daemon: StartDaemon) -> None:
    async with daemon() as foreman:
        answer = await assert_same(foreman, "GET", "/api/version")
        assert re.fullmatch(r"\d+\.\d+\.\d+(-\w+)?", answer.json()["version"])
        head = await assert_same(foreman, "HEAD", "/api/version")
        assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize("field", ["model", "name"])
async def test_c15_show_takes_either_field(daemon: StartDaemon, field: str) -> None:
    async with daemon() as foreman:
        answer = await assert_same(foreman, "POST", "/api/show", json={field: "small"})
        assert answer.json()["capabilities"] == ["completion", "tools"]


async def test_c15_show_does_not_wait_behind_a_hundred_jobs(daemon: StartDaemon) -> None:
    async with daemon() as foreman:
        foreman.engine.tokens.close()
        async with foreman.crowd(CROWD):
            # All of them are held for good: were it queued, this would never be answered.
            answer = await assert_same(foreman, "POST", "/api/show", json={"model": "small"})
            assert answer.status_code == 200
            assert len((await foreman.queue())["calls"]) == CROWD - 1


async def test_c16_ps_is_the_targets(daemon: StartDaemon) -> None:
    async with daemon() as foreman:
        await foreman.client.post("/api/chat", json=chat(stream=False))
        answer = await assert_same(foreman, "GET", "/api/ps")
        (loaded,) = answer.json()["models"]
        assert loaded["name"] == "small:latest"
        assert len(loaded["digest"]) >= 12, "the CLI slices it"
        assert (await assert_same(foreman, "HEAD", "/api/ps")).status_code == 405


async def test_c48_openai_lists_the_models(daemon: StartDaemon) -> None:
    async with daemon() as foreman:
        answer = await foreman.client.get("/v1/models")
        assert answer.json() == (await foreman.direct.get("/v1/models")).json()


@pytest.mark.parametrize("name", ["small:latest", "small", "nope", "mike/mario", "a%2Fb"])
async def test_c48_openai_shows_one_model(daemon: StartDaemon, name: str) -> None:
    async with daemon() as foreman:
        answer = await foreman.client.get(f"/v1/models/{name}")
        direct = await foreman.direct.get(f"/v1/models/{name}")
        assert (answer.status_code, answer.content) == (direct.status_code, direct.content)
        assert answer.headers["content-type"] == direct.headers["content-type"]
        if answer.is_success:  # it was asked for in the client's own letters
            asked, foremans = list(foreman.oracle.requests)[-1:-3:-1]
            assert asked.target == foremans.target == f"/v1/models/{name}".encode()
    if name == "nope":
        assert answer.status_code == 404
        assert answer.json()["error"]["type"] == "not_found_error"


@pytest.mark.parametrize("path", ["/nope", "/api", "/api/chat/more", "/api/stop", "/debug/pprof/"])
async def test_c59_an_unknown_path_is_404_in_plain_text(daemon: StartDaemon, path: str) -> None:
    async with daemon() as foreman:
        answer = await assert_same(foreman, "GET", path)
        assert (answer.status_code, answer.text) == (404, "404 page not found")


@pytest.mark.parametrize("path", ["//api/chat", "/api//chat", "/api/chat/", "/api/../api/chat"])
async def test_c60_a_misspelled_slash_works_all_the_same(daemon: StartDaemon, path: str) -> None:
    async with daemon() as foreman:
        # httpx would tidy the path up itself.
        request = foreman.client.build_request("POST", "/", json=chat(stream=False))
        request.url = request.url.copy_with(raw_path=path.encode())
        answer = await foreman.client.send(request, follow_redirects=True)
        assert answer.json()["done"]
        listed = await foreman.client.get("/api/tags/", follow_redirects=True)
        assert len(listed.json()["models"]) == len(DEFAULT_MODELS)


@pytest.mark.parametrize("agent", ["GitHubCopilotChat/0.26", "ollama/0.33.0"])
async def test_c72_copilot_is_shown_the_name_it_asked_for(daemon: StartDaemon, agent: str) -> None:
    asked = {"model": "mike/small:fast"}
    script = Script(models=(ModelScript(name="mike/small:fast"),))
    async with daemon(script=script) as foreman:
        answer = await assert_same(
            foreman, "POST", "/api/show", json=asked, headers={"User-Agent": agent}
        )
        name = answer.json()["model_info"]["general.basename"]
        assert name == ("mike/small:fast" if "Copilot" in agent else "small")
