"""Cuts a body into frames: lines of NDJSON, the data of server-sent events, or all of it.

Frames are bytes, and whole: a character that a chunk boundary splits is whole again before anybody
decodes it. A frame may be long (a picture, a tool call's arguments), but not endless.
"""

from typing import Protocol

LONGEST = 64 * 2**20  # bytes of one frame


class TooLong(ValueError):
    """A frame that does not end."""


class Framing(Protocol):
    """Fed with chunks, gives the frames that they complete. Both raise TooLong."""

    def feed(self, chunk: bytes) -> list[bytes]: ...

    def end(self) -> list[bytes]:
        """What the last chunk left behind."""
        ...


class Lines:
    r"""NDJSON: the lines that are not blank, without their ends.

    >>> lines = Lines()
    >>> lines.feed(b'{"a":1}\r\n\n{"b"'), lines.feed(b":2}"), lines.end()
    ([b'{"a":1}'], [], [b'{"b":2}'])
    """

    def __init__(self, longest: int = LONGEST) -> None:
        self._longest = longest
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> list[bytes]:
        return [line for line in self.all(chunk) if line]

    def end(self) -> list[bytes]:
        return self.feed(b"\n")

    def all(self, chunk: bytes) -> list[bytes]:
        """The lines that end in this chunk, blank ones too."""
        if len(self._rest) + len(chunk) > self._longest and b"\n" not in chunk:
            raise TooLong(f"a line of more than {self._longest} bytes")
        self._rest += chunk
        if b"\n" not in chunk:
            return []
        *lines, rest = bytes(self._rest).split(b"\n")
        self._rest = bytearray(rest)
        return [line.strip() for line in lines]


class ServerSentEvents:
    r"""The data of each event; what an event is called, its data says too, at every vendor's.

    >>> events = ServerSentEvents()
    >>> events.feed(b"event: x\ndata:1\n\n: waiting\n\ndata: [DO")
    [b'1']
    >>> events.feed(b"NE]"), events.end()
    ([], [b'[DONE]'])
    """

    def __init__(self, longest: int = LONGEST) -> None:
        self._longest = longest
        self._lines = Lines(longest)
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[bytes]:
        events: list[bytes] = []
        for line in self._lines.all(chunk):
            if line.startswith(b"data:"):
                self._data.append(line[5:].strip())
            elif not line and self._data:
                events.append(b"\n".join(self._data))
                self._data = []
        if sum(map(len, self._data)) > self._longest:
            raise TooLong(f"an event of more than {self._longest} bytes")
        return [event for event in events if event]

    def end(self) -> list[bytes]:
        return self.feed(b"\n\n")


class Whole:
    """All of a body as one frame: an answer that was not streamed.

    >>> whole = Whole()
    >>> whole.feed(b"{"), whole.feed(b"}"), whole.end()
    ([], [], [b'{}'])
    """

    def __init__(self, longest: int = LONGEST) -> None:
        self._longest = longest
        self._body = bytearray()

    def feed(self, chunk: bytes) -> list[bytes]:
        self._body += chunk
        if len(self._body) > self._longest:
            raise TooLong(f"an answer of more than {self._longest} bytes")
        return []

    def end(self) -> list[bytes]:
        return [bytes(self._body)]
