"""foreman's own API, as a Quart app: health, metrics, the queue, the jobs.

Imported when the first of its routes is asked for, see `foreman.api.lazy`.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import TypeVar

import msgspec
from quart import Response, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from foreman import __version__, names, tables
from foreman.api.job_view import job_view
from foreman.api.ports import Ports
from foreman.api.replies import error_body
from foreman.jobs import JobClass, JobId, State
from foreman.queue_view import QueueView
from foreman.wire import Dialect

E = TypeVar("E", bound=StrEnum)

PAGE = 50  # jobs on a page unless ?limit= says otherwise
LARGEST_PAGE = 500


class Wrong(Exception):
    """A bad parameter: 400, and the text says which and what would be right."""


def build(ports: Ports, exposition: Callable[[QueueView], bytes]) -> QuartTrio:
    """The app. `exposition` renders the metrics from a QueueView in Prometheus' text format."""
    app = QuartTrio("foreman", static_folder=None)
    desk = ports.desk

    @app.get("/healthz")
    async def healthz() -> Response:
        inventory = desk.inventory()
        return _json(
            {
                "status": "degraded" if inventory.degraded else "ok",
                "version": __version__,
                "target": {
                    "up": not inventory.degraded,
                    "reason": inventory.reason,
                    "models": len(inventory.models),
                    "polled_at": inventory.polled_at,
                },
            }
        )

    @app.get("/readyz")
    async def readyz() -> Response:
        await desk.queue()  # the worker answers
        await desk.read(tables.queued_total)  # and so does the database
        return _json({"status": "ready"})

    @app.get("/metrics")
    async def metrics() -> Response:
        text = exposition(await desk.queue())
        return Response(text, content_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/queue")
    async def queue() -> Response:
        return _json(await desk.queue())

    @app.get("/jobs")
    async def jobs() -> Response:
        arguments = request.args
        model = arguments.get("model")
        limit = _limit(arguments.get("limit"))
        before = arguments.get("before")
        rows = await desk.read(
            lambda db: tables.list_jobs(
                db,
                state=_one_of(State, "state", arguments.get("state")),
                job_class=_one_of(JobClass, "class", arguments.get("class")),
                model=_model_key(model) if model else None,
                before=JobId(before) if before else None,
                limit=limit + 1,
            )
        )
        page = rows[:limit]
        following = page[-1].id if len(rows) > limit else None
        return _json({"jobs": [job_view(row) for row in page], "next": following})

    @app.get("/jobs/<job_id>")
    async def job(job_id: str) -> Response:
        row = await desk.read(lambda db: tables.get_job(db, JobId(job_id)))
        if row is None:
            return _problem(404, f"there is no job {job_id}")
        return _json(job_view(row))

    @app.errorhandler(Wrong)
    async def wrong(error: Wrong) -> Response:
        return _problem(400, str(error))

    @app.errorhandler(HTTPException)
    async def refused(error: HTTPException) -> Response:
        return _problem(error.code or 500, error.description or error.name)

    return app


def _json(document: object) -> Response:
    return Response(msgspec.json.encode(document), content_type="application/json")


def _problem(status: int, text: str) -> Response:
    (_, kind), body = error_body(Dialect.OWN, status, text)
    return Response(body, status=status, content_type=kind.decode())


def _limit(text: str | None) -> int:
    if text is None:
        return PAGE
    if not text.isdigit() or not 1 <= int(text[:9]) <= LARGEST_PAGE:
        raise Wrong(f"limit={text}: write a number from 1 to {LARGEST_PAGE}")
    return int(text)


def _one_of(kind: type[E], name: str, text: str | None) -> E | None:
    if text is None:
        return None
    try:
        return kind(text)
    except ValueError:
        raise Wrong(
            f"{name}={text}: write one of {', '.join(each.value for each in kind)}"
        ) from None


def _model_key(name: str) -> str:
    try:
        return names.key(name)
    except names.InvalidName as error:
        raise Wrong(f"model={name}: {error.text}") from None
