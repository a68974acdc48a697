"""An Ollama-like server that is never what limits: precomputed answers on a raw asyncio protocol.

It shares nothing with foreman's stack, and its HTTP is only what the benchmark needs.
`python -m tests.bench.fast_target PORT`; generations of the model `held` never answer.
"""

import asyncio
import sys

import msgspec

TOKENS = 50  # lines of a stream
GAP = 0.005  # seconds between two of them
MODELS = ("fast:latest", "held:latest", "embedder:latest")

STAMP = "2026-01-01T00:00:00.000000Z"
TEXT = "The quick brown fox jumps over the lazy dog. " * 4


def line(**fields: object) -> bytes:
    """One JSON object of an answer to /api/chat, with its line feed."""
    return msgspec.json.encode({"model": "fast", "created_at": STAMP, **fields}) + b"\n"


def answer(body: bytes, kind: bytes = b"application/json; charset=utf-8") -> bytes:
    """A whole response."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
    return head % (kind, len(body)) + body


def chunk(body: bytes) -> bytes:
    """A piece of a chunked response."""
    return b"%x\r\n%s\r\n" % (len(body), body)


def said(text: str) -> dict[str, str]:
    """A message of the model."""
    return {"role": "assistant", "content": text}


TOTALS = {"total_duration": 5_000_000, "prompt_eval_count": 12, "eval_count": TOKENS}
END = {"done": True, "done_reason": "stop", **TOTALS}
WHOLE = answer(line(message=said(TEXT), **END))
LOADED = answer(line(message=said(""), done=True, done_reason="load"))
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
)
TOKEN = chunk(line(message=said(" token"), done=False))
LAST = chunk(line(message=said(""), **END)) + b"0\r\n\r\n"
VECTOR = [round(0.001 * number, 3) for number in range(384)]
EMBEDDED = answer(msgspec.json.encode({"model": "embedder", "embeddings": [VECTOR]}))
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


def listed(name: str) -> dict[str, object]:
    """A model as /api/tags and /api/ps show it."""
    return {"name": name, "model": name, "size": 1, "digest": name, "details": {}}


FIXED = {
    b"/": answer(b"Ollama is running", b"text/plain; charset=utf-8"),
    b"/api/version": answer(b'{"version":"0.12.0"}'),
    b"/api/tags": answer(msgspec.json.encode({"models": [listed(each) for each in MODELS]})),
    b"/api/ps": answer(msgspec.json.encode({"models": [listed(each) for each in MODELS]})),
    b"/api/embed": EMBEDDED,
}


class Conversation(asyncio.Protocol):
    """One connection; a request is answered as soon as its last byte is in."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            whole = end + 4 + content_length(head)
            if len(self._buffer) < whole:
                return
            body, self._buffer = self._buffer[end + 4 : whole], self._buffer[whole:]
            self._answer(head.split(b" ", 2)[1], body)

    def _answer(self, path: bytes, body: bytes) -> None:
        if path != b"/api/chat":
            self.transport.write(FIXED.get(path, NOT_FOUND))
        elif b'"messages":[]' in body:
            self.transport.write(LOADED)
        elif b'"held' in body:
            pass
        elif b'"stream":false' in body or b'"stream": false' in body:  # litellm writes spaces
            self.transport.write(WHOLE)
        else:
            self.transport.write(STREAM_HEAD + TOKEN)
            self._say(self._loop.time(), 1)

    def _say(self, began: float, number: int) -> None:
        """The next line at its own time: a late one does not delay those behind it."""
        self._loop.call_at(began + number * GAP, self._next, began, number)

    def _next(self, began: float, number: int) -> None:
        if self.transport.is_closing():
            return
        last = number == TOKENS - 1
        self.transport.write(LAST if last else TOKEN)
        if not last:
            self._say(began, number + 1)


def content_length(head: bytes) -> int:
    """What the head, in lower case, says of the body's length."""
    _, found, rest = head.partition(b"\r\ncontent-length:")
    return int(rest.split(b"\r\n", 1)[0]) if found else 0


async def serve(port: int) -> None:
    """Serve until the process is ended."""
    server = await asyncio.get_running_loop().create_server(Conversation, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
