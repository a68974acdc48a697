"""The lock files hold what pyproject.toml asks for, by hash, and no word about where it is from."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUN: list[str] = PROJECT["project"]["dependencies"]
DEMO: list[str] = PROJECT["project"]["optional-dependencies"]["demo"]
GROUPS: dict[str, list[Any]] = PROJECT["dependency-groups"]
BUILD: list[str] = GROUPS["build"]
BENCH: list[str] = GROUPS["bench"]
DEV = [wanted for wanted in GROUPS["dev"] if isinstance(wanted, str)]

LOCKS = ("run", "demo", "dev", "bench", "model")
PIN = re.compile(r"([A-Za-z0-9._-]+)(?:\[.*\])?==([^ ;]+)")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def pins(lock: str) -> list[str]:
    """Each pinned distribution with its hashes, on one line."""
    text = (ROOT / "requirements" / f"{lock}.lock").read_text()
    return text.replace("\\\n", "").splitlines()


def versions(lock: str) -> dict[str, set[str]]:
    """More than one version where the Python or the platform decides."""
    found: dict[str, set[str]] = {}
    for pin in pins(lock):
        if match := PIN.match(pin):
            found.setdefault(canonicalize_name(match[1]), set()).add(match[2])
    return found


@pytest.mark.parametrize(
    ("lock", "wanted"),
    [
        ("run", RUN + BUILD),
        ("demo", RUN + DEMO + BUILD),
        ("dev", RUN + DEMO + BUILD + DEV),
        ("bench", RUN + BENCH),
    ],
    ids=["run", "demo", "dev", "bench"],
)
def test_a_lock_holds_a_fitting_version_of_all_that_is_wanted(lock: str, wanted: list[str]) -> None:
    locked = versions(lock)
    stale = [
        text
        for text in wanted
        for requirement in [Requirement(text)]
        for chosen in [locked.get(canonicalize_name(requirement.name), set[str]())]
        if not chosen or not all(requirement.specifier.contains(v) for v in chosen)
    ]
    assert not stale, "run: make lock"


def test_the_locks_agree_with_each_other() -> None:
    everything = versions("dev")
    for lock in ("run", "demo"):
        chosen = versions(lock)
        assert chosen == {name: everything.get(name) for name in chosen}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_is_pins_and_hashes_and_no_address(lock: str) -> None:
    for pin in pins(lock):
        assert PIN.match(pin)
        assert HASH.search(pin)
        assert "://" not in pin
        assert " @ " not in pin
        assert not re.search(r"(^|\s)--(?!hash=)", pin)
