"""C07, C08, C18, C47: the three embedding routes."""

import re
from typing import Any

import pytest

from tests.conformance.answers import assert_same
from tests.conftest import StartDaemon


@pytest.mark.parametrize("texts", ["one", ["one", "two", "three"]], ids=["string", "list"])
async def test_c07_embed_keeps_order_and_every_digit(
    daemon: StartDaemon, texts: str | list[str]
) -> None:
    body = {"model": "embedder", "input": texts}
    async with daemon() as foreman:
        answer = await assert_same(foreman, "POST", "/api/embed", json=body)
        direct = await foreman.direct.post("/api/embed", json=body)
        assert vectors(answer.content) == vectors(direct.content)
        wanted = [texts] if isinstance(texts, str) else texts
        for text, vector in zip(wanted, answer.json()["embeddings"], strict=True):
            alone = await foreman.direct.post("/api/embed", json=body | {"input": text})
            assert alone.json()["embeddings"] == [vector]


async def test_c08_the_legacy_route_gives_one_vector(daemon: StartDaemon) -> None:
    body = {"model": "embedder", "prompt": "one"}
    async with daemon() as foreman:
        answer = await assert_same(foreman, "POST", "/api/embeddings", json=body)
        assert answer.json().keys() == {"embedding"}
        assert len(answer.json()["embedding"]) == 8


@pytest.mark.parametrize("path", ["/api/embed", "/api/embeddings"])
async def test_c18_an_unknown_embedding_model_is_404(daemon: StartDaemon, path: str) -> None:
    body = {"model": "nope", "input": "one", "prompt": "one"}
    async with daemon() as foreman:
        answer = await assert_same(foreman, "POST", path, json=body)
        assert answer.status_code == 404
        assert answer.json() == {"error": 'model "nope" not found, try pulling it first'}


@pytest.mark.parametrize("encoding", [None, "float", "base64"], ids=str)
async def test_c47_openai_embeddings_come_as_floats_or_base64(
    daemon: StartDaemon, encoding: str | None
) -> None:
    body: dict[str, Any] = {"model": "embedder", "input": ["one", "two"]}
    if encoding:
        body["encoding_format"] = encoding
    async with daemon() as foreman:
        answer = await assert_same(foreman, "POST", "/v1/embeddings", json=body)
        vector = answer.json()["data"][0]["embedding"]
        assert isinstance(vector, str if encoding == "base64" else list)


def vectors(body: bytes) -> bytes:
    """The vectors as they stand in the body, digit for digit."""
    found = re.search(rb'"embeddings":(\[\[.*?\]\])', body)
    assert found
    return found[1]
