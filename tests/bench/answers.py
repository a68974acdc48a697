"""Reads one HTTP/1.1 response out of the pieces in which it arrives, noting when each did."""

from time import perf_counter

HEAD_END = b"\r\n\r\n"


class Answer:
    """A response in the making. Times are those of `perf_counter`."""

    def __init__(self) -> None:
        self.status = 0
        self.body = b""
        self.arrivals: list[float] = []  # of each line of the body
        self.merged = 0  # lines that came in one piece with another
        self.last = False  # of its connection, says the server
        self._buffer = b""
        self._head_read = False
        self._length: int | None = None  # of the body; None while it is chunked

    def feed(self, data: bytes) -> bool:
        """Take a piece; True when the response is complete."""
        now = perf_counter()
        self._buffer += data
        if not self._head_read and not self._read_head():
            return False
        before = len(self.body)
        complete = self._read_whole() if self._length is not None else self._read_chunks()
        lines = self.body.count(b"\n", before)
        self.arrivals += [now] * lines
        self.merged += max(0, lines - 1)
        return complete

    def _read_head(self) -> bool:
        end = self._buffer.find(HEAD_END)
        if end < 0:
            return False
        head = self._buffer[:end].lower()
        self.status = int(head[9:12])
        self.last = b"\r\nconnection: close" in head
        _, found, rest = head.partition(b"\r\ncontent-length:")
        self._length = int(rest.split(b"\r\n", 1)[0]) if found else None
        self._buffer = self._buffer[end + 4 :]
        self._head_read = True
        return True

    def _read_whole(self) -> bool:
        self.body += self._buffer
        self._buffer = b""
        return len(self.body) == self._length

    def _read_chunks(self) -> bool:
        while (end := self._buffer.find(b"\r\n")) >= 0:
            size = int(self._buffer[:end], 16)
            following = end + 2 + size + 2
            if len(self._buffer) < following:
                return False
            if size == 0:
                return True
            self.body += self._buffer[end + 2 : following - 2]
            self._buffer = self._buffer[following:]
        return False


def request(path: str, body: bytes = b"") -> bytes:
    """A request with a JSON body, or a GET without one."""
    method = "POST" if body else "GET"
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body
