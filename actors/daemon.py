"""`foreman serve`: settings in, the tree up, an exit code out."""

import faulthandler
import gc
import logging
import resource
import socket
import sys
from contextlib import suppress
from typing import cast

import trio

from actors import system
from foreman import activation, logs, notify
from foreman.config import Settings, load
from foreman.errors import ConfigError, StoreRefused

log = logging.getLogger("foreman.serve")

OK, FAILED, CONFIGURATION = 0, 1, 4


def run_daemon() -> int:
    """Run until a signal stops it. 0 after a stop in good order, 4 for settings that are wrong."""
    notifier = notify.from_environment()
    try:
        inherited = activation.inherited()
        settings = _settings(inherited)
    except ConfigError as error:
        print(f"foreman: {error}", file=sys.stderr)
        return CONFIGURATION
    logs.configure(settings.log_level, settings.log_format, _secrets(settings))
    faulthandler.enable()  # a watchdog ends what hangs with SIGABRT: the log then shows where
    _raise_file_limit()
    try:
        trio.run(_serve, settings, inherited, notifier)
    except Exception as error:
        refused = [each for each in _leaves(error) if isinstance(each, StoreRefused | OSError)]
        for each in refused:
            log.error("cannot start: %s", each)
        if not refused:
            log.exception("the daemon cannot go on")
        return FAILED
    return OK


def _settings(inherited: socket.socket | None) -> Settings:
    """Those in force. Raises ConfigError, also when the socket we got is open to strangers."""
    if inherited is None:
        return load()
    listen = activation.address_of(inherited)
    try:
        return load(listen=listen)
    except ConfigError as error:
        hint = f"(FOREMAN_LISTEN is overruled by the socket that was handed over, at {listen})"
        raise ConfigError(f"{error}\n{hint}") from None


async def _serve(
    settings: Settings, inherited: socket.socket | None, notifier: notify.Notifier
) -> None:
    gc.freeze()  # what the imports made stays; the collector need not look at it again
    await system.serve(settings, inherited=inherited, notifier=notifier)


def _secrets(settings: Settings) -> list[str]:
    secrets = [token.secret for token in settings.token]
    secrets += [*settings.webhook_secret, *filter(None, [settings.ollama_token])]
    return [secret.get_secret_value() for secret in secrets]


def _raise_file_limit() -> None:
    """A connection is a file: take as many as the system lets us without asking anybody."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS refuses what it calls unlimited
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _leaves(error: Exception) -> list[Exception]:
    if not isinstance(error, ExceptionGroup):
        return [error]
    members = cast("ExceptionGroup[Exception]", error).exceptions
    return [leaf for each in members for leaf in _leaves(each)]
