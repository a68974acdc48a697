"""The site is complete, and fetches nothing."""

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from actors import system
from tests.docs.blocks import PAGES, REPOSITORY, blocks, name

_FETCHED = re.compile(r'<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)="?(https?:|//)')
_IN_STYLES = re.compile(r"url\([\"']?(https?:|//)")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The built site; a warning is a failure."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.fail(done.stderr, pytrace=False)
    return tmp_path


def test_the_site_has_every_page_and_fetches_nothing_from_elsewhere(site: Path) -> None:
    built = {
        re.sub(r"(^|/)README", r"\1index", name(page).removeprefix("docs/")).removesuffix("md")
        for page in PAGES
        if page.parent != REPOSITORY
    }
    files = [str(file.relative_to(site)) for file in site.rglob("*.html")]
    assert sorted(files) == sorted([*(f"{each}html" for each in built), "404.html"])
    for file in site.rglob("*.html"):
        assert not _FETCHED.search(file.read_text(encoding="utf-8")), file
    for file in site.rglob("*.css"):
        assert not _IN_STYLES.search(file.read_text(encoding="utf-8")), file


def test_each_decision_is_in_the_list_of_decisions() -> None:
    folder = REPOSITORY / "docs" / "adr"
    index = (folder / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^- \[(\d{4}) .+\]\((\1-.+\.md)\)$", index, re.MULTILINE)
    assert [file for _, file in listed] == sorted(file.name for file in folder.glob("0*.md"))


def test_the_picture_of_the_tree_is_the_one_in_the_source() -> None:
    documented = system.__doc__ or ""
    tree = textwrap.dedent(documented.split("\n\n")[1])
    page = REPOSITORY / "docs" / "explanation" / "architecture.md"
    assert tree in [block.text.rstrip("\n") for block in blocks(page)]
