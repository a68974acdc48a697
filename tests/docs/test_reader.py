"""The one who follows the pages notices what does not work on them, and says where."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from tests.docs.blocks import REPOSITORY, Block
from tests.docs.reader import DAEMON, Failed, Reader

PAGE = REPOSITORY / "docs" / "a-page.md"


def shell(text: str, line: int = 10, terminal: str = "", not_run: str = "") -> Block:
    return Block(PAGE, line, "sh", text, terminal=terminal, not_run=not_run)


def printed(text: str, line: int = 20) -> Block:
    return Block(PAGE, line, "text", text, adjoins=True)


async def follow(page: Sequence[Block], scratch: Path) -> None:
    """Read a page that needs no daemon."""
    folder = scratch / "page"
    folder.mkdir()
    async with trio.open_nursery() as nursery:
        reader = Reader(folder, dict(os.environ), {DAEMON: 4711}, nursery)
        failure: Failed | None = None
        try:
            await reader.follow(page)
        except Failed as failed:
            failure = failed
        nursery.cancel_scope.cancel("the page has ended")
    if failure is not None:
        raise failure


async def test_what_a_block_leaves_behind_is_there_for_the_next(tmp_path: Path) -> None:
    page = [
        shell("job=7; mkdir folder; cd folder; export WHO=me\n"),
        shell('echo "$job" "$(basename "$PWD")"\n', 11),
        printed("7 folder\n"),
        Block(PAGE, 12, "python", "import os\nprint(os.environ['WHO'])\n"),
        printed("me\n"),
        Block(PAGE, 13, "yaml", "a: 127.0.0.1:8080\n", title="deep/settings.yaml"),
        Block(
            PAGE,
            14,
            "console",
            "$ cat ../deep/settings.yaml\na: ...\n$ echo one \\\n  two\none two\n",
        ),
        shell("grep -q 127.0.0.1:4711 ../deep/settings.yaml\n", 15),
        shell("exit 1\n", 16, not_run="it would end the page"),
    ]
    await follow(page, tmp_path)


async def test_a_terminal_goes_on_while_others_run_and_is_read_when_it_is_asked_for(
    tmp_path: Path,
) -> None:
    page = [
        shell("echo ready; mkfifo pipe; cat pipe; echo over\n", terminal="other"),
        printed("ready\n"),
        shell("until [ -p pipe ]; do :; done; echo hello > pipe\n"),
        Block(PAGE, 30, "text", "hello\n...\n", terminal="other"),
    ]
    await follow(page, tmp_path)


@pytest.mark.parametrize(
    ("page", "told"),
    [
        ([shell("true\nfalse\necho on\n")], "docs/a-page.md:10, line 11 ended with 1"),
        ([shell("false | true\n")], "docs/a-page.md:10, line 10 ended with 1"),
        ([shell('echo "$nowhere"\n')], "docs/a-page.md:10, line 10 ended with"),
        ([shell("echo one\n"), printed("two\n")], "docs/a-page.md:10 does not print what is shown"),
        (
            [shell("false\n", terminal="other"), printed("ready\n")],
            "docs/a-page.md:10: other does not show this",
        ),
        (
            [replace(shell("$ echo one\ntwo\n"), language="console")],
            "docs/a-page.md:10 does not print what is shown",
        ),
        ([replace(shell("import nothing\n"), language="python")], "docs/a-page.md:10, line 10"),
    ],
)
async def test_what_does_not_work_is_told_with_its_place(
    page: list[Block], told: str, tmp_path: Path
) -> None:
    with pytest.raises(Failed) as failed:
        await follow(page, tmp_path)
    assert str(failed.value).startswith(told)
