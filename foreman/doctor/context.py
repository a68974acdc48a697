"""What checks look at: each thing is looked at once, when the first check asks for it."""

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, overload

import httpx
import msgspec

from foreman import config, names
from foreman.client.http import settings as client_settings
from foreman.client.location import Location, locate
from foreman.config import Settings
from foreman.database import READER_PRAGMAS, connect
from foreman.disk import DataDir
from foreman.doctor.findings import CannotLookError
from foreman.doctor.machine import Machine
from foreman.errors import ConfigError, StoreRefused, TargetError
from foreman.header import read_version
from foreman.probe import Entry, Probe

T = TypeVar("T")

PATIENCE = 5.0  # seconds for the daemon's answer


class Once(Generic[T]):
    """A property that is looked at once; that it cannot be had is remembered, too."""

    def __init__(self, look: Callable[[Any], T]) -> None:
        self._look = look
        self.__doc__ = look.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = "_seen_" + name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type) -> T: ...

    def __get__(self, instance: object | None, owner: type) -> T | Self:
        """The value. Raises CannotLookError each time when the first look did."""
        if instance is None:
            return self
        seen = instance.__dict__
        if self._name not in seen:
            try:
                seen[self._name] = self._look(instance)
            except CannotLookError as error:
                seen[self._name] = error
        value: T | CannotLookError = seen[self._name]
        if isinstance(value, CannotLookError):
            raise CannotLookError(str(value))
        return value


class _Target(msgspec.Struct, frozen=True):
    up: bool
    reason: str = ""


class Health(msgspec.Struct, frozen=True):
    """A foreman's /healthz, as far as it is looked at."""

    status: str
    version: str
    target: _Target


@dataclass(frozen=True, slots=True)
class Answered:
    """What is where FOREMAN_URL points: a foreman in this health, or why there is none."""

    health: Health | None = None
    status: int | None = None  # HTTP's, of something that is no foreman; None: nobody answered
    reason: str = ""
    silent: bool = False  # somebody listens there, and says nothing


@dataclass(frozen=True, slots=True)
class Totals:
    """The one row of `store`."""

    epoch: int
    dirty: bool
    seq: int
    queued: int


class Context:
    """Everything the checks share. Use it as a context manager.

    `load` allows loading models at the target; `quick` cuts the look at the database short.
    """

    def __init__(
        self, machine: Machine | None = None, *, load: bool = False, quick: bool = False
    ) -> None:
        self.machine = machine or Machine()
        self.load = load
        self.quick = quick
        self._close: list[Callable[[], None]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        while self._close:
            self._close.pop()()

    @Once
    def read_settings(self) -> Settings | ConfigError:
        """The settings, or what is wrong with them."""
        try:
            return config.load()
        except ConfigError as error:
            return error

    @property
    def settings(self) -> Settings:
        """The settings. Raises CannotLookError."""
        settings = self.read_settings
        if isinstance(settings, ConfigError):
            raise CannotLookError("the settings cannot be read")
        return settings

    @property
    def directory(self) -> DataDir:
        """The data folder, which may not exist."""
        return DataDir(self.settings.data_dir)

    @Once
    def holder(self) -> int | None:
        """The process of the daemon that has the data folder; None while none has."""
        return self.machine.holder(self.directory.lock)

    @Once
    def location(self) -> Location:
        """Where clients look for the daemon."""
        try:
            return locate()
        except ConfigError as error:
            raise CannotLookError(str(error)) from None

    @Once
    def daemon(self) -> Answered:
        """What answers there."""
        try:
            found = self.http.get("/healthz", timeout=PATIENCE)
        except httpx.HTTPError as error:
            silent = isinstance(error, httpx.ReadTimeout)
            return Answered(reason=str(error) or type(error).__name__, silent=silent)
        health = as_health(found)
        return Answered(health, None if health else found.status_code)

    @Once
    def http(self) -> httpx.Client:
        """To the daemon, as the client library reaches it."""
        verify = self.location.url.startswith("https:")  # to read all certificates takes 30 ms
        client = httpx.Client(**client_settings(self.location), verify=verify)
        self._close.append(client.close)
        return client

    @Once
    def target(self) -> Probe:
        """The target, answering or not."""
        settings = self.settings
        token = settings.ollama_token.get_secret_value() if settings.ollama_token else None
        probe = Probe(settings.ollama_url, token, settings.connect_timeout)
        self._close.append(probe.close)
        return probe

    @Once
    def version(self) -> str | TargetError:
        """The target's version, or why there is none."""
        try:
            return self.target.version()
        except TargetError as error:
            return error

    @Once
    def installed(self) -> tuple[Entry, ...]:
        """What the target has."""
        return self._of_target(self.target.installed)

    def loaded(self) -> tuple[Entry, ...]:
        """What the target has loaded at this moment."""
        return self._of_target(self.target.loaded)

    def find(self, model: str) -> Entry | None:
        """The installed model of this name."""
        wanted = names.key(model)
        return next((each for each in self.installed if names.key(each.name) == wanted), None)

    def can(self, model: Entry) -> tuple[str, ...]:
        """What it can do: a server of some age says so for one model at a time only."""
        if model.capabilities is not None:
            return model.capabilities
        return self._of_target(lambda: self.target.capabilities(model.name)) or ()

    def _of_target(self, ask: Callable[[], T]) -> T:
        if isinstance(self.version, TargetError):
            raise CannotLookError("the target does not answer")
        try:
            return ask()
        except TargetError as error:
            raise CannotLookError(f"the target does not say: {error}") from None

    @Once
    def opened(self) -> sqlite3.Connection | StoreRefused:
        """The database, or why it cannot be used. Nothing is written, not even beside it."""
        directory = self.directory
        if not directory.database.exists():
            raise CannotLookError(f"there is no database in {directory.path} yet")
        live = self.holder is not None or size(directory.wal) > 0
        index = directory.path / "foreman.db-shm"
        if live and not index.exists():
            raise CannotLookError(f"{index} is missing, and reading would have to make it")
        try:
            read_version(directory.database)  # as a start does; SQLite may have it from the log
            mode = "ro&readonly_shm=1" if live else "ro&immutable=1"
            connection = connect(directory.database, mode, READER_PRAGMAS)
        except StoreRefused as error:
            return error
        self._close.append(connection.close)
        try:
            connection.execute("SELECT epoch, dirty, seq, queued FROM store").fetchall()
        except sqlite3.Error as error:
            return StoreRefused(directory.database, f"cannot be read: {error}")
        return connection

    @property
    def database(self) -> sqlite3.Connection:
        """The database, for reading. Raises CannotLookError."""
        opened = self.opened
        if isinstance(opened, StoreRefused):
            raise CannotLookError("the database cannot be read")
        return opened

    @property
    def totals(self) -> Totals:
        """What the store says of itself. Raises CannotLookError."""
        query = "SELECT epoch, dirty, seq, queued FROM store"
        [(epoch, dirty, seq, queued)] = self.database.execute(query).fetchall()
        return Totals(epoch, bool(dirty), seq, queued)

    def count(self, query: str, *values: object) -> int:
        """The one number of a query."""
        [(number,)] = self.database.execute(query, values).fetchall()
        return int(number)


def as_health(answer: httpx.Response) -> Health | None:
    """The health that a foreman reports; None for what is not a foreman's answer."""
    with suppress(msgspec.MsgspecError):
        return msgspec.json.decode(answer.content, type=Health)
    return None


def size(path: Path) -> int:
    """Bytes in a file; 0 where there is none."""
    with suppress(OSError):
        return path.stat().st_size
    return 0
