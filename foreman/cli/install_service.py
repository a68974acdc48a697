"""`foreman install-service`: says what it will write and run, asks, and does it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import typer

from foreman.cli import service_files
from foreman.cli.exits import Ended, Exit
from foreman.cli.service_files import ENVIRONMENT, LABEL, SERVICE, SOCKET
from foreman.cli.terminal import say

Kind = Literal["systemd", "launchd"]

HIDDEN = (Path("/home"), Path("/root"), Path("/run/user"), Path("/tmp"), Path("/var/tmp"))  # noqa: S108
"""What ProtectHome= and PrivateTmp= take from the sight of the system's service."""

SYSTEMD_RUNS = Path("/run/systemd/system")


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for. `root` is put before every path; elsewhere than / nothing is run."""

    kind: Kind
    user: bool
    socket: bool
    root: Path


@dataclass(frozen=True, slots=True)
class File:
    """A file to be written; one that is `kept` only where there is none."""

    path: Path
    text: str
    mode: int = 0o644
    kept: bool = False

    @property
    def state(self) -> str:
        """What writing it means: write, replace, keep, unchanged."""
        try:
            found = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return "write"
        except OSError:
            return "replace"
        if self.kept:
            return "keep"
        return "unchanged" if found == self.text else "replace"

    def write(self) -> None:
        """Make it so. Raises OSError."""
        if self.state not in ("write", "replace"):
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        with os.fdopen(os.open(self.path, flags, self.mode), "w", encoding="utf-8") as file:
            file.write(self.text)
        self.path.chmod(self.mode)


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is to be done, and how it is undone."""

    files: Sequence[File]
    commands: Sequence[Sequence[str]]
    removal: Sequence[str]

    def lines(self) -> Iterator[str]:
        """What it says before it does it."""
        for file in self.files:
            yield f"{file.state:9}  {file.path}"
        for command in self.commands:
            yield f"run        {' '.join(command)}"


def install(wish: Wish, *, yes: bool, dry_run: bool) -> None:
    """Install it. Raises Ended when it cannot be done or was not wanted."""
    plan = _launchd(wish) if wish.kind == "launchd" else _systemd(wish)
    for line in plan.lines():
        typer.echo(line)
    if dry_run:
        for file in plan.files:
            typer.echo(f"\n# {file.path}\n{file.text.rstrip()}")
        return
    if not yes and not typer.confirm("Do it?"):
        raise Ended(Exit.REFUSED, "nothing was done")
    _write(plan)
    _run(plan, wish)
    say("To remove it again, data and settings stay:")
    for line in plan.removal:
        say(f"  {line}")


def _systemd(wish: Wish) -> Plan:
    command = [_executable(wish, hidden=() if wish.user else HIDDEN), "serve"]
    config = _user_config() if wish.user else Path("/etc")
    units = config / ("systemd/user" if wish.user else "systemd/system")
    files = [File(_below(wish, units / SERVICE), service_files.service(command, user=wish.user))]
    names, start = [SERVICE], [["restart", SERVICE]]
    if wish.socket:
        files.append(File(_below(wish, units / SOCKET), service_files.socket()))
        names.append(SOCKET)
        if files[-1].state != "unchanged":  # a service that runs holds the port
            start = [["stop", SERVICE], ["restart", SOCKET], ["start", SERVICE]]
    settings = service_files.environment()
    files.append(File(_below(wish, config / ENVIRONMENT), settings, mode=0o600, kept=True))
    systemctl = ["systemctl", "--user"] if wish.user else ["systemctl"]
    paths = [str(_below(wish, units / name)) for name in names]
    return Plan(
        files,
        [
            [*systemctl, "daemon-reload"],
            [*systemctl, "enable", *names],
            *([*systemctl, *words] for words in start),
        ],
        [
            " ".join([*systemctl, "disable", "--now", *names]),
            " ".join(["rm", *paths]),
            " ".join([*systemctl, "daemon-reload"]),
        ],
    )


def _launchd(wish: Wish) -> Plan:
    command = [_executable(wish, hidden=()), "serve"]
    library = Path.home() / "Library" if wish.user else Path("/Library")
    folder = library / ("LaunchAgents" if wish.user else "LaunchDaemons")
    path = _below(wish, folder / f"{LABEL}.plist")
    file = File(path, service_files.launchd(command, str(library / "Logs/foreman.log")))
    domain = f"gui/{os.getuid()}" if wish.user else "system"
    before = [] if file.state == "write" else [["launchctl", "bootout", f"{domain}/{LABEL}"]]
    return Plan(
        [file],
        [*before, ["launchctl", "bootstrap", domain, str(path)]],
        [f"launchctl bootout {domain}/{LABEL}", f"rm {path}"],
    )


def _below(wish: Wish, path: Path) -> Path:
    return wish.root / path.relative_to("/")


def _user_config() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")


def _executable(wish: Wish, hidden: Sequence[Path]) -> str:
    """The `foreman` of this very installation. Raises Ended when a service could not run it."""
    here = Path(sys.executable).parent / service_files.NAME
    if not here.is_file():
        raise Ended(Exit.REFUSED, f"there is no {here}: install foreman with its commands first")
    interpreter = Path(sys.executable).resolve()  # outside the environment it was made for
    for path in (here, interpreter):
        if any(path.is_relative_to(folder) for folder in hidden):
            text = (
                f"{path} is out of the service's sight: it sees neither homes nor /tmp. Install "
                "foreman in /opt/foreman with the system's Python, or take --user"
            )
            if wish.root == Path("/"):
                raise Ended(Exit.REFUSED, text)
            say(f"foreman: {text}")
    return str(here)


def _write(plan: Plan) -> None:
    for file in plan.files:
        try:
            file.write()
        except OSError as error:
            raise Ended(
                Exit.REFUSED,
                f"cannot write {file.path}: {error.strerror}; as root (sudo), or with --user?",
            ) from None


def _run(plan: Plan, wish: Wish) -> None:
    """Run its commands, or say that they are left to be run."""
    program = shutil.which(plan.commands[0][0])
    there = wish.kind == "launchd" or SYSTEMD_RUNS.is_dir()
    if wish.root != Path("/") or program is None or not there:
        say("Written. Left for you to run:")
        for command in plan.commands:
            say(f"  {' '.join(command)}")
        return
    for command in plan.commands:
        done = subprocess.run([program, *command[1:]], check=False)
        if done.returncode:
            raise Ended(Exit.REFUSED, f"{' '.join(command)} failed: {done.returncode}")
    say("It runs.")
