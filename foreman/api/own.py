"""foreman's own API, as a Quart app: its contract, looking at jobs, webhooks.

Imported when the first of its routes is asked for, see `foreman.api.lazy`.
"""

from quart import Response
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from foreman.api import artifact_routes, job_routes, openapi, webhook_routes
from foreman.api.ports import Ports
from foreman.api.problems import PROBLEM_TYPE, Problem, store_problem
from foreman.api.quart_glue import json_response
from foreman.errors import ForemanError


def build(ports: Ports) -> QuartTrio:
    """The app."""
    app = QuartTrio("foreman", static_folder=None)

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
