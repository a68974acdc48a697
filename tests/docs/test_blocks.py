"""Every block says what it is, can be read as that, and is run or says why it is not."""

import re
import subprocess
from pathlib import Path

import pytest

from foreman.config import BESIDE, Settings
from tests.docs.blocks import PAGES, REPOSITORY, SHELL, Block, blocks, name, problems
from tests.docs.formats import READ
from tests.docs.reader import DAEMON, TARGET

ALL = [block for page in PAGES for block in blocks(page)]
DATA = [block for block in ALL if block.language in READ]
MADE_UP = {"FOREMAN_PORT"}  # what Kubernetes sets by itself, which a page warns of
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def where(block: Block) -> str:
    return block.place


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_each_block_has_a_language_and_each_marker_a_block_and_a_reason(page: Path) -> None:
    assert problems(page) == []


@pytest.mark.parametrize("block", DATA, ids=where)
def test_what_is_shown_as_data_can_be_read(block: Block) -> None:
    READ[block.language](block.text)


@pytest.mark.parametrize(
    "block", [each for each in ALL if each.language == "python" and not each.runs], ids=where
)
def test_a_program_that_is_not_run_is_python_at_least(block: Block) -> None:
    compile(block.text, block.place, "exec")


@pytest.mark.parametrize(
    "block", [each for each in ALL if each.language in SHELL and not each.runs], ids=where
)
def test_a_command_that_is_not_run_is_a_command_at_least(block: Block) -> None:
    command = ["bash", "-n"]
    checked = subprocess.run(command, input=block.text, text=True, capture_output=True, check=False)
    assert checked.returncode == 0, f"{block.place}: {checked.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_page_names_no_setting_that_there_is_not(page: Path) -> None:
    known = {f"FOREMAN_{field.upper()}" for field in Settings.model_fields} | {*BESIDE}
    named = set(re.findall(r"FOREMAN_[A-Z_]*[A-Z](?![A-Z_])", page.read_text(encoding="utf-8")))
    assert {each for each in named - known if not page.match("docs/adr/*")} <= MADE_UP


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_link_is_to_a_file_of_the_repository_or_well_formed(page: Path) -> None:
    """Whether a heading is there, mkdocs looks; no address outside is called."""
    for link in _LINK.findall(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            assert re.fullmatch(r"https://[a-z0-9.-]+\.[a-z]+(/[\w./#?=&%~+-]*)?", link), link
        elif path := link.partition("#")[0]:
            assert (page.parent / path).exists(), f"{name(page)}: {link}"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("<!-- not run -->\n```sh\nls\n```\n", "docs/x.md:1: `not run` says no reason or name"),
        ("<!-- not run: why -->\n\nWords.\n", "docs/x.md:3: the marker before this line"),
        ("Words.\n\n<!-- not run: why -->\n", "docs/x.md:3: the marker behind this line"),
        ("```\nls\n```\n", "docs/x.md:1: the block has no language"),
        ("Words.\n\n    ls\n", "docs/x.md:3: an indented block"),
    ],
)
def test_what_is_wrong_with_a_block_is_told_with_its_place(text: str, problem: str) -> None:
    [found] = problems(REPOSITORY / "docs/x.md", text)
    assert found.startswith(problem)


def test_a_target_and_a_daemon_have_the_ports_that_the_pages_name() -> None:
    shown = Settings()
    assert str(shown.listen).endswith(f":{DAEMON}")
    assert shown.ollama_url.endswith(f":{TARGET}")


def test_the_program_of_the_tutorial_on_many_models_has_some_twenty_lines() -> None:
    [program] = [
        each.text
        for each in ALL
        if name(each.page) == "docs/tutorial/many-models.md" and each.language == "python"
    ]
    assert len([line for line in program.splitlines() if line.strip()]) <= 20
