from pathlib import Path
from typing import Any

import msgspec
import pytest

from foreman.client import requests
from foreman.client.answers import ChatResponse, Message, read
from foreman.client.transport import Request


def body(request: Request) -> Any:
    return msgspec.json.decode(request.body or b"")


def test_a_chat_is_ollamas() -> None:
    asked = requests.chat("m", [{"role": "user", "content": "Hi"}], {"think": True}, stream=True)
    assert (asked.method, asked.path) == ("POST", "/api/chat")
    messages = [{"role": "user", "content": "Hi"}]
    assert body(asked) == {"model": "m", "messages": messages, "stream": True, "think": True}


def test_an_answer_goes_back_as_it_came() -> None:
    call = '{"function":{"name":"f","arguments":{"b":1,"a":2}}}'
    said = f'{{"role":"assistant","content":"Hi","tool_calls":[{call}]}}'
    answer = read(f'{{"message":{said},"done":true}}'.encode(), ChatResponse)
    asked = requests.chat("m", [answer.message], {}, stream=False)
    assert said.encode() in (asked.body or b"")
    assert body(requests.chat("m", [Message("user", "Hi")], {}, stream=False))["messages"] == [
        {"role": "user", "content": "Hi"}
    ]


def test_an_image_may_be_bytes_or_a_file_or_base64(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(b"\x89PNG")
    asked = requests.generate("m", "x", {"images": [b"\x89PNG", path, "iVBORw=="]}, stream=False)
    assert body(asked)["images"] == ["iVBORw=="] * 3


def test_an_embedding_is_ollamas() -> None:
    asked = requests.embed("m", ["a", "b"], {"truncate": False})
    assert body(asked) == {"model": "m", "input": ["a", "b"], "truncate": False}


def test_a_webhook_may_be_a_url_or_say_which_events() -> None:
    both: list[Any] = ["http://x", {"url": "http://x", "events": ["*"]}]
    for given, sent in zip(both, [{"url": "http://x"}, both[1]], strict=True):
        asked = requests.submit("/api/chat", {"model": "m"}, {"webhook": given}, None)
        assert body(asked)["webhook"] == sent


def test_each_submission_has_a_key_of_its_own_or_the_one_it_is_given() -> None:
    keys = {
        requests.submit("/api/chat", {}, {}, key).headers["idempotency-key"]
        for key in (None, None, "mine")
    }
    assert len(keys) == 3
    assert "mine" in keys


def test_what_json_cannot_express_is_refused() -> None:
    with pytest.raises(TypeError, match="of type object"):
        requests.post("/api/chat", {"model": object()})
