"""The list of a job's artifacts. Their bytes are sent by `foreman.api.results`."""

from quart import Response
from quart_trio import QuartTrio

from foreman.api.job_view import artifact_view
from foreman.api.kept_results import find
from foreman.api.ports import Ports
from foreman.api.quart_glue import json_response, owner


def add(app: QuartTrio, ports: Ports) -> None:
    """Add the routes of this file to the app."""

    @app.get("/jobs/<job_id>/artifacts")
    async def artifacts(job_id: str) -> Response:
        found = await find(ports.desk, job_id, owner())
        views = [artifact_view(found.row.id, artifact) for artifact in found.artifacts]
        return json_response({"artifacts": views})
