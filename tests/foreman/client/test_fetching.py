from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from foreman.client import fetching, working
from foreman.client.answers import ChatResponse
from foreman.client.errors import Damaged, Refused, Unreachable
from tests.fakes.transport import Given, Says, ScriptedTransport, away, job, refuses, says, streams

BODY = bytes(range(256)) * 4


def artifact(body: bytes = BODY, name: str = "result.json", **fields: Any) -> dict[str, Any]:
    digest = sha256(body).hexdigest()
    plain = {"name": name, "content_type": "application/json", "size": len(body)}
    return {**plain, "sha256": digest, "url": f"/jobs/J1/artifacts/{name}", **fields}


def names(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir()]


def listing(*artifacts: dict[str, Any]) -> Says:
    return says({"artifacts": artifacts})


async def fetched(*given: Given) -> tuple[bytes, ScriptedTransport]:
    transport = ScriptedTransport(listing(artifact()), *given)
    return await fetching.content(transport, "J1", None), transport


async def test_an_artifact_is_its_bytes() -> None:
    body, transport = await fetched(Says(BODY))
    assert body == BODY
    assert transport.paths == ["/jobs/J1/artifacts", "/jobs/J1/artifacts/result.json"]


async def test_a_broken_download_goes_on_where_it_broke() -> None:
    body, transport = await fetched(
        Says(BODY, cut=100), away(), Says(BODY[100:], 206, cut=50), Says(BODY[150:], 206)
    )
    assert body == BODY
    ranges = [request.headers.get("range") for request in transport.asked[1:]]
    assert ranges == [None, "bytes=100-", "bytes=100-", "bytes=150-"]
    assert transport.asked[-1].headers["if-range"] == f'"{sha256(BODY).hexdigest()}"'


async def test_bytes_without_their_checksum_are_damaged() -> None:
    with pytest.raises(Damaged, match="checksum"):
        await fetched(Says(BODY[::-1]))


async def test_an_artifact_that_is_shorter_than_it_should_be_is_damaged() -> None:
    with pytest.raises(Damaged, match="ends after 9 bytes"):
        await fetched(Says(BODY[:9]))


async def test_an_artifact_that_became_another_is_damaged() -> None:
    with pytest.raises(Damaged, match="has changed"):
        await fetched(Says(BODY, cut=100), Says(BODY))


async def test_an_empty_artifact_is_not_asked_for() -> None:
    transport = ScriptedTransport(listing(artifact(b"")))
    assert await fetching.content(transport, "J1", None) == b""


async def test_the_artifact_is_chosen_by_its_name() -> None:
    both = listing(artifact(), artifact(b"two", "two.txt"))
    transport = ScriptedTransport(both, Says(b"two"))
    assert await fetching.content(transport, "J1", "two.txt") == b"two"


async def test_a_name_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(Refused, match=r"has left result\.json"):
        await fetching.content(ScriptedTransport(listing(artifact())), "J1", "x")


async def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "answer.json"
    transport = ScriptedTransport(listing(artifact()), Says(BODY, cut=9), Says(BODY[9:], 206))
    found = await fetching.save(transport, "J1", path, None)
    assert (path.read_bytes(), found.size) == (BODY, len(BODY))
    assert names(tmp_path) == ["answer.json"]


@pytest.mark.parametrize("given", [Says(BODY[::-1]), refuses(404, ""), away()], ids=repr)
async def test_a_download_that_fails_leaves_nothing(tmp_path: Path, given: Given) -> None:
    path = tmp_path / "answer.json"
    transport = ScriptedTransport(listing(artifact()), given, patience=0)
    with pytest.raises((Damaged, Refused, Unreachable)):
        await fetching.save(transport, "J1", path, None)
    assert names(tmp_path) == []


def piece(content: str, **fields: Any) -> dict[str, Any]:
    return {"model": "m", "message": {"role": "assistant", "content": content}, **fields}


async def result(content_type: str, endpoint: str, body: bytes) -> Any:
    kept = artifact(body, "result", content_type=content_type)
    view = job(endpoint=endpoint, artifacts=[kept])
    return await working.result(ScriptedTransport(says(view), Says(body)), "J1", None, None)


async def test_a_stored_native_stream_is_folded_into_one_answer() -> None:
    call = {"function": {"name": "f", "arguments": {"x": 1}}}
    body = streams(
        {"model": "m", "message": {"role": "assistant", "content": "", "thinking": "Hm"}},
        piece("a", done=False),
        {"model": "m", "message": {"role": "assistant", "content": "b", "tool_calls": [call]}},
        piece("", done=True, eval_count=4),
    ).body
    answer = await result("application/x-ndjson", "/api/chat", body)
    assert isinstance(answer, ChatResponse)
    assert (answer.message.content, answer.message.thinking) == ("ab", "Hm")
    assert answer.message.tool_calls is not None
    assert (answer.done, answer.eval_count) == (True, 4)


@pytest.mark.parametrize(
    ("content_type", "body", "value"),
    [
        ("application/json", b'{"choices": []}', {"choices": []}),
        ("application/x-ndjson", b'{"a": 1}\n{"a": 2}\n', [{"a": 1}, {"a": 2}]),
        ("text/event-stream", b'event: x\ndata: {"a": 1}\n\ndata: [DONE]\n\n', [{"a": 1}]),
        ("text/plain", "Grüße".encode(), "Grüße"),
    ],
)
async def test_a_stored_result_of_another_endpoint_is_plain(
    content_type: str, body: bytes, value: Any
) -> None:
    assert await result(content_type, "/v1/chat/completions", body) == value


async def test_a_stored_result_that_cannot_be_read_is_damaged() -> None:
    with pytest.raises(Damaged, match="not the JSON it should be"):
        await result("application/json", "/api/chat", b"{")
