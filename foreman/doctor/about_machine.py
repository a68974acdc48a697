"""Checks of the machine: its clock, its limits, who starts the daemon, and whether it sleeps."""

import re
import resource
from collections.abc import Iterator

from foreman.doctor.context import Context
from foreman.doctor.findings import CannotLookError, Fine, Kind, Outcome, Severity

UNIT = "foreman.service"
BESIDE = 64  # files that are no connections: the database, the logs, the way to the target
ALLOWED = 2.0  # seconds that a clock may be set back without a word

CLOCK_BACK = Kind(
    "clock-back",
    Severity.WARNING,
    "the clock went backwards: the newest event is {seconds} s in the future",
    "Times of jobs come out wrong, and what is due by the clock (retries, webhooks, expiry) waits "
    "until it has caught up.",
    "Set the clock, and let the system keep it: timedatectl set-ntp true",
)
OPEN_FILES = Kind(
    "open-files",
    Severity.NOTE,
    "{whose} may have {limit} files open; FOREMAN_MAX_CONNECTIONS={wanted} needs {needed}",
    "Fewer connections are served at once; more than that have to wait to be accepted.",
    "Set LimitNOFILE={needed} in the unit (ulimit -n {needed} in a shell), or lower "
    "FOREMAN_MAX_CONNECTIONS",
)
NO_UNIT = Kind(
    "no-unit",
    Severity.NOTE,
    "systemd runs this machine, and there is no {unit}",
    "After a crash or a reboot nobody starts foreman.",
    "foreman install-service",
)
UNIT_DISABLED = Kind(
    "unit-disabled",
    Severity.WARNING,
    "{unit} is {state}",
    "After a reboot nobody starts foreman.",
    "systemctl{user} enable --now foreman",
)
UNIT_FAILED = Kind(
    "unit-failed",
    Severity.PROBLEM,
    "{unit} has failed, and systemd no longer starts it",
    "The daemon is down until somebody starts it.",
    "journalctl{user} -u foreman -n 50 tells why; then: systemctl{user} restart foreman",
)
SLEEPS = Kind(
    "machine-sleeps",
    Severity.NOTE,
    "this Mac sleeps after {minutes} minutes without a user",
    "Batches stand still meanwhile; no job is lost, and none is charged an attempt.",
    "caffeinate -s foreman serve, or on mains power: sudo pmset -c sleep 0",
)


def clock(context: Context) -> Iterator[Outcome]:
    """Did the clock go backwards?"""
    query = "SELECT ifnull((SELECT at FROM events ORDER BY seq DESC LIMIT 1), 0)"
    ahead = context.count(query) / 1e6 - context.machine.wall()
    if ahead > ALLOWED:
        yield CLOCK_BACK(seconds=round(ahead))
    yield Fine("it agrees with the newest event")


def open_files(context: Context) -> Iterator[Outcome]:
    """May as many files be open as connections are wanted?"""
    wanted = context.settings.max_connections
    process = context.holder
    if process is None:
        _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)  # the daemon takes the hard limit
        whose = "a process of this shell"
    else:
        found = context.machine.open_files(process)
        if found is None:
            raise CannotLookError(f"the limits of the daemon (process {process}) cannot be read")
        limit, whose = found, f"the daemon (process {process})"
    if limit != resource.RLIM_INFINITY and limit < wanted + BESIDE:
        yield OPEN_FILES(whose=whose, limit=limit, wanted=wanted, needed=wanted + BESIDE)
    yield Fine(f"{whose} may have {'any number' if limit < 0 else limit}")


def unit(context: Context) -> Iterator[Outcome]:
    """Does systemd start the daemon?"""
    machine = context.machine
    if not machine.systemd.exists():
        yield Fine("systemd does not run this machine")
        return
    for options in ((), ("--user",)):
        state = machine.ask("systemctl", *options, "is-enabled", UNIT)
        if state is None:
            raise CannotLookError("systemctl does not answer")
        if state in ("", "not-found"):
            continue
        user = "".join(f" {each}" for each in options)
        if machine.ask("systemctl", *options, "is-failed", UNIT) == "failed":
            yield UNIT_FAILED(unit=UNIT, user=user)
        if state not in ("enabled", "enabled-runtime", "static", "alias"):
            yield UNIT_DISABLED(unit=UNIT, state=state, user=user)
        yield Fine(f"{UNIT} is {state}")
        return
    yield NO_UNIT(unit=UNIT)


def sleep(context: Context) -> Iterator[Outcome]:
    """Does the machine sleep while jobs wait?"""
    if context.machine.platform != "darwin":
        raise CannotLookError("only macOS is asked when it sleeps")
    found = re.search(r"^\s*sleep\s+(\d+)", context.machine.ask("pmset", "-g") or "", re.MULTILINE)
    if found is None:
        raise CannotLookError("pmset does not say when it sleeps")
    if minutes := int(found[1]):
        yield SLEEPS(minutes=minutes)
    yield Fine("it stays awake")
