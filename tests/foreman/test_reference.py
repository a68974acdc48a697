from pathlib import Path

import pytest

from foreman import reference
from foreman.config import BESIDE, Settings

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize("path", reference.pages(), ids=str)
def test_the_committed_page_is_the_one_the_code_makes(path: Path) -> None:
    assert (REPOSITORY / path).read_text(encoding="utf-8") == reference.pages()[path]


def test_every_setting_is_described_in_one_sentence_or_more() -> None:
    texts = reference.descriptions()
    assert texts.keys() == Settings.model_fields.keys()
    assert all(text.endswith(".") and "\n" not in text for text in texts.values())


def test_writing_makes_the_folders_it_needs(tmp_path: Path) -> None:
    reference.write(tmp_path)
    assert {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()} == set(
        reference.pages()
    )


def test_the_example_file_sets_nothing_and_names_every_key() -> None:
    lines = reference.env_example().splitlines()
    assert all(line.startswith("#") or not line for line in lines)
    named = {line[1:].partition("=")[0] for line in lines if line.startswith("#FOREMAN_")}
    assert named == {*Settings().sources(), *BESIDE}
