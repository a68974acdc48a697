"""What every `foreman llm` command starts with: the environment, the settings file, the log."""

import os
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import typer
from dotenv import dotenv_values

from foreman.cli.exits import Ended, Exit
from foreman.cli.terminal import say
from foreman.llm import environment
from foreman.llm.dsn import DSN
from foreman.llm.errors import (
    Closed,
    DeadlinePassed,
    Exhausted,
    LLMError,
    SpecError,
    TimedOut,
    Unreachable,
)
from foreman.llm.log_schema import LogUnusable
from foreman.llm.registry import Registry
from foreman.llm.schemes import SCHEMES
from foreman.llm.settings import Settings

FILE = "llm.toml"


@dataclass(frozen=True, slots=True)
class Setup:
    """The settings in effect; `log` is None where nothing is logged."""

    environ: Mapping[str, str]
    settings: Settings
    log: Path | None

    def registry(self) -> Registry:
        """A new one. Raises SpecError."""
        made = Registry(environ=self.environ)
        self.settings.fill(made)
        return made

    def dsn(self, provider: str) -> DSN | None:
        """Where a provider is; None when nothing says so. Raises SpecError."""
        text = self.settings.providers.get(provider)
        if text is not None:
            return DSN.parse(provider, text, self.environ)
        return environment.find(provider, self.environ, SCHEMES)

    def log_to_read(self) -> Path:
        """Raises SpecError where nothing is logged."""
        if self.log is None:
            raise SpecError("requests are not logged: [log] says off")
        return self.log


def read(file: Path | None) -> Setup:
    """From the environment, .env, and this file or the usual one. Raises SpecError."""
    dotenv = dotenv_values(".env", interpolate=False)  # ${VAR} in a DSN is for us to read
    environ = {name: value for name, value in dotenv.items() if value is not None} | os.environ
    path = file or _usual(environ)
    settings = Settings.read(path) if path else Settings()
    if path and settings.providers and path.stat().st_mode & 0o077:
        say(f"foreman: {path} may have secrets, and others can read it: chmod 600 {path}")
    log = Path(settings.log.path).expanduser() if settings.log.path else _usual_log(environ)
    return Setup(environ, settings, None if settings.log.off else log)


def prompt(given: str | None) -> str:
    """The words to ask. Raises BadParameter where there are none."""
    if given is not None and given != "-":
        return given
    if given is None and sys.stdin.isatty():
        raise typer.BadParameter("what do you want to ask? PROMPT, or - to read it from stdin")
    return sys.stdin.read()


@contextmanager
def failures() -> Generator[None]:
    """The library's errors with the exit status that says what kind they are of."""
    try:
        yield
    except LLMError as error:
        raise Ended(_status(error), str(error)) from error


def _status(error: LLMError) -> Exit:
    match error:
        case SpecError() | LogUnusable() | Closed():
            return Exit.MISCONFIGURED
        case DeadlinePassed():
            return Exit.TOO_LATE
        case Unreachable() | TimedOut():
            return Exit.UNREACHABLE
        case Exhausted() if error.attempts and all(
            isinstance(each.error, Unreachable | TimedOut) for each in error.attempts
        ):
            return Exit.UNREACHABLE
        case _:
            return Exit.REFUSED


def _usual(environ: Mapping[str, str]) -> Path | None:
    folders = (Path(), _folder(environ, "XDG_CONFIG_HOME", ".config"))
    return next((each / FILE for each in folders if (each / FILE).is_file()), None)


def _usual_log(environ: Mapping[str, str]) -> Path:
    return _folder(environ, "XDG_STATE_HOME", ".local/state") / "llm.db"


def _folder(environ: Mapping[str, str], variable: str, usual: str) -> Path:
    return Path(environ.get(variable) or Path.home() / usual) / "foreman"
