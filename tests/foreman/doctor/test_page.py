import re

import pytest
import typer.main

from actors import __main__ as script
from foreman.cli.app import app
from foreman.doctor import page
from foreman.doctor.checks import CHECKS
from tests.docs.blocks import REPOSITORY


def test_the_committed_page_lists_the_findings_there_are() -> None:
    committed = (REPOSITORY / page.PAGE).read_text(encoding="utf-8")
    assert committed == page.written(committed)


def test_each_check_and_finding_is_on_it() -> None:
    text = page.findings()
    assert all(f"**`{check.name}`** {check.question}" in text for check in CHECKS)
    assert all(f"- `{kind.code}` (" in text for check in CHECKS for kind in check.kinds)
    assert "{" not in text


def test_a_page_without_its_mark_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks the line"):
        page.written("# Something else\n")


def test_what_is_advised_can_be_typed() -> None:
    assert callable(script.main)  # it adds the daemon's own commands to the app
    click = typer.main.get_command(app)
    known = set(getattr(click, "commands", {}))
    advised = {
        word
        for check in CHECKS
        for kind in check.kinds
        for word in re.findall(r"\bforeman ([a-z][a-z-]+)", kind.advice)
    }
    assert {"backup", "cancel", "config", "doctor", "recover", "serve", "webhooks"} <= advised
    assert advised <= known
