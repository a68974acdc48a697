"""The jobs: listed, looked at, waited for, cancelled."""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import trio
from quart import Response, request
from quart_trio import QuartTrio

from foreman import records, tables
from foreman.api.job_view import DamagedJobView, JobPage, JobView, job_view
from foreman.api.parameters import (
    LONGEST_WAIT,
    WAIT,
    given,
    label,
    limit,
    model_key,
    number,
    one_of,
)
from foreman.api.ports import Desk, Ports
from foreman.api.problems import Problem
from foreman.api.quart_glue import json_response, owner
from foreman.api.visibility import visible
from foreman.jobs import ENDED, FailureCode, Fingerprint, JobClass, JobId, State
from foreman.queue_view import shown
from foreman.rows import Artifact, JobRow

_FILTERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "state": ("state", partial(one_of, State, "state")),
    "class": ("job_class", partial(one_of, JobClass, "class")),
    "model": ("model", model_key),
    "label": ("label", label),
    "before": ("before", JobId),
}
"""Of GET /jobs: by the name in the query, that of `list_jobs` and how it is read."""

CANCEL_PATIENCE = 5.0  # seconds that a DELETE waits for the running job to end


@dataclass(frozen=True, slots=True)
class _Found:
    """A job as it stands in one moment; `result` is what is kept inline."""

    row: JobRow
    artifacts: tuple[Artifact, ...] = ()
    result: object = None

    @property
    def ended(self) -> bool:
        return self.row.state in ENDED


def add(app: QuartTrio, ports: Ports) -> None:
    """Add the routes of this file to the app."""
    desk = ports.desk

    @app.get("/jobs")
    async def jobs() -> Response:
        asked = given(request.query_string, {"limit", *_FILTERS})
        wanted = limit(asked.pop("limit", None))
        read = {argument: _FILTERS[argument] for argument in asked}
        filters = {name: read_one(asked[each]) for each, (name, read_one) in read.items()}
        listed = partial(tables.list_jobs, owner=owner(), limit=wanted + 1, **filters)
        rows = await desk.read(listed)
        page = rows[:wanted]
        following = page[-1].id if len(rows) > wanted else None
        sound = [job_view(row) for row in page if isinstance(row, JobRow)]
        others = [row for row in page if not isinstance(row, JobRow)]
        damaged = [DamagedJobView(row.id, row.detail) for row in others]
        return json_response(JobPage(sound, following, damaged))

    @app.get("/jobs/<job_id>")
    async def job(job_id: str) -> Response:
        return json_response(await _view(desk, await _find(desk, job_id)))

    @app.get("/jobs/<job_id>/wait")
    async def wait(job_id: str) -> Response:
        asked = given(request.query_string, ["timeout"])
        seconds = number("timeout", asked.get("timeout"), WAIT, 0, LONGEST_WAIT)
        return json_response(await _view(desk, await _ended(desk, job_id, seconds)))

    @app.delete("/jobs/<job_id>")
    async def cancel(job_id: str) -> Response:
        found = await _find(desk, job_id)
        if found.row.error_code == FailureCode.CANCELLED:
            return json_response(await _view(desk, found))
        if found.ended:
            raise Problem(409, "already_done", f"the job is {found.row.state} already")
        await desk.cancel(found.row.id)
        found = await _ended(desk, job_id, CANCEL_PATIENCE)
        return json_response(await _view(desk, found), 200 if found.ended else 202)


async def _find(desk: Desk, job: str) -> _Found:
    """Raises Problem when there is no such job, or it belongs to somebody else."""
    found = await desk.read(partial(_look, job=JobId(job)))
    visible(found.row if found else None, job, owner())
    assert found is not None  # or it would not have been visible
    return found


async def _ended(desk: Desk, job: str, seconds: float) -> _Found:
    """The job once it has ended, or as it stands when `seconds` are over."""
    deadline = trio.current_time() + seconds
    while True:
        seen = desk.tail.head  # before the look: what is committed after it wakes us
        found = await _find(desk, job)
        if found.ended:
            return found
        moved = None  # also when the daemon stops
        with trio.move_on_at(deadline):
            moved = await desk.tail.moved(seen, found.row.id)
        if moved is None:
            return found


def _look(connection: sqlite3.Connection, job: JobId) -> _Found | None:
    row = tables.get_job(connection, job)
    if row is None:
        return None
    artifacts = tuple(tables.artifacts_of(connection, job))
    inline = any(artifact.inline for artifact in artifacts)
    return _Found(row, artifacts, _document(connection, row) if inline else None)


def _document(connection: sqlite3.Connection, row: JobRow) -> object:
    result = tables.get_result(connection, row.id)
    try:
        return records.document(row.endpoint, result.content_type, result.body)
    except ValueError:
        return None  # it is there to be fetched, as it came


async def _view(desk: Desk, found: _Found) -> JobView:
    position = await _position(desk, found.row) if found.row.state is State.QUEUED else None
    return job_view(found.row, position=position, artifacts=found.artifacts, result=found.result)


async def _position(desk: Desk, row: JobRow) -> int:
    """How many jobs run before this one, as things stand; the running one included."""
    view = await desk.queue()
    runs = view.running is not None
    if row.job_class is JobClass.INTERACTIVE:
        places = (call.position for call in view.calls if call.id == row.id)
        return next(places, 1) - 1 + runs

    def is_resident(fingerprint: Fingerprint) -> bool:
        return shown(fingerprint) == view.resident

    ahead = partial(tables.jobs_ahead, job=row, is_resident=is_resident)
    return await desk.read(ahead) + len(view.calls) + runs
