"""The programs of docs/tutorial/many-models.md and docs/how-to/two-boxes.md do what they say."""

import re
import runpy
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path

import pytest
import trio

from foreman.embedded.script import ModelScript, Script
from foreman.llm.settings import Settings
from tests.conftest import StartDaemon
from tests.e2e.processes import upstream

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "tutorial" / "many-models.md").read_text()
BOXES = (DOCS / "how-to" / "two-boxes.md").read_text()
ANSWER = "The sky scatters blue light more than red."
MODELS = Script(models=(ModelScript(name="smollm2:135m", text=ANSWER),))


def blocks(kind: str, page: str = PAGE) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL)


def timeless(text: str) -> str:
    return re.sub(r"\(after \S+ s\)", "(after a moment)", text)


async def test_the_program_prints_what_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [program], [printed] = blocks("python"), blocks("text")
    file = tmp_path / "program.py"
    file.write_text(program)
    async with upstream(MODELS) as target:
        monkeypatch.setenv("LLM_ATTIC", "ollama://127.0.0.1:9")
        monkeypatch.setenv("LLM_HERE", target.url.replace("http://", "ollama://"))
        with redirect_stdout(StringIO()) as said:
            await trio.to_thread.run_sync(partial(runpy.run_path, str(file), run_name="__main__"))
    assert timeless(said.getvalue()) == timeless(printed)


def test_the_program_has_some_twenty_lines() -> None:
    [program] = blocks("python")
    assert len([line for line in program.splitlines() if line.strip()]) <= 20


def test_the_settings_of_the_page_can_be_read(tmp_path: Path) -> None:
    [text] = blocks("toml")
    file = tmp_path / "llm.toml"
    file.write_text(text)
    assert Settings.read(file).price_table().rates("here/any") is not None


@pytest.mark.parametrize("program", blocks("python", BOXES))
def test_what_the_page_on_two_boxes_builds_can_be_built(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_BIG", "foreman://s3cret@big-box")
    monkeypatch.setenv("LLM_SMALL", "foreman://s3cret@small-box:8080")
    file = tmp_path / "program.py"
    file.write_text(program)
    runpy.run_path(str(file))


async def test_one_box_answers_where_the_other_is_away(
    daemon: StartDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, *_ = blocks("python", BOXES)
    file = tmp_path / "program.py"
    file.write_text(program)
    box = Script(models=(ModelScript(name="llama3.2:latest", text=ANSWER),))
    async with daemon(script=box) as foreman:
        await foreman.polled()
        monkeypatch.setenv("LLM_BIG", "foreman://127.0.0.1:9")
        monkeypatch.setenv("LLM_SMALL", foreman.url.replace("http://", "foreman://"))
        assert await runpy.run_path(str(file))["ask"]("Why is the sky blue?") == ANSWER
