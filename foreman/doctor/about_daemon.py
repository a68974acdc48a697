"""Checks of the daemon: does it run, where clients look for it, as this version, in health?"""

import errno
import os
import socket
from collections.abc import Iterator

from foreman import __version__
from foreman.doctor.context import PATIENCE, Context
from foreman.doctor.findings import Fine, Kind, Outcome, Severity, Unseen
from foreman.units import Address

DAEMON_STOPPED = Kind(
    "daemon-stopped",
    Severity.WARNING,
    "no daemon runs: nobody answers at {url}",
    "Clients are refused, and waiting jobs wait.",
    "foreman serve",
)
DAEMON_NOT_FOUND = Kind(
    "daemon-not-found",
    Severity.PROBLEM,
    "a daemon runs (process {process}), but not where FOREMAN_URL points: {url}: {reason}",
    "The commands, and clients set up alike, do not find it.",
    "Set FOREMAN_URL to where FOREMAN_LISTEN ({listen}) can be reached",
)
DAEMON_SILENT = Kind(
    "daemon-silent",
    Severity.PROBLEM,
    "a daemon runs (process {process}), but gave no answer at {url} within {seconds} s",
    "It hangs, is stopped, or waits for a disk that hangs; so do its clients.",
    "Look at its log; then kill -ABRT {process}, which writes where it hangs, and start it again",
)
NOT_FOREMAN = Kind(
    "not-foreman",
    Severity.PROBLEM,
    "what answers at {url} is no foreman: /healthz came back with {status}",
    "The commands, and clients set up alike, talk to another program.",
    "Set FOREMAN_URL, or stop the other program",
)
OTHER_FOLDER = Kind(
    "daemon-other-folder",
    Severity.WARNING,
    "a daemon answers at {url}, but it does not use {folder}",
    "What is said here about jobs and disk is about another folder than the daemon's.",
    "Set FOREMAN_DATA_DIR as the daemon has it, and run this on its machine",
)
OTHER_VERSION = Kind(
    "daemon-other-version",
    Severity.WARNING,
    "the daemon is foreman {theirs}, this command is foreman {ours}",
    "An upgrade takes effect at the daemon's next start; until then commands may not fit.",
    "Restart the daemon: with systemd, systemctl restart foreman",
)
TOKEN_REFUSED = Kind(
    "token-refused",
    Severity.WARNING,
    "the daemon at {url} does not accept the token of this shell",
    "All commands but doctor will fail here.",
    "Set FOREMAN_TOKEN to a secret from the daemon's own FOREMAN_TOKEN",
)
DEGRADED = Kind(
    "daemon-degraded",
    Severity.WARNING,
    "the daemon says it is degraded: {reason}",
    "Jobs are accepted and wait; nothing is worked on until the target answers.",
    "See the findings about the target",
)
PORT_TAKEN = Kind(
    "port-taken",
    Severity.PROBLEM,
    "another program listens on {listen}",
    "foreman serve cannot start there.",
    "Find it with: lsof -i :{port}; stop it, or choose another FOREMAN_LISTEN",
)
CANNOT_LISTEN = Kind(
    "cannot-listen",
    Severity.PROBLEM,
    "foreman cannot listen on {listen}: {reason}",
    "foreman serve cannot start there.",
    "Choose an address of this machine and a port above 1023 in FOREMAN_LISTEN",
)


def daemon(context: Context) -> Iterator[Outcome]:
    """Does it run, and is it what answers at FOREMAN_URL?"""
    url, answered, process = context.location.url, context.daemon, context.holder
    health = answered.health
    if health is None:
        yield from _missing(context)
        return
    if process is None and context.location.is_here:
        yield OTHER_FOLDER(url=url, folder=context.directory.path)
    if health.version != __version__:
        yield OTHER_VERSION(theirs=health.version, ours=__version__)
    if context.http.get("/queue").status_code == 401:
        yield TOKEN_REFUSED(url=url)
    if health.status != "ok":
        yield DEGRADED(reason=health.target.reason or health.status)
    yield Fine(f"foreman {health.version} answers at {url}")


def port(context: Context) -> Iterator[Outcome]:
    """Could foreman listen where it is told to?"""
    listen = context.settings.listen
    if context.holder is not None:
        yield Unseen(f"not tried on {listen}: the daemon runs")
        return
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((listen.host, listen.port))
    except OSError as error:
        yield _unfit(listen, error, context)
    else:
        yield Fine(f"{listen} is free")


def _missing(context: Context) -> Iterator[Outcome]:
    url, answered = context.location.url, context.daemon
    if answered.status is not None:
        yield NOT_FOREMAN(url=url, status=answered.status)
    elif context.holder is not None and answered.silent:
        yield DAEMON_SILENT(process=context.holder, url=url, seconds=f"{PATIENCE:g}")
    elif context.holder is not None:
        listen = context.settings.listen
        yield DAEMON_NOT_FOUND(
            process=context.holder, url=url, reason=answered.reason, listen=listen
        )
    else:
        yield DAEMON_STOPPED(url=url)


def _unfit(listen: Address, error: OSError, context: Context) -> Outcome:
    if error.errno != errno.EADDRINUSE:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        return CANNOT_LISTEN(listen=listen, reason=reason)
    if context.daemon.health:
        return Unseen(f"not tried on {listen}: a foreman is there")
    return PORT_TAKEN(listen=listen, port=listen.port)
