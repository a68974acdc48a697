"""Every page of the documentation works when it is followed from its first block to its last."""

from pathlib import Path

import pytest

from tests.docs.blocks import PAGES, blocks, name
from tests.docs.reader import Failed, reader

RUN = [page for page in PAGES if any(block.runs for block in blocks(page))]


@pytest.mark.parametrize("page", RUN, ids=name)
async def test_each_block_of_the_page_works_after_those_before_it(
    page: Path, tmp_path: Path
) -> None:
    found, wrong = blocks(page), ""
    async with reader(found, tmp_path) as somebody:
        try:
            await somebody.follow(found)
        except Failed as failed:
            wrong = f"{failed}\n{somebody.elsewhere()}"
    if wrong:
        pytest.fail(wrong, pytrace=False)
