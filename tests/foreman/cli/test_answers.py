from typing import Any

import msgspec
import pytest

from foreman.cli.answers import text_of, text_of_result


@pytest.mark.parametrize(
    ("record", "text"),
    [
        ({"message": {"role": "assistant", "content": "Hi"}, "done": False}, "Hi"),
        ({"response": "Hi", "done": False}, "Hi"),
        ({"choices": [{"message": {"content": "Hi"}}]}, "Hi"),
        ({"choices": [{"delta": {"content": "Hi"}}]}, "Hi"),
        ({"choices": [{"delta": {"role": "assistant"}}]}, ""),
        ({"choices": [{"text": "Hi"}]}, "Hi"),
        ({"choices": [], "usage": {}}, ""),
        ({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Hi"}}, "Hi"),
        ({"type": "message_start", "message": {"id": "x"}}, ""),
        ({"type": "message", "content": [{"type": "text", "text": "Hi"}, {"type": "x"}]}, "Hi"),
        ({"type": "response.output_text.delta", "delta": "Hi"}, "Hi"),
        ({"output": [{"type": "message", "content": [{"text": "H"}, {"text": "i"}]}]}, "Hi"),
        ({"embeddings": [[0.5]]}, None),
        ([1], None),
    ],
)
def test_the_words_of_a_record(record: Any, text: str | None) -> None:
    assert text_of(record) == text


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (b'{"message":{"content":"Hi"},"done":true}', "Hi"),
        (
            b'[{"choices":[{"delta":{"content":"H"}}]},{"choices":[{"delta":{"content":"i"}}]}]',
            "Hi",
        ),
        (b'{"embeddings":[]}', '{\n  "embeddings": []\n}'),
        (b'{"message":{"content":""},"done":true}', None),
    ],
)
def test_a_result_is_its_words_or_its_json(result: bytes, text: str | None) -> None:
    expected = msgspec.json.format(result).decode() if text is None else text
    assert text_of_result(msgspec.Raw(result)) == expected
