"""The OpenAI dialects of chat, completions, embeddings, models and transcriptions."""

import base64
import random
import struct
from collections.abc import Sequence

from foreman import names
from foreman.embedded.chunk import Chunk
from foreman.embedded.dialect import JSON, SSE
from foreman.embedded.engine import Json, Model
from foreman.embedded.go import encode
from foreman.embedded.http1 import Header

_ERROR_TYPES = {400: "invalid_request_error", 404: "not_found_error"}
_DONE = b"data: [DONE]\n\n"


def error_body(status: int, text: str) -> bytes:
    """OpenAI's error object."""
    kind = _ERROR_TYPES.get(status, "api_error")
    error = {"message": text, "type": kind, "param": None, "code": None}
    return encode({"error": error}) + b"\n"


def frame(value: Json) -> bytes:
    """One server-sent event without a name."""
    return b"data: " + encode(value) + b"\n\n"


def usage(chunk: Chunk) -> dict[str, int]:
    """What was read, what was written, and their sum."""
    read, written = chunk.metrics.prompt_eval_count, chunk.metrics.eval_count
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
    }


class _Streams:
    """What all /v1 dialects share."""

    stream_type = SSE
    whole_type = JSON
    error_type = JSON
    extra: tuple[Header, ...] = ()

    def error(self, status: int, text: str) -> bytes:
        """OpenAI's error object."""
        return error_body(status, text)


class ChatCompletions(_Streams):
    """/v1/chat/completions. Its ids repeat, as Ollama's do."""

    def __init__(self, *, include_usage: bool) -> None:
        self._include_usage = include_usage
        self._id = f"chatcmpl-{random.randrange(999)}"
        self._created = 0
        self._tools_sent = False

    def frames(self, chunk: Chunk) -> bytes:
        """The delta; after the last one the finish chunk, the usage if asked for, and `[DONE]`."""
        first = not self._created
        self._created = self._created or chunk.created
        said = chunk.content or chunk.thinking or chunk.tool_calls or chunk.logprobs
        parts: list[bytes] = []
        if said or first or not chunk.done:
            parts += [frame(delta) for delta in self._deltas(chunk, first=first)]
        if chunk.done:
            parts += self._end(chunk)
        return b"".join(parts)

    def whole(self, chunk: Chunk) -> bytes:
        """A chat.completion."""
        message: dict[str, Json] = {"role": "assistant", "content": chunk.content}
        if chunk.thinking:
            message["reasoning"] = chunk.thinking
        if chunk.tool_calls:
            message["tool_calls"] = tool_calls(chunk)
        choice = {"index": 0, "message": message, "finish_reason": self._reason(chunk)}
        body = self._object("chat.completion", chunk.model, chunk.created, [choice], chunk)
        return encode(body | {"usage": usage(chunk)}) + b"\n"

    def broken(self, text: str) -> bytes:
        """Ollama reads its own error line as an empty answer, and so loses it."""
        return self.frames(Chunk(model="", created_at="", created=self._created))

    def _deltas(self, chunk: Chunk, *, first: bool) -> list[dict[str, Json]]:
        role: dict[str, Json] = {"role": "assistant"} if first else {}
        thought: dict[str, Json] = {"reasoning": chunk.thinking} if chunk.thinking else {}
        called: dict[str, Json] = {"tool_calls": tool_calls(chunk)} if chunk.tool_calls else {}
        self._tools_sent = self._tools_sent or bool(called)
        if thought and (chunk.content or called):
            deltas = [role | thought, {"content": chunk.content} | called]
        else:
            deltas = [role | {"content": chunk.content} | thought | called]
        return [self._chunk(chunk, delta) for delta in deltas]

    def _end(self, chunk: Chunk) -> list[bytes]:
        finish = self._chunk(Chunk(chunk.model, "", 0), {}, self._reason(chunk) or "stop")
        parts = [frame(finish)]
        if self._include_usage:
            parts.append(frame(finish | {"choices": [], "usage": usage(chunk)}))
        return [*parts, _DONE]

    def _chunk(
        self, chunk: Chunk, delta: dict[str, Json], reason: str | None = None
    ) -> dict[str, Json]:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return self._object("chat.completion.chunk", chunk.model, self._created, [choice], chunk)

    def _object(
        self, kind: str, model: str, created: int, choices: list[dict[str, Json]], chunk: Chunk
    ) -> dict[str, Json]:
        if chunk.logprobs:
            choices[0]["logprobs"] = {"content": chunk.logprobs}
        return {
            "id": self._id,
            "object": kind,
            "created": created,
            "model": model,
            "system_fingerprint": "fp_ollama",
            "choices": choices,
        }

    def _reason(self, chunk: Chunk) -> str | None:
        called = self._tools_sent or bool(chunk.tool_calls)
        return "tool_calls" if chunk.done_reason == "stop" and called else chunk.done_reason or None


class Completions(_Streams):
    """/v1/completions."""

    def __init__(self, *, include_usage: bool) -> None:
        self._include_usage = include_usage
        self._id = f"cmpl-{random.randrange(999)}"

    def frames(self, chunk: Chunk) -> bytes:
        """The text; after the last one the usage if asked for, and `[DONE]`."""
        body = self._object(chunk)
        if self._include_usage:
            body["usage"] = usage(Chunk("", "", 0))
        parts = [frame(body)]
        if chunk.done and self._include_usage:
            parts.append(frame(body | {"choices": [], "usage": usage(chunk)}))
        return b"".join([*parts, _DONE] if chunk.done else parts)

    def whole(self, chunk: Chunk) -> bytes:
        """A text_completion."""
        return encode(self._object(chunk) | {"usage": usage(chunk)}) + b"\n"

    def broken(self, text: str) -> bytes:
        """Lost, as in chat."""
        return self.frames(Chunk(model="", created_at="", created=0))

    def _object(self, chunk: Chunk) -> dict[str, Json]:
        choice = {"text": chunk.content, "index": 0, "finish_reason": chunk.done_reason or None}
        return {
            "id": self._id,
            "object": "text_completion",
            "created": chunk.created,
            "model": chunk.model,
            "system_fingerprint": "fp_ollama",
            "choices": [choice],
        }


class Transcription(_Streams):
    """/v1/audio/transcriptions: never streamed to the client."""

    def __init__(self, *, text: bool) -> None:
        self._text = text
        if text:
            self.whole_type = b"text/plain"

    def frames(self, chunk: Chunk) -> bytes:
        """Not used: this route does not stream."""
        return b""

    def whole(self, chunk: Chunk) -> bytes:
        """The text, bare or in an object."""
        text = chunk.content.strip()
        return text.encode() if self._text else encode({"text": text}) + b"\n"

    def broken(self, text: str) -> bytes:
        """Nothing: the body just ends."""
        return b""


def tool_calls(chunk: Chunk) -> list[dict[str, Json]]:
    """Ollama's tool calls as OpenAI's: the arguments are a string."""
    return [
        {
            "id": call.get("id", ""),
            "index": call["function"].get("index", 0),
            "type": "function",
            "function": {
                "name": call["function"]["name"],
                "arguments": encode(call["function"]["arguments"]).decode(),
            },
        }
        for call in chunk.tool_calls
    ]


def embedding_list(
    model: str, vectors: Sequence[Sequence[float]], count: int, encoding: str
) -> bytes:
    """The answer of /v1/embeddings; base64 is little-endian float32."""
    packed = encoding.lower() == "base64"
    data = [
        {"object": "embedding", "embedding": _packed(vector) if packed else vector, "index": index}
        for index, vector in enumerate(vectors)
    ]
    body = {"object": "list", "data": data or None, "model": model}
    return encode(body | {"usage": {"prompt_tokens": count, "total_tokens": count}}) + b"\n"


def model_list(models: Sequence[tuple[Model, int]]) -> bytes:
    """The answer of /v1/models; null, not empty, when there are none."""
    data = [model_entry(model.name, created) for model, created in models]
    return encode({"object": "list", "data": data or None}) + b"\n"


def model_entry(name: str, created: int) -> dict[str, Json]:
    """One model, under the name it was asked for."""
    owner = names.parse(name).namespace
    return {"id": name, "object": "model", "created": created, "owned_by": owner}


def _packed(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
