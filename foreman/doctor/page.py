"""The list of findings in docs/how-to/doctor.md: `python -m foreman.doctor.page` writes it anew.

What stands above the line MADE is written by hand. A test compares the rest with `findings`.
"""

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from foreman.doctor.checks import CHECKS, Check
from foreman.doctor.findings import Kind

PAGE = Path("docs/how-to/doctor.md")
MADE = "<!-- Made by `python -m foreman.doctor.page` from foreman/doctor; edit that instead. -->"
_FACT = re.compile(r"\{(\w+)\}")


def findings() -> str:
    """All checks, and what each may find."""
    lines: list[str] = []
    for group, checks in groupby(CHECKS, key=lambda check: check.group):
        lines += ["", f"### {group}"]
        for check in checks:
            lines += ["", *_section(check)]
    return "\n".join(lines) + "\n"


def _section(check: Check) -> Iterator[str]:
    yield f"**`{check.name}`** {check.question}"
    yield ""
    for kind in check.kinds:
        yield from _item(kind)


def _item(kind: Kind) -> Iterator[str]:
    """As a list item; facts stand in italics."""
    yield f"- `{kind.code}` ({kind.severity.word}): {_plain(kind.found)}."
    yield f"  {_plain(kind.why)}"
    yield f"  **Do:** {_plain(kind.advice)}."


def _plain(text: str) -> str:
    return _FACT.sub(r"*\1*", text.replace("*", r"\*").replace("<", "&lt;"))


def written(page: str) -> str:
    """The page with the list as it is now. Raises ValueError where the line MADE is missing."""
    head, made, _ = page.partition(MADE)
    if not made:
        raise ValueError(f"{PAGE} lacks the line: {MADE}")
    return f"{head}{made}\n{findings()}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
