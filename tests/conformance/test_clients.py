"""C53, C74, C75: clients of the field, in front of foreman.

`ollama` (Python) and `openai` run as they are. Of the others, what they send was recorded: the
`ollama` CLI's sequences, the headers of each, `/api/show` by name, `invoke()` that streams all the
same, no Content-Type. Those are replayed here, and read the way the client reads them.
"""

import json
from collections.abc import Callable
from typing import Any

import httpx
import ollama
import openai
import pytest
import trio

from foreman.embedded.script import DEFAULT_MODELS, ModelScript, Script
from tests.conformance.answers import chat, text_of
from tests.conftest import StartDaemon
from tests.fakes.daemon import Daemon

SAID = "one 2 3 4 5 6 7 8"
HELLO = [{"role": "user", "content": "hello"}]
AGENT = "ollama/0.33.0 (amd64 linux) Go/go1.26"
SCAN_LIMIT = 8 * 1000 * 1000  # bytes; where Go's scanner gives up on a line


class Cli:
    """The `ollama` command: its requests, and its way to read what comes back."""

    def __init__(self, foreman: Daemon) -> None:
        self._client = foreman.client

    async def ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """One request. Any status from 400 on is fatal to a command, unless it expects it."""
        headers = {
            "User-Agent": AGENT,
            "Accept": "application/json",
            "Content-Type": "application/json",
            "Accept-Encoding": "gzip",
        }
        return await self._client.request(method, path, json=body, headers=headers)

    async def stream(self, path: str, body: Any) -> list[Any]:
        """The lines of an answer; a blank one fails the command, and so does an error."""
        headers = {"User-Agent": AGENT, "Accept": "application/x-ndjson"}
        answer = await self._client.post(path, json=body, headers=headers)
        assert answer.is_success
        lines = answer.content.removesuffix(b"\n").split(b"\n")
        assert max(map(len, lines)) < SCAN_LIMIT
        objects = [json.loads(line) for line in lines]
        assert not any(each.get("error") for each in objects)
        return objects

    async def heartbeat(self) -> None:
        """`HEAD /`, before almost every command."""
        assert (await self.ask("HEAD", "/")).status_code == 200


async def test_c74_ollama_run_with_a_prompt(daemon: StartDaemon) -> None:
    async with daemon() as foreman:
        cli = Cli(foreman)
        await cli.heartbeat()
        shown = await cli.ask("POST", "/api/show", {"model": "small", "system": "", "name": ""})
        assert "completion" in shown.json()["capabilities"]
        body = {"model": "small", "prompt": "hello", "suffix": "", "think": None}
        objects = await cli.stream("/api/generate", body)
        assert "".join(each["response"] for each in objects) == SAID


async def test_c74_ollama_run_interactively(daemon: StartDaemon) -> None:
    async with daemon() as foreman:
        cli = Cli(foreman)
        await cli.heartbeat()
        for _ in range(2):
            assert (await cli.ask("POST", "/api/show", {"model": "small"})).is_success
        (load,) = await cli.stream("/api/generate", {"model": "small", "prompt": ""})
        assert load["done_reason"] == "load"
        objects = await cli.stream("/api/chat", {"model": "small", "messages": HELLO})
        assert text_of(objects) == SAID


async def test_c74_ollama_run_pulls_what_is_missing(daemon: StartDaemon) -> None:
    async with daemon(allow_admin=True) as foreman:
        cli = Cli(foreman)
        await cli.heartbeat()
        shown = await cli.ask("POST", "/api/show", {"model": "absent"})
        assert (shown.status_code, shown.json()) == (
            404,
            {"error": "model 'absent:latest' not found"},  # the CLI pulls on exactly this
        )
        await foreman.direct.post("/api/copy", json={"source": "small", "destination": "absent"})
        objects = await cli.stream("/api/pull", {"model": "", "name": "absent"})
        assert objects[-1] == {"status": "success"}
        objects = await cli.stream("/api/generate", {"model": "absent", "prompt": "hello"})
        assert objects[-1]["done"]


async def test_c74_ollama_run_with_an_embedding_model(daemon: StartDaemon) -> None:
    async with daemon() as foreman:
        cli = Cli(foreman)
        await cli.heartbeat()
        shown = await cli.ask("POST", "/api/show", {"model": "embedder"})
        assert shown.json()["capabilities"] == ["embedding"]
        answer = await cli.ask("POST", "/api/embed", {"model": "embedder", "input": "hello"})
        assert len(answer.json()["embeddings"]) == 1


async def test_c74_ollama_list_show_ps_and_stop(daemon: StartDaemon) -> None:
    async with daemon() as foreman:
        cli = Cli(foreman)
        await cli.heartbeat()
        listed = (await cli.ask("GET", "/api/tags")).json()["models"]
        assert all(len(each["digest"]) >= 12 for each in listed), "the CLI slices it"
        shown = await cli.ask("POST", "/api/show", {"model": "small", "verbose": False})
        assert shown.json()["details"]["family"] == "llama"
        await cli.stream("/api/generate", {"model": "small", "prompt": "hello"})
        (loaded,) = (await cli.ask("GET", "/api/ps")).json()["models"]
        assert len(loaded["digest"]) >= 12
        assert (await cli.ask("POST", "/api/show", {"model": "small"})).is_success
        (stopped,) = await cli.stream("/api/generate", {"model": "small", "keep_alive": 0})
        assert stopped["done_reason"] == "unload"
        assert (await cli.ask("GET", "/api/ps")).json() == {"models": []}


async def test_c74_ollama_cp_create_and_rm(daemon: StartDaemon) -> None:
    async with daemon(allow_admin=True) as foreman:
        cli = Cli(foreman)
        await cli.heartbeat()
        body = {"source": "small", "destination": "mine"}
        assert (await cli.ask("POST", "/api/copy", body)).content == b""
        made = {"model": "own", "from": "mine", "system": "Be brief."}
        assert (await cli.stream("/api/create", made))[-1] == {"status": "success"}
        await cli.stream("/api/generate", {"model": "own", "keep_alive": 0})
        gone = await cli.ask("DELETE", "/api/delete", {"model": "", "name": "own"})
        assert (gone.status_code, gone.content) == (200, b"")
        assert (await cli.ask("POST", "/api/show", {"model": "own"})).status_code == 404


async def test_c74_ollama_signin_is_told_where_to_go(daemon: StartDaemon) -> None:
    async with daemon() as foreman:
        answer = await Cli(foreman).ask("POST", "/api/me")
        assert answer.status_code == 401
        assert answer.json()["signin_url"].startswith("https://")


async def test_c75_ollama_python_works(daemon: StartDaemon) -> None:
    """As llm-ollama uses it too: list and show at the start, chat, embeddings by eights."""
    async with daemon(allow_admin=True) as foreman, ollama.AsyncClient(foreman.url) as client:
        assert len((await client.list()).models) == len(DEFAULT_MODELS)
        assert "completion" in ((await client.show("small")).capabilities or [])
        assert (await client.chat("small", HELLO)).message.content == SAID
        parts = await client.chat("small", HELLO, stream=True)
        assert "".join([part.message.content or "" async for part in parts]) == SAID
        assert (await client.generate("small", "hello")).response == SAID
        texts = [f"text {number}" for number in range(8)]
        assert len((await client.embed("embedder", texts)).embeddings) == len(texts)
        assert len((await client.embeddings("embedder", "hello")).embedding) == 8
        loaded = [each.model for each in (await client.ps()).models]
        assert sorted(map(str, loaded)) == ["embedder:latest", "small:latest"]
        pulled = [each async for each in await client.pull("small", stream=True)]
        assert pulled[-1].status == "success"
        with pytest.raises(ollama.ResponseError, match="model 'nope' not found") as error:
            await client.chat("nope", HELLO)
        assert error.value.status_code == 404


async def test_c75_openai_python_works(daemon: StartDaemon) -> None:
    """And with it pydantic-ai, which sends its chat completions through this client."""

    def use(client: openai.OpenAI) -> None:
        said = client.chat.completions.create(model="small", messages=MESSAGES)
        assert said.choices[0].message.content == SAID
        chunks = client.chat.completions.create(model="small", messages=MESSAGES, stream=True)
        deltas = [each.choices[0].delta.content or "" for each in chunks if each.choices]
        assert "".join(deltas) == SAID
        assert client.responses.create(model="small", input="hello").output_text == SAID
        made = client.embeddings.create(model="embedder", input=["hello", "there"])
        assert [len(each.embedding) for each in made.data] == [8, 8]
        assert "small:latest" in [each.id for each in client.models.list()]
        assert client.models.retrieve("small:latest").owned_by == "library"
        with pytest.raises(openai.NotFoundError, match="model 'nope' not found"):
            client.chat.completions.create(model="nope", messages=MESSAGES)

    async with daemon() as foreman:
        await with_openai(foreman, use)


MESSAGES: Any = HELLO


async def with_openai(foreman: Daemon, use: Callable[[openai.OpenAI], None]) -> None:
    """Use openai's client in a thread, as its blocking form wants it."""
    with openai.OpenAI(base_url=f"{foreman.url}/v1", api_key="unused") as client:
        await trio.to_thread.run_sync(use, client)


async def test_c53_a_full_queue_costs_openai_three_requests_and_no_job(
    daemon: StartDaemon,
) -> None:
    seen: list[int] = []

    def use(client: openai.OpenAI) -> None:
        hooks = {"response": [lambda answer: seen.append(answer.status_code)]}
        client._client.event_hooks = hooks
        with pytest.raises(openai.InternalServerError, match="server busy") as error:
            client.chat.completions.create(model="small", messages=MESSAGES)
        assert error.value.status_code == 503

    async with daemon(max_waiting=1) as foreman:
        foreman.engine.tokens.close()
        async with foreman.crowd(1):
            await with_openai(foreman, use)
            assert seen == [503, 503, 503]
            assert (await foreman.queue())["calls"] == []
            assert len(await foreman.jobs()) == 1


LANGCHAIN = {
    "messages": HELLO,
    "model": "small",
    "stream": True,
    "format": "",
    "options": {"temperature": 0.1},
    "keep_alive": None,
    "tools": [],
    "think": None,
}


async def test_c75_langchain_streams_even_to_invoke(daemon: StartDaemon) -> None:
    """It sends through ollama-python and skips a chunk whose done_reason is load."""
    async with daemon() as foreman, ollama.AsyncClient(foreman.url) as client:
        await client.list()  # validate_model_on_init
        parts = [part async for part in await client.chat(**LANGCHAIN)]
        assert all(part.message.content for part in parts if not part.done)
        assert "".join(part.message.content or "" for part in parts) == SAID
        made = await client.embed("embedder", ["hello"], truncate=True)
        assert len(made.embeddings) == 1


@pytest.mark.parametrize("stream", [False, True], ids=["chat", "stream"])
async def test_c75_llama_index_shows_once_and_sends_its_context(
    daemon: StartDaemon, stream: bool
) -> None:
    options = {"temperature": 0.75, "num_ctx": 3900}
    async with daemon() as foreman, ollama.AsyncClient(foreman.url, timeout=30) as client:
        shown = await client.show("small")
        assert shown.modelinfo
        answer: Any = await client.chat("small", HELLO, stream=stream, options=options)
        parts = [part async for part in answer] if stream else [answer]
        assert "".join(part.message.content or "" for part in parts) == SAID
        assert [load.options.num_ctx for load in foreman.oracle.loads] == [3900]


LITELLM = {"User-Agent": "litellm/1.106.2", "Accept": "*/*", "Accept-Encoding": "gzip, zstd"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/chat", chat(stream=False, options={"num_predict": 5})),
        ("/api/generate", {"model": "small", "prompt": "hello", "stream": False, "images": []}),
        ("/api/embed", {"model": "embedder", "input": ["hello"]}),
    ],
    ids=["ollama_chat", "ollama", "embedding"],
)
async def test_c75_litellm_sends_no_content_type_and_then_asks_to_be_shown(
    daemon: StartDaemon, path: str, body: dict[str, Any]
) -> None:
    async with daemon() as foreman:
        # Bytes, so that the client adds no Content-Type of its own.
        data = json.dumps(body).encode()
        answer = await foreman.client.post(path, content=data, headers=LITELLM)
        assert "content-type" not in answer.request.headers
        assert answer.status_code == 200
        shown = await foreman.client.post("/api/show", json={"name": body["model"]})
        assert shown.json()["capabilities"]


async def test_c75_open_webui_and_continue_work(daemon: StartDaemon) -> None:
    """Open WebUI verifies by version and unloads with a prompt; Continue fills in the middle."""
    script = Script(models=(ModelScript(name="small", capabilities=("completion", "insert")),))
    async with daemon(script=script) as foreman:
        owner = {"X-OpenWebUI-User-Name": "ann", "Authorization": "Bearer placeholder"}
        for path in ("/api/version", "/api/tags", "/api/ps"):
            assert (await foreman.client.get(path, headers=owner)).is_success
        answer = await foreman.client.post("/api/chat", json=chat(), headers=owner)
        assert answer.is_success
        unload = {"model": "small", "keep_alive": 0, "prompt": ""}
        answer = await foreman.client.post("/api/generate", json=unload, headers=owner)
        assert answer.json()["done_reason"] == "unload"
        fill = {"model": "small", "prompt": "a", "suffix": "b", "raw": True, "keep_alive": 1800}
        answer = await foreman.client.post("/api/generate", json=fill)
        assert answer.is_success
