"""foreman's own API, as a Quart app: health, metrics, the queue, the jobs.

Imported when the first of its routes is asked for, see `foreman.api.lazy`.
"""

from collections.abc import Callable

from quart import Response
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from foreman import tables
from foreman.api import artifact_routes, job_routes, openapi, webhook_routes
from foreman.api.health import Ready, health
from foreman.api.ports import Ports
from foreman.api.problems import PROBLEM_TYPE, Problem, store_problem
from foreman.api.quart_glue import json_response
from foreman.errors import ForemanError
from foreman.queue_view import QueueView


def build(ports: Ports, exposition: Callable[[QueueView], bytes]) -> QuartTrio:
    """The app. `exposition` renders the metrics from a QueueView in Prometheus' text format."""
    app = QuartTrio("foreman", static_folder=None)
    desk = ports.desk

    @app.get("/healthz")
    async def healthz() -> Response:
        return json_response(health(desk.inventory()))

    @app.get("/readyz")
    async def readyz() -> Response:
        await desk.queue()  # the worker answers
        await desk.read(tables.queued_total)  # and so does the database
        return json_response(Ready())

    @app.get("/metrics")
    async def metrics() -> Response:
        text = exposition(await desk.queue())
        return Response(text, content_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/queue")
    async def queue() -> Response:
        return json_response(await desk.queue())

    @app.get("/openapi.json")
    async def contract() -> Response:
        return json_response(openapi.document())

    for routes in (job_routes, artifact_routes, webhook_routes):
        routes.add(app, ports)

    @app.errorhandler(Problem)
    async def problem(error: Problem) -> Response:
        return _answer(error)

    @app.errorhandler(ForemanError)
    async def failed(error: ForemanError) -> Response:
        return _answer(store_problem(error))

    @app.errorhandler(HTTPException)
    async def refused(error: HTTPException) -> Response:
        text = error.description or error.name
        return _answer(Problem(error.code or 500, "http", text))

    return app


def _answer(problem: Problem) -> Response:
    return Response(
        problem.body(), problem.status, dict(problem.headers), content_type=PROBLEM_TYPE
    )
