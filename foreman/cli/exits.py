"""The exit statuses: one table, which the help and the reference print."""

from enum import IntEnum

from foreman.cli.connection import Unreachable
from foreman.errors import ConfigError, ForemanError


class Exit(IntEnum):
    """How a command ends."""

    WELL = 0
    REFUSED = 1
    USAGE = 2
    UNREACHABLE = 3
    MISCONFIGURED = 4
    JOB_FAILED = 5
    TOO_LATE = 6
    WARNED = 7
    PROBLEMS = 8
    INCOMPLETE = 9
    INTERRUPTED = 130


MEANINGS = {
    Exit.WELL: "well",
    Exit.REFUSED: "the daemon said no",
    Exit.USAGE: "wrong usage",
    Exit.UNREACHABLE: "the daemon was not reached (FOREMAN_URL, FOREMAN_TOKEN)",
    Exit.MISCONFIGURED: "wrong settings",
    Exit.JOB_FAILED: "the job failed",
    Exit.TOO_LATE: "the time given to wait ran out",
    Exit.WARNED: "doctor warns",
    Exit.PROBLEMS: "doctor found problems",
    Exit.INCOMPLETE: "recovered, but not all of it",
    Exit.INTERRUPTED: "interrupted (Ctrl-C)",
}


class Ended(ForemanError):
    """The command ends with `status`, for a reason that is no error of the daemon's."""

    def __init__(self, status: Exit, text: str) -> None:
        super().__init__(text)
        self.status = status


def sentence() -> str:
    """All of them in a line, for the help."""
    return f"Exit status: {', '.join(f'{each:d} {text}' for each, text in MEANINGS.items())}."


def status_of(error: ForemanError) -> Exit:
    """What a command that ends with this error answers its shell."""
    match error:
        case Ended():
            return error.status
        case Unreachable():
            return Exit.UNREACHABLE
        case ConfigError():
            return Exit.MISCONFIGURED
        case _:
            return Exit.REFUSED
