"""Somebody who follows a page: pastes each block where it says, in a folder of the page's own.

A scripted target and, unless the page starts one itself, a daemon are there. The addresses that
pages name are replaced by free ones, and back again in what is printed.
"""

import os
import re
import shlex
import shutil
import sys
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx
import msgspec
import trio

from foreman.embedded.script import ModelScript, Script
from tests.docs.blocks import REPOSITORY, SHELL, Block, name
from tests.docs.expected import alike, pattern
from tests.docs.terminals import Terminal, keep_open
from tests.e2e.processes import upstream
from tests.e2e.targets import free_port

_CHATS = ("llama3.2:latest", "qwen3:latest", "qwen3:8b", "qwen3:30b", "gemma3:latest")
_SKY = "The sky scatters blue light more than red."
_PACE = {"docs/how-to/smoke-test.md": 0.3}  # where somebody does things while it answers


def models(page: str = "") -> Script:
    """What the target of the documentation has."""
    pace = _PACE.get(page, 0.05)
    return Script(
        models=(
            *(
                ModelScript(name=each, text=f"I am {each.removesuffix(':latest')}")
                for each in _CHATS
            ),
            ModelScript(name="smollm2:135m", text=_SKY, token_seconds=pace),
            ModelScript(name="nomic-embed-text:latest", capabilities=("embedding",)),
            ModelScript(name="all-minilm:latest", capabilities=("embedding",)),
        )
    )


PATIENCE = 40.0  # seconds for a block; most take less than one
DAEMON, TARGET = 8080, 11434
BOXES = ("big-box", "small-box")  # machines that pages speak of: both are this daemon
_ADDRESS = re.compile(r"""(127\.0\.0\.1|localhost)(:|", )(\d{4,5})\b""")
_BOX = re.compile(rf"\b({'|'.join(BOXES)})(:{DAEMON})?\b")
_PROMPT = re.compile(r"^\$ ", re.MULTILINE)
_MAKE = """\
#!/bin/sh
exec {make} --no-print-directory -C {repository} -o {venv}/.run -o {venv}/.demo -o {venv}/.dev "$@"
"""


class Failed(AssertionError):
    """A block does not do what its page says; the text has the place and what was printed."""


@dataclass
class Reader:
    """Follows one page. `folder` is where its files go."""

    folder: Path
    environment: dict[str, str]
    ports: dict[int, int]  # as the page says -> as it is
    nursery: trio.Nursery
    terminals: dict[str, Terminal] = field(default_factory=dict[str, Terminal])

    async def follow(self, page: Sequence[Block]) -> None:
        """Do what each block says, in order. Raises Failed."""
        for block, following in zip(page, [*page[1:], None], strict=True):
            shown = following.text if following and following.is_output else None
            with trio.move_on_after(PATIENCE) as patience:
                await self._do(block, shown)
            if patience.cancelled_caught:
                said = self.there(self.terminals[block.terminal].output)
                raise Failed(f"{block.place} goes on and on:\n{said}")

    async def _do(self, block: Block, shown: str | None) -> None:
        if block.title and not block.not_run:
            file = self.folder / block.title
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(self.here(block.text), encoding="utf-8")
        if block.language == "text" and block.terminal:
            await self._look(block, block.text)
        elif block.runs:
            for offset, commands, expected in _commands(block, shown):
                await self._paste(block, offset, commands, expected)

    async def _paste(self, block: Block, offset: int, commands: str, shown: str | None) -> None:
        terminal = await self._terminal(block.terminal)
        await terminal.type(self._file(block, offset, commands))
        if block.terminal:  # it may go on; the text behind it says when to read on
            if shown is not None:
                await self._look(block, shown)
            return
        if status := await terminal.ended():
            line = block.line + offset + terminal.failed_line - 1
            place = f"{block.place}, line {line}"
            raise Failed(f"{place} ended with {status}:\n{terminal.output}")
        said = self.there(terminal.output)
        if shown is not None and not pattern(shown).fullmatch(alike(said)):
            raise Failed(f"{block.place} does not print what is shown, but:\n{said}")

    async def _look(self, block: Block, shown: str) -> None:
        """Wait until a terminal shows this. Raises Failed when what runs there ends without it."""
        terminal = await self._terminal(block.terminal)
        if not await terminal.shows(lambda said: bool(pattern(shown).search(self._seen(said)))):
            raise Failed(
                f"{block.place}: {block.terminal} does not show this, but:\n{terminal.output}"
            )

    def _seen(self, said: str) -> str:
        return alike(self.there(said))

    def elsewhere(self) -> str:
        """What the terminals with a name show, to be told with a failure."""
        return "\n".join(
            f"--- {name}:\n{self.there(terminal.output)}"
            for name, terminal in self.terminals.items()
            if name
        )

    async def _terminal(self, name: str) -> Terminal:
        if name not in self.terminals:
            opened = partial(keep_open, self.folder, self.environment, strict=not name)
            self.terminals[name] = await self.nursery.start(opened)
        return self.terminals[name]

    def _file(self, block: Block, offset: int, commands: str) -> Path:
        """The commands where a shell can source them; a program beside a line that runs it."""
        stem = f"{block.line + offset}"
        file = self.folder.parent / f"{stem}.sh"
        if block.language == "python":
            program = self.folder.parent / f"{stem}.py"
            program.write_text(self.here(commands), encoding="utf-8")
            commands = f"python {shlex.quote(str(program))}\n"
        file.write_text(self.here(commands), encoding="utf-8")
        return file

    def here(self, text: str) -> str:
        """What a page says, with the addresses of this run."""
        text = _BOX.sub(f"127.0.0.1:{DAEMON}", text)
        return _ADDRESS.sub(lambda at: f"{at[1]}{at[2]}{self.ports.get(int(at[3]), at[3])}", text)

    def there(self, text: str) -> str:
        """What was printed, with the addresses of the page."""
        back = {str(real): str(shown) for shown, real in self.ports.items()}
        return _ADDRESS.sub(lambda at: f"{at[1]}{at[2]}{back.get(at[3], at[3])}", text)


def _commands(block: Block, shown: str | None) -> Iterator[tuple[int, str, str | None]]:
    """What is pasted at a time: at which line of the block it stands, and what it prints."""
    if block.language != "console":
        yield 0, block.text, shown
        return
    starts = [each.start() for each in _PROMPT.finditer(block.text)]
    for start, end in zip(starts, [*starts[1:], len(block.text)], strict=True):
        command, _, said = block.text[start:end].partition("\n")
        while command.endswith("\\"):
            more, _, said = said.partition("\n")
            command += "\n" + more
        yield block.text[:start].count("\n"), command.removeprefix("$ ") + "\n", said or None


@asynccontextmanager
async def reader(page: Sequence[Block], scratch: Path) -> AsyncGenerator[Reader]:
    """Somebody in an empty folder with a target, and with a daemon if the page starts none."""
    folder = scratch / "page"
    folder.mkdir()
    (folder / ".venv").symlink_to(sys.prefix)
    ports = {
        int(at[3]): await free_port() for block in page for at in _ADDRESS.finditer(block.text)
    } | {DAEMON: await free_port()}
    shell = "\n".join(each.text for each in page if each.runs and each.language != "python")
    script = models(name(page[0].page))
    async with upstream(script) as target, trio.open_nursery() as nursery:
        if "make demo-target" in shell:
            ports.setdefault(TARGET, await free_port())
        else:
            ports[TARGET] = httpx.URL(target.url).port or 0
        environment = _environment(scratch, ports, script)
        found = Reader(folder, environment, ports, nursery)
        if not re.search(r"\bforeman serve\b", shell):
            await found.follow([SERVE, SERVES])
        yield found
        nursery.cancel_scope.cancel("the page has ended")


SERVE = Block(REPOSITORY / "Makefile", 1, SHELL[0], "foreman serve\n", terminal="the daemon")
SERVES = Block(REPOSITORY / "Makefile", 1, "text", "serving on ...", adjoins=True)


def _environment(scratch: Path, ports: dict[int, int], script: Script) -> dict[str, str]:
    """What the shells start with: foreman's commands, an empty home, the addresses of this run."""
    tools = scratch / "bin"
    tools.mkdir()
    make = tools / "make"
    make.write_text(_MAKE.format(make=_which("make"), repository=REPOSITORY, venv=sys.prefix))
    make.chmod(0o755)
    play = scratch / "script.json"
    play.write_bytes(msgspec.json.encode(script))
    home = scratch / "home"
    home.mkdir()
    return {
        "PATH": f"{tools}:{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "COLUMNS": "100",
        "PYTHONUNBUFFERED": "1",  # as before somebody's eyes
        "VENV": sys.prefix,
        "DEMO_TARGET": f"--listen 127.0.0.1:{ports[TARGET]} --script {play}",
        "FOREMAN_URL": f"http://127.0.0.1:{ports[DAEMON]}",
        "FOREMAN_LISTEN": f"127.0.0.1:{ports[DAEMON]}",
        "FOREMAN_OLLAMA_URL": f"http://127.0.0.1:{ports[TARGET]}",
        "FOREMAN_BALLAST": "4096",
        "FOREMAN_MIN_FREE_DISK": "1",
    }


def _which(program: str) -> str:
    found = shutil.which(program)
    assert found, f"the pages use {program}; install it"
    return found
