"""Fixtures for every directory of tests."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import pytest

from tests.fakes import daemon as fake
from tests.fakes.daemon import Daemon

StartDaemon = Callable[..., AbstractAsyncContextManager[Daemon]]
"""Takes the arguments of `tests.fakes.daemon.daemon` but for the folder."""


@pytest.fixture
def daemon(tmp_path: Path) -> StartDaemon:
    """Starts the real daemon on a fresh database, in front of a scripted target."""
    return partial(fake.daemon, tmp_path / "data")
