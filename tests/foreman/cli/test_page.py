from pathlib import Path

from actors import __main__ as script
from foreman.cli import page
from foreman.cli.app import app

COMMITTED = Path(__file__).parents[3] / "docs/reference/cli.md"


def test_the_committed_page_is_the_one_the_declarations_make() -> None:
    assert COMMITTED.read_text(encoding="utf-8") == page.text()


def test_every_command_is_on_it() -> None:
    assert callable(script.main)  # it adds the daemon's own commands to the app
    names = [
        each.name or each.callback.__name__ for each in app.registered_commands if each.callback
    ]
    assert {"serve", "demo", "config"} <= set(names)
    assert all(f"`foreman {name}" in page.text() for name in names)
