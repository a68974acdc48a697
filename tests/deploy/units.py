"""The unit as `foreman install-service` writes it for this installation, and what it says."""

import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def installed(folder: Path, *options: str) -> Path:
    """Install below `folder`, which stands for /; where the units are then."""
    command = [sys.executable, "-m", "actors", "install-service", "--for", "systemd"]
    subprocess.run(
        [*command, "--root", folder, "--yes", *options], check=True, capture_output=True, cwd=ROOT
    )
    return next(folder.rglob("foreman.service")).parent


def values(unit: Path, key: str) -> list[str]:
    """What the unit says for the key, line by line."""
    lines = unit.read_text(encoding="utf-8").splitlines()
    return [line.removeprefix(f"{key}=") for line in lines if line.startswith(f"{key}=")]


def command(unit: Path) -> list[str]:
    """Its command line."""
    [line] = values(unit, "ExecStart")
    return shlex.split(line)


def allowed_calls(unit: Path) -> set[str]:
    """The system calls that SystemCallFilter= leaves, by the groups of the systemd that is here."""
    groups = _groups()
    allowed = set[str]()
    for line in values(unit, "SystemCallFilter"):
        named = _expanded(line.removeprefix("~").split(), groups)
        allowed = allowed - named if line.startswith("~") else allowed | named
    return allowed | _expanded(["@default"], groups)


def _expanded(names: list[str], groups: dict[str, list[str]]) -> set[str]:
    found = set[str]()
    for name in names:
        found |= _expanded(groups[name], groups) if name.startswith("@") else {name}
    return found


def _groups() -> dict[str, list[str]]:
    listed = subprocess.run(
        ["systemd-analyze", "syscall-filter", "--no-pager"],
        check=True,
        capture_output=True,
        text=True,
    )
    groups: dict[str, list[str]] = {}
    name = ""
    for line in listed.stdout.splitlines():
        word = line.strip().lstrip("#").strip()
        if line.startswith("@"):
            name = word
            groups[name] = []
        elif line.startswith(" ") and not line.strip().startswith("#") and name:
            groups[name].append(word)
    return groups
