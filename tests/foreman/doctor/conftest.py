"""A foreman that is well, as far as a test does not say otherwise."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from foreman.database import open_writer
from foreman.doctor.checks import CHECKS, Result, examine
from foreman.doctor.context import Context
from foreman.doctor.findings import Finding
from foreman.doctor.machine import Machine
from foreman.jobs import JobId
from tests.e2e.processes import NOW, seed
from tests.fakes.servers import daemon_process, serving

AWAY = "http://127.0.0.1:9"
TOKEN = "sesame-0123456789-open"
WALL = NOW / 1e6 + 60  # a minute after the jobs that are seeded


@dataclass
class Scene:
    """What doctor will find: settings by `set`, the machine by `machine`, real parts by `enter`."""

    root: Path
    patch: pytest.MonkeyPatch
    stack: ExitStack
    load: bool = False
    quick: bool = False
    machine: dict[str, Any] = field(default_factory=dict[str, Any])
    running: Callable[[], tuple[str, Path]] = lambda: ("", Path())
    """Where a daemon with the token TOKEN runs, and its folder; its target is away."""

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def database(self) -> Path:
        return self.data / "foreman.db"

    def set(self, **settings: object) -> None:
        """Settings as they stand in the environment, without their prefix; None: not set."""
        for name, value in settings.items():
            self.variable(f"FOREMAN_{name.upper()}", value)

    def variable(self, name: str, value: object) -> None:
        if value is None:
            self.patch.delenv(name, raising=False)
        else:
            self.patch.setenv(name, str(value))

    def jobs(self, model: str = "small") -> JobId:
        """One job that waits."""
        return seed(self.data, 1, model)[0]

    def sql(self, statement: str, *values: object) -> None:
        """Change the database of a daemon that does not run, as only damage does."""
        with closing(sqlite3.connect(self.database, isolation_level=None)) as connection:
            connection.execute(statement, values)

    def folder(self) -> Path:
        """A folder for one more thing."""
        path = self.root / "more"
        path.mkdir(exist_ok=True)
        return path

    def mounted(self, kind: str) -> None:
        """All that lies here lies on a file system of this kind."""
        mounts = self.folder() / "mountinfo"
        mounts.write_text(f"1 0 8:1 / / rw shared:1 - {kind} /dev/x rw\n")
        self.machine["mounts"] = mounts

    def program(self, name: str, *lines: str) -> None:
        """A program of this name that goes by these lines of shell."""
        path = self.folder() / name
        path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
        path.chmod(0o755)
        self.patch.setenv("PATH", str(self.folder()), prepend=os.pathsep)

    def results(self, *names: str) -> dict[str, Result]:
        """What the checks of these names say, or all."""
        machine = Machine(**self.machine)
        with Context(machine, load=self.load, quick=self.quick) as context:
            every = [check.name for check in CHECKS]
            return {each.check.name: each for each in examine(context, names or every)}

    def findings(self, *names: str) -> dict[str, Finding]:
        """By code; of several of a kind the last."""
        results = self.results(*names).values()
        return {each.code: each for result in results for each in result.findings}


@pytest.fixture(scope="session", name="running")
def _running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("running") / "data"
    with daemon_process(folder, AWAY, TOKEN=f"app:{TOKEN}") as url:
        yield url, folder


@pytest.fixture
def scene(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Scene]:
    """The daemon ended well and is stopped; its target is up."""
    for name in list(os.environ):
        if name.startswith(("FOREMAN_", "OLLAMA_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with ExitStack() as stack:
        scene = Scene(tmp_path, monkeypatch, stack)
        scene.running = lambda: request.getfixturevalue("running")
        url, _ = stack.enter_context(serving())
        scene.set(ollama_url=url, data_dir=scene.data, ballast=4096, min_free_disk=1)
        scene.set(url=AWAY, listen="127.0.0.1:0")
        scene.machine |= {
            "sqlite": (3, 60, 0),
            "addresses": list,
            "wall": lambda: WALL,
            "systemd": tmp_path / "none",
        }
        scene.mounted("ext4")
        scene.set(embed_model="embedder", max_connections=16)
        scene.data.mkdir(mode=0o700)
        with open_writer(scene.data, now=NOW, ballast=4096) as database:
            database.close()
        yield scene
