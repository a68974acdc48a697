"""What the shell offers after Tab: jobs and models of the daemon, if it answers at once."""

from typing import TypeVar

import msgspec

from foreman.cli import connection
from foreman.errors import ForemanError

T = TypeVar("T")

QUICK = 0.5  # seconds; a shell that hangs on Tab is worse than one that offers nothing
OFFERED = 50


class _Job(msgspec.Struct, frozen=True):
    id: str
    state: str
    model: str


class _Jobs(msgspec.Struct, frozen=True):
    jobs: list[_Job]


class _Model(msgspec.Struct, frozen=True):
    name: str


class _Models(msgspec.Struct, frozen=True):
    models: list[_Model]


def jobs(incomplete: str) -> list[tuple[str, str]]:
    """Ids of recent jobs, each with what tells them apart."""
    found = _asked(f"/jobs?limit={OFFERED}", _Jobs, _Jobs([])).jobs
    offers = [(job.id, f"{job.state} {job.model}") for job in found]
    return [offer for offer in offers if offer[0].startswith(incomplete)]


def models(incomplete: str) -> list[str]:
    """The models that the target has."""
    found = _asked("/api/tags", _Models, _Models([])).models
    return [model.name for model in found if model.name.startswith(incomplete)]


def _asked(path: str, kind: type[T], nothing: T) -> T:
    """The answer; `nothing` for any reason why there might be none."""
    try:
        with connection.read().open("GET", path, patience=QUICK) as answer:
            return connection.decode(answer.read(), kind)
    except ForemanError:
        return nothing
