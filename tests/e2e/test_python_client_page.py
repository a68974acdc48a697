"""The programs of docs/how-to/python-client.md print what the page says."""

import re
import runpy
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path

import pytest
import trio

from foreman.embedded.script import ModelScript, Script
from tests.conftest import StartDaemon

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "python-client.md"
BLOCKS = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", PAGE.read_text(), re.DOTALL)
MODELS = Script(
    models=(
        ModelScript(name="llama3.2:latest", text="I am llama3.2"),
        ModelScript(name="all-minilm:latest", capabilities=("embedding",)),
    )
)


@pytest.mark.parametrize(
    ("program", "printed"), BLOCKS, ids=[f"program {number}" for number in range(len(BLOCKS))]
)
async def test_a_program_of_the_page_prints_what_it_says(
    daemon: StartDaemon,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    program: str,
    printed: str,
) -> None:
    file = tmp_path / "program.py"
    file.write_text(program)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FOREMAN_TOKEN", raising=False)
    async with daemon(script=MODELS) as foreman:
        await foreman.polled()
        monkeypatch.setenv("FOREMAN_URL", foreman.url)
        with redirect_stdout(StringIO()) as said:
            await trio.to_thread.run_sync(partial(runpy.run_path, str(file), run_name="__main__"))
    assert said.getvalue() == printed


def test_no_program_of_the_page_is_left_out() -> None:
    assert len(BLOCKS) == PAGE.read_text().count("```python") == 6
