"""The unmodified `ollama` client, in a thread, as it is used."""

from collections.abc import Callable
from typing import Any, TypeVar

import ollama
import pytest
import trio

from foreman.embedded.script import ErrorLine, ModelScript, Script, ToolCall

T = TypeVar("T")
SAID = [{"role": "user", "content": "hi"}]


async def ask(rig: Any, question: Callable[[ollama.Client], T]) -> T:
    """Answer the question with a client that is closed again."""

    def run() -> T:
        client = ollama.Client(host=rig.url)
        try:
            return question(client)
        finally:
            client._client.close()

    return await trio.to_thread.run_sync(run)


async def test_it_chats_and_streams(rig: Any) -> None:
    whole = await ask(rig, lambda client: client.chat("small", SAID))
    parts = await ask(rig, lambda client: list(client.chat("small", SAID, stream=True)))
    assert whole.message.content == "".join(part.message.content or "" for part in parts)
    assert parts[-1].done and parts[-1].eval_count == 8


async def test_it_generates_and_goes_on_from_a_context(rig: Any) -> None:
    first = await ask(rig, lambda client: client.generate("small", "hi"))
    second = await ask(rig, lambda client: client.generate("small", "hi", context=first.context))
    assert second.response == first.response


async def test_it_embeds(rig: Any) -> None:
    answer = await ask(rig, lambda client: client.embed("embedder", ["a", "b"]))
    assert len(answer.embeddings) == 2
    old = await ask(rig, lambda client: client.embeddings("embedder", "a"))
    assert len(old.embedding) == 8


async def test_it_calls_tools(start: Any) -> None:
    rig = await start(
        Script(models=(ModelScript(name="m", tool_calls=(ToolCall("add", {"b": 1}),)),))
    )
    tool = {"type": "function", "function": {"name": "add"}}
    answer = await ask(rig, lambda client: client.chat("m", SAID, tools=[tool]))
    assert answer.message.tool_calls and answer.message.tool_calls[0].function.arguments == {"b": 1}


async def test_it_lists_shows_and_manages(rig: Any) -> None:
    await ask(rig, lambda client: client.generate("small"))
    assert (await ask(rig, lambda client: client.ps())).models[0].name == "small:latest"
    assert len((await ask(rig, lambda client: client.list())).models) == 5
    shown = await ask(rig, lambda client: client.show("small"))
    assert shown.modelinfo and shown.capabilities
    assert (await ask(rig, lambda client: client.copy("small", "twin"))).status == "success"
    assert (await ask(rig, lambda client: client.delete("twin"))).status == "success"
    progress = await ask(rig, lambda client: list(client.pull("small", stream=True)))
    assert progress[-1].status == "success"


async def test_it_raises_what_the_target_says(rig: Any) -> None:
    with pytest.raises(ollama.ResponseError, match="model 'nope' not found") as caught:
        await ask(rig, lambda client: client.chat("nope", SAID))
    assert caught.value.status_code == 404


async def test_it_raises_an_error_line(start: Any) -> None:
    rig = await start(Script(models=(ModelScript(name="m"),), faults=(ErrorLine(after_tokens=2),)))
    with pytest.raises(ollama.ResponseError, match="unexpectedly stopped"):
        await ask(rig, lambda client: list(client.chat("m", SAID, stream=True)))
