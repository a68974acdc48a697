"""The checks, as one table, and how they are run."""

import sqlite3
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from foreman.doctor import (
    about_daemon,
    about_database,
    about_disk,
    about_jobs,
    about_machine,
    about_settings,
    about_slots,
    about_target,
)
from foreman.doctor.context import Context
from foreman.doctor.findings import CannotLookError, Finding, Fine, Kind, Outcome, Severity, Unseen
from foreman.errors import ForemanError


@dataclass(frozen=True, slots=True)
class Check:
    """One look at one thing. Its function's docstring says, as a question, what it looks at."""

    name: str
    group: str
    run: Callable[[Context], Iterator[Outcome]]
    kinds: tuple[Kind, ...] = ()

    @property
    def question(self) -> str:
        """What it looks at."""
        return self.run.__doc__ or ""


@dataclass(frozen=True, slots=True)
class Result:
    """What a check had to say."""

    check: Check
    outcomes: tuple[Outcome, ...]

    @property
    def findings(self) -> list[Finding]:
        """What it found, the worst first."""
        found = [each for each in self.outcomes if isinstance(each, Finding)]
        return sorted(found, key=lambda each: -each.severity)

    @property
    def severity(self) -> Severity:
        """The worst of it."""
        return max((each.severity for each in self.findings), default=Severity.OK)

    @property
    def said(self) -> list[str]:
        """What was well; nothing where something was found."""
        return [each.text for each in self.outcomes if isinstance(each, Fine) and not self.findings]

    @property
    def unseen(self) -> list[str]:
        """What could not be looked at, and why."""
        return [each.text for each in self.outcomes if isinstance(each, Unseen)]


_settings, _daemon, _target, _slots = about_settings, about_daemon, about_target, about_slots
_disk, _database, _jobs, _machine = about_disk, about_database, about_jobs, about_machine

CHECKS: tuple[Check, ...] = (
    Check("settings", "Settings", _settings.settings, (_settings.SETTINGS_WRONG,)),
    Check(
        "secrets",
        "Settings",
        _settings.secrets,
        (_settings.SECRETS_READABLE, _settings.TOKEN_WEAK),
    ),
    Check(
        "exposure",
        "Settings",
        _settings.exposure,
        (_settings.OPEN_TO_ALL, _settings.NO_TLS, _settings.TARGET_TOKEN_IN_CLEAR),
    ),
    Check(
        "environment",
        "Settings",
        _settings.environment,
        (_settings.SETTINGS_DIFFER, _settings.VARIABLE_IGNORED, _settings.CLIENTS_BYPASS),
    ),
    Check(
        "proxies",
        "Settings",
        _settings.proxies,
        (_settings.PROXY_IN_THE_WAY, _settings.PROXY_NOT_USED),
    ),
    Check(
        "daemon",
        "Daemon",
        _daemon.daemon,
        (
            _daemon.DAEMON_STOPPED,
            _daemon.DAEMON_NOT_FOUND,
            _daemon.DAEMON_SILENT,
            _daemon.NOT_FOREMAN,
            _daemon.OTHER_FOLDER,
            _daemon.OTHER_VERSION,
            _daemon.TOKEN_REFUSED,
            _daemon.DEGRADED,
        ),
    ),
    Check("port", "Daemon", _daemon.port, (_daemon.PORT_TAKEN, _daemon.CANNOT_LISTEN)),
    Check(
        "target",
        "Target",
        _target.target,
        (
            _target.UNREACHABLE,
            _target.REFUSES,
            _target.NOT_OLLAMA,
            _target.IS_FOREMAN,
            _target.TOO_OLD,
            _target.KNOWN_BAD,
        ),
    ),
    Check("models", "Target", _target.models, (_target.NO_MODELS, _target.SPILLED)),
    Check(
        "embed-model",
        "Target",
        _slots.embed_model,
        (_slots.EMBED_UNSET, _slots.EMBED_MISSING, _slots.EMBED_WRONG),
    ),
    Check(
        "two-slots",
        "Target",
        _slots.two_slots,
        (_slots.ONE_SLOT, _slots.EMBED_FAILS, _slots.WORKER_FAILS, _slots.SLOTS_UNKNOWN),
    ),
    Check("bypass", "Target", _target.bypass, (_target.OPEN_TARGET,)),
    Check("data-folder", "Disk", _disk.folder, (_disk.FOLDER_REFUSED, _disk.FOLDER_SHOWN)),
    Check(
        "file-system",
        "Disk",
        _disk.file_system,
        (_disk.ON_NETWORK, _disk.IN_MEMORY, _disk.IN_CONTAINER),
    ),
    Check("room", "Disk", _disk.room, (_disk.DISK_FULL, _disk.DISK_LOW, _disk.BALLAST_GONE)),
    Check("fsync", "Disk", _disk.syncing, (_disk.FSYNC_SLOW,)),
    Check(
        "sqlite",
        "Database",
        _database.sqlite,
        (_database.SQLITE_TOO_OLD, _database.SQLITE_WAL_RESET),
    ),
    Check(
        "database",
        "Database",
        _database.database,
        (
            _database.DATABASE_MISSING,
            _database.DATABASE_REFUSED,
            _database.MARK_AHEAD,
            _database.WAL_LARGE,
            _database.UNCLEAN_END,
        ),
    ),
    Check(
        "contents",
        "Database",
        _database.contents,
        (_database.DATABASE_DAMAGED, _database.ROWS_DAMAGED, _database.FILES_DAMAGED),
    ),
    Check(
        "backups",
        "Database",
        _database.backups,
        (_database.NO_BACKUP, _database.OLD_BACKUP, _database.BACKUP_BESIDE),
    ),
    Check(
        "jobs",
        "Jobs",
        _jobs.jobs,
        (_jobs.SET_ASIDE, _jobs.STUCK, _jobs.EXPIRED, _jobs.QUEUE_FULL),
    ),
    Check("models-of-jobs", "Jobs", _jobs.models_of_jobs, (_jobs.WITHOUT_MODEL,)),
    Check(
        "webhooks",
        "Jobs",
        _jobs.webhooks,
        (_jobs.DEAD_LETTERS, _jobs.DISABLED, _jobs.FAILING, _jobs.UNSIGNED),
    ),
    Check("clock", "Machine", _machine.clock, (_machine.CLOCK_BACK,)),
    Check("open-files", "Machine", _machine.open_files, (_machine.OPEN_FILES,)),
    Check(
        "unit",
        "Machine",
        _machine.unit,
        (_machine.UNIT_FAILED, _machine.UNIT_DISABLED, _machine.NO_UNIT),
    ),
    Check("sleep", "Machine", _machine.sleep, (_machine.SLEEPS,)),
)
NAMES = tuple(check.name for check in CHECKS)


def examine(
    context: Context,
    only: Collection[str] = NAMES,
    before: Callable[[Check], None] = lambda check: None,
) -> Iterator[Result]:
    """Run the checks of these names, in the order of the table, each result as it is known.

    `before` is called with each check as it begins.
    """
    for check in CHECKS:
        if check.name in only:
            before(check)
            yield Result(check, tuple(_outcomes(check, context)))


def _outcomes(check: Check, context: Context) -> Iterator[Outcome]:
    """What it says; that it cannot go on is one more thing it says."""
    try:
        yield from check.run(context)
    except CannotLookError as error:
        yield Unseen(str(error))
    except (ForemanError, OSError, sqlite3.Error) as error:
        yield Unseen(f"{check.name}: {str(error) or type(error).__name__}")
