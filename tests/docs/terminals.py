"""Shells that stay open, as the terminals of somebody who follows a page."""

import codecs
import os
import re
import shlex
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from subprocess import PIPE, STDOUT

import psutil  # type: ignore[import-untyped]  # comes without types
import trio

MARK = "\x1e"  # what no program prints
_ENDED = re.compile(f"{MARK}(\\d+){MARK}")
_FAILED = re.compile(f"{MARK}line (\\d+){MARK}")
_STRICT = r"""
set -eEuo pipefail
trap 'printf "\036line %s\036" $LINENO' ERR
trap 'printf "\036%s\036" $?' EXIT
"""


class Terminal:
    """A shell, and what it has printed. One thing at a time is typed into it."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._said = ""
        self._start = 0  # where the output of what was typed last begins
        self._typed = False
        self._over = False
        self._news = trio.Event()  # of what is printed next

    @property
    def output(self) -> str:
        """What was printed since something was typed last."""
        said = _FAILED.sub("", self._said[self._start :])
        return _ENDED.split(said)[0]

    @property
    def status(self) -> int | None:
        """With which exit status it ended; None while it runs, 255 when the shell has gone."""
        ended = _ENDED.search(self._said, self._start)
        return int(ended[1]) if ended else 255 if self._over else None

    @property
    def failed_line(self) -> int:
        """The first line that failed, counted from 1; 1 where the shell does not say."""
        failed = _FAILED.search(self._said, self._start)
        return int(failed[1]) if failed else 1

    async def type(self, file: Path) -> None:
        """Run the lines of a file, as if they were pasted. Waits for what was typed before."""
        if self._typed:
            await self.ended()
        self._typed, self._start = True, len(self._said)
        await self.send(f"source {shlex.quote(str(file))} </dev/null; printf '\\036%s\\036' $?\n")

    async def ended(self) -> int:
        """Wait for the end of what was typed, and return its exit status."""
        while (status := self.status) is None:
            await self._news.wait()
        return status

    async def shows(self, expected: Callable[[str], bool]) -> bool:
        """Whether this is printed before what was typed ends; returns as soon as it is."""
        while not (found := expected(self.output)) and self.status is None:
            await self._news.wait()
        return found

    async def send(self, text: str) -> None:
        """Give the shell a line."""
        assert self._process.stdin is not None
        with suppress(trio.BrokenResourceError):  # its status will say that it has gone
            await self._process.stdin.send_all(text.encode())

    async def listen(self) -> None:
        """Read what it prints, until it has gone."""
        assert self._process.stdout is not None
        decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        async for data in self._process.stdout:
            self._said += decode(data)
            self._tell()
        self._over = True
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()


async def keep_open(
    folder: Path,
    environment: Mapping[str, str],
    *,
    strict: bool,
    task_status: trio.TaskStatus[Terminal],
) -> None:
    """A shell in `folder`, until it is cancelled; then it is ended with all that it started.

    `strict`: it ends at the first failure.
    """
    process = await trio.lowlevel.open_process(
        ["bash", "--noprofile", "--norc"],
        stdin=PIPE,
        stdout=PIPE,
        stderr=STDOUT,
        cwd=folder,
        env=environment,
        start_new_session=True,
    )
    terminal = Terminal(process)
    try:
        await terminal.send("set -m\n")  # job numbers, as at a prompt
        if strict:
            await terminal.send(_STRICT)
        task_status.started(terminal)
        await terminal.listen()
        await trio.sleep_forever()
    finally:
        _end_session(process.pid)
        with trio.CancelScope(shield=True):
            await process.wait()


def _end_session(leader: int) -> None:
    """Kill the shell, and what it started and left running."""
    for each in psutil.pids():
        with suppress(ProcessLookupError, PermissionError):
            if os.getsid(each) == leader:
                psutil.Process(each).kill()
