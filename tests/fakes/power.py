"""A disk that forgets: what was not synced may be gone, torn or out of order after a power cut."""

import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


class PowerCut(BaseException):
    """The machine went dark before this call."""


@dataclass
class _File:
    body: bytearray = field(default_factory=bytearray)
    synced: bytes = b""


@dataclass
class _Directory:
    """Names now, names that would survive, and the changes since that may or may not."""

    names: dict[str, _File | None] = field(default_factory=dict[str, _File | None])
    synced: dict[str, _File | None] = field(default_factory=dict[str, _File | None])
    changes: list[Callable[[dict[str, _File | None]], None]] = field(
        default_factory=list[Callable[[dict[str, _File | None]], None]]
    )

    def change(self, step: Callable[[dict[str, _File | None]], None]) -> None:
        step(self.names)
        self.changes.append(step)

    def sync(self) -> None:
        self.synced = dict(self.names)
        self.changes.clear()

    def survivors(self, random_: random.Random) -> dict[str, _File | None]:
        """Each change since the last sync reached the disk, or did not."""
        found = dict(self.synced)
        for step in self.changes:
            if random_.random() < 0.5:
                step(found)
        return found


class PoweredDisk:
    """`foreman.artifacts.Disk` in memory, dark from call number `cut` on; `calls` counts them."""

    def __init__(self, root: Path, cut: int = 0) -> None:
        self.calls = 0
        self._cut = cut
        self._root = root
        self._directories = {root.parent: _Directory()}
        self._open: dict[int, _File] = {}

    def make_directory(self, path: Path) -> None:
        self._call()
        if path in self._directories:
            raise FileExistsError
        self._directories[path] = _Directory()
        self._directories[path.parent].change(lambda names: names.update({path.name: None}))

    def create(self, path: Path) -> int:
        self._call()
        file = _File()
        self._directories[path.parent].change(lambda names: names.update({path.name: file}))
        descriptor = os.open(os.devnull, os.O_WRONLY)  # something to close
        self._open[descriptor] = file
        return descriptor

    def write(self, descriptor: int, body: memoryview) -> int:
        self._call()
        some = body[: len(body) // 2 + 1]  # a disk may take less than it was given
        self._open[descriptor].body += some
        return len(some)

    def sync(self, descriptor: int) -> None:
        self._call()
        file = self._open[descriptor]
        file.synced = bytes(file.body)

    def rename(self, old: Path, new: Path) -> None:
        self._call()

        def step(names: dict[str, _File | None]) -> None:
            if old.name in names:
                names[new.name] = names.pop(old.name)

        self._directories[old.parent].change(step)

    def sync_directory(self, path: Path) -> None:
        self._call()
        self._directories[path].sync()

    def after_the_cut(self, folder: Path, random_: random.Random) -> Path:
        """What the machine finds when it is on again, as a directory under `folder`."""
        self._restore(self._root.parent, folder, random_)
        return folder / self._root.name

    def _restore(self, path: Path, to: Path, random_: random.Random) -> None:
        to.mkdir(exist_ok=True)
        for name, file in self._directories[path].survivors(random_).items():
            if file is None:
                self._restore(path / name, to / name, random_)
            else:
                (to / name).write_bytes(_torn(file, random_))

    def _call(self) -> None:
        self.calls += 1
        if self.calls == self._cut:
            raise PowerCut


def _torn(file: _File, random_: random.Random) -> bytes:
    """What was synced, and of the rest any part, or as much of nothing."""
    body, kept = bytes(file.body), len(file.synced)
    rest = body[kept : random_.randint(kept, len(body))]
    return file.synced + random_.choice([rest, bytes(len(rest))])
