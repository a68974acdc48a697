"""A command on a terminal, typed at and read from."""

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Terminal:
    """Our end of it."""

    descriptor: int
    process: "subprocess.Popen[bytes]"
    pending: bytes = b""

    def until(self, text: bytes) -> bytes:
        """What is written up to `text`, which is consumed, too."""
        while text not in self.pending:
            more = self._read()
            assert more, self.pending
            self.pending += more
        before, _, self.pending = self.pending.partition(text)
        return before

    def rest(self) -> bytes:
        """What is written until the command ends."""
        while more := self._read():
            self.pending += more
        return self.pending

    def type(self, text: bytes) -> None:
        os.write(self.descriptor, text)

    def _read(self) -> bytes:
        try:
            return os.read(self.descriptor, 65536)
        except OSError:  # Linux says EIO when the other end has gone
            return b""


@contextmanager
def terminal(*arguments: str, term: str = "xterm-256color") -> Iterator[Terminal]:
    """Run `foreman` with these arguments on a terminal; ended at the end of the block."""
    ours, theirs = pty.openpty()
    program = "import sys; from foreman.cli.app import app; app(sys.argv[1:])"
    command = [sys.executable, "-c", program, *arguments]
    environment = os.environ | {"COLUMNS": "140", "LINES": "40", "TERM": term}
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        try:
            yield Terminal(ours, process)
        finally:
            process.kill()
            os.close(ours)
