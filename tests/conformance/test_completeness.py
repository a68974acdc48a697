"""Every case of the reference has a test that bears its number."""

import re
from pathlib import Path

CASES = {f"c{number:02}" for number in range(1, 76)}
FEATURES = {f"ft{number}" for number in (*range(1, 14), 19)}
NUMBERED = re.compile(r"def test_(c\d\d|ft\d+)_")


def test_no_case_is_missing() -> None:
    sources = (path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert {number for source in sources for number in NUMBERED.findall(source)} == CASES | FEATURES
