"""The blocks of the documentation: where each stands, what it is, what is to become of it.

A comment on the line before a fence may say more:

    <!-- not run: why -->       it cannot work here; without the reason it is an error
    <!-- terminal: name -->     in a terminal of that name, where it may go on while others run;
                                before `text`: what is to be seen there by now, or soon

`title="file"` behind the language saves the block under that name instead of running it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

REPOSITORY = Path(__file__).parents[2]
PAGES = (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md")))

SHELL = ("bash", "sh")
RUN = (*SHELL, "console", "python")

_MARK = re.compile(r"<!-- *(not run|terminal)\b:? *(.*?) *-->", re.DOTALL)
_TITLE = re.compile(r'title="(\w[\w./-]*)"')


@dataclass(frozen=True, slots=True)
class Block:
    """What stands between two fences. `line` is the first one of its text, counted from 1."""

    page: Path
    line: int
    language: str
    text: str
    title: str = ""
    not_run: str = ""
    terminal: str = ""
    adjoins: bool = False  # nothing but white space between it and the block before

    @property
    def runs(self) -> bool:
        return self.language in RUN and not self.not_run and not self.title

    @property
    def is_output(self) -> bool:
        """Whether it is what the block before it prints."""
        return self.language == "text" and self.adjoins and not self.not_run and not self.terminal

    @property
    def place(self) -> str:
        return f"{name(self.page)}:{self.line}"


def name(page: Path) -> str:
    """How a test calls a page."""
    return str(page.relative_to(REPOSITORY))


def blocks(page: Path) -> list[Block]:
    """Those of a page, in order."""
    return [each for each in _found(page) if isinstance(each, Block)]


def problems(page: Path, text: str | None = None) -> list[str]:
    """Markers that say nothing or stand before no block, blocks without a language: with places."""
    return [each for each in _found(page, text) if isinstance(each, str)]


def _found(page: Path, text: str | None = None) -> Iterator[Block | str]:
    marks: dict[str, str] = {}
    before = ""  # the kind of the token before
    place = name(page)
    for token in _tokens(page.read_text(encoding="utf-8") if text is None else text):
        place = f"{name(page)}:{(token.map or [0])[0] + 1}"
        if token.type == "html_block" and (mark := _MARK.search(token.content)):
            if not mark[2]:
                yield f"{place}: `{mark[1]}` says no reason or name"
            marks[mark[1]] = mark[2] or "?"
        elif token.type == "fence":
            block = _block(page, token, marks, adjoins=before == "fence")
            if not block.language:
                yield f"{place}: the block has no language"
            yield block
            marks = {}
        elif token.type == "code_block":
            yield f"{place}: an indented block has no language; use a fence"
        elif marks:
            yield f"{place}: the marker before this line belongs to no block"
            marks = {}
        before = token.type
    if marks:
        yield f"{place}: the marker behind this line belongs to no block"


def _block(page: Path, token: Token, marks: dict[str, str], *, adjoins: bool) -> Block:
    assert token.map is not None
    language, _, rest = token.info.strip().partition(" ")
    title = _TITLE.search(rest)
    return Block(
        page,
        token.map[0] + 2,
        language,
        token.content,
        title=title[1] if title else "",
        not_run=marks.get("not run", ""),
        terminal=marks.get("terminal", ""),
        adjoins=adjoins,
    )


def _tokens(text: str) -> Iterator[Token]:
    """The blocks of the page, containers without their ends."""
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.map is not None and token.nesting >= 0:
            yield token
