"""`foreman serve`: settings in, the tree up, an exit code out."""

import gc
import logging
import sys
from typing import cast

import trio

from actors import system
from foreman import logs
from foreman.config import Settings, load
from foreman.errors import ConfigError, StoreRefused

log = logging.getLogger("foreman.serve")

OK, FAILED, CONFIGURATION = 0, 1, 4


def run_daemon() -> int:
    """Run until a signal stops it. 0 after a stop in good order, 4 for settings that are wrong."""
    try:
        settings = load()
    except ConfigError as error:
        print(f"foreman: {error}", file=sys.stderr)
        return CONFIGURATION
    logs.configure(settings.log_level, settings.log_format, _secrets(settings))
    try:
        trio.run(_serve, settings)
    except Exception as error:
        refused = [each for each in _leaves(error) if isinstance(each, StoreRefused | OSError)]
        for each in refused:
            log.error("cannot start: %s", each)
        if not refused:
            log.exception("the daemon cannot go on")
        return FAILED
    return OK


async def _serve(settings: Settings) -> None:
    gc.freeze()  # what the imports made stays; the collector need not look at it again
    await system.serve(settings)


def _secrets(settings: Settings) -> list[str]:
    tokens = [token.secret.get_secret_value() for token in settings.token]
    return tokens + ([settings.ollama_token.get_secret_value()] if settings.ollama_token else [])


def _leaves(error: Exception) -> list[Exception]:
    if not isinstance(error, ExceptionGroup):
        return [error]
    members = cast("ExceptionGroup[Exception]", error).exceptions
    return [leaf for each in members for leaf in _leaves(each)]
