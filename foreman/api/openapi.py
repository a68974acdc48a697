"""GET /openapi.json: the contract of foreman's own routes, put together from one table.

The paths are those of `foreman.wire.ROUTES`, the bodies are the msgspec types that read and write
them; what is left to say of each route stands here. Ollama's, OpenAI's and Anthropic's routes are
theirs to describe.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

from foreman import __version__
from foreman.api.health import Health, Ready
from foreman.api.job_view import ArtifactList, BulkLine, JobPage, JobView
from foreman.api.parameters import LARGEST_PAGE, LONGEST_WAIT, PAGE, WAIT
from foreman.api.problems import PROBLEM_TYPE, ProblemView
from foreman.api.webhook_view import (
    MESSAGE_STATES,
    DeliveryPage,
    EndpointList,
    EndpointView,
    Replay,
    Replayed,
    Tested,
    Url,
)
from foreman.intake import LONGEST_KEY, Submission
from foreman.jobs import JobClass, State
from foreman.queue_view import QueueView
from foreman.wire import ROUTES, Dialect

JSON, NDJSON = "application/json", "application/x-ndjson"
Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Parameter:
    """What may stand in the query, or (`place`) in a header."""

    name: str
    schema: Schema
    text: str
    place: str = "query"


@dataclass(frozen=True, slots=True)
class Answer:
    """What comes with one status: `body` is a type or a schema, none = nothing."""

    text: str
    body: Any = None
    kind: str = JSON


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. `refusals` are the statuses that carry a problem."""

    summary: str
    answers: dict[int, Answer]
    parameters: tuple[Parameter, ...] = ()
    body: Any = None
    body_kind: str = JSON
    refusals: tuple[int, ...] = ()


def _one_of(kind: type[StrEnum]) -> Schema:
    return {"type": "string", "enum": [each.value for each in kind]}


_TEXT: Schema = {"type": "string"}
_BYTES: Schema = {"type": "string", "format": "binary"}
_SWITCH: Schema = {"type": "string", "enum": ["0", "1"]}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_LABEL = Parameter(
    "label", {"type": "string", "pattern": "^[^:]+:"}, "Only with this label, as `name:value`."
)
_MODEL = Parameter("model", _TEXT, "Only for this model.")
_CLASS = Parameter("class", _one_of(JobClass), "Only of this class.")
_BEFORE = Parameter("before", _TEXT, "Only what is older than this id: the next page.")
_LIMIT = Parameter(
    "limit",
    {"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE, "default": PAGE},
    "How many at most.",
)
_STATES: Schema = {
    "type": "string",
    "pattern": f"^({'|'.join(State)})(,({'|'.join(State)}))*$",
}
_EVENT_FILTERS = (
    Parameter("after", _COUNT, "The seq of the last event that was seen; resumes after it."),
    Parameter("follow", _SWITCH, "0: end at the last event there is."),
    Parameter("state", _STATES, "Only these states, comma-separated."),
    _MODEL,
    _LABEL,
    _CLASS,
)
_EVENTS = {
    101: Answer("A websocket: the same objects, one a message."),
    200: Answer("Events, one a line; see docs/reference/events.md.", _TEXT, NDJSON),
}
_RANGES = (
    Parameter("range", _TEXT, "One range of bytes.", "header"),
    Parameter("if-none-match", _TEXT, "An ETag that is at hand.", "header"),
    Parameter("if-range", _TEXT, "The ETag for which the range is meant.", "header"),
)
_FILE = {
    200: Answer("All of it.", _BYTES, "*/*"),
    206: Answer("The range.", _BYTES, "*/*"),
    304: Answer("It is the one that is at hand."),
}
_KEY = Parameter(
    "Idempotency-Key",
    {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY, "pattern": "^[\\x21-\\x7e]+$"},
    "Sent again with the same body, it names the job that is there already.",
    "header",
)

OPERATIONS: dict[tuple[str, str], Operation] = {
    ("GET", "/healthz"): Operation(
        "Is it alive? 200 also while the target is away.", {200: Answer("It is.", Health)}
    ),
    ("GET", "/readyz"): Operation(
        "Can it take work?", {200: Answer("It can.", Ready)}, refusals=(503,)
    ),
    ("GET", "/metrics"): Operation(
        "Metrics for Prometheus.", {200: Answer("Its text format.", _TEXT, "text/plain")}
    ),
    ("GET", "/queue"): Operation(
        "What runs and what waits, in the order it will run.", {200: Answer("Now.", QueueView)}
    ),
    ("GET", "/openapi.json"): Operation("This.", {200: Answer("OpenAPI 3.1.", {"type": "object"})}),
    ("POST", "/jobs"): Operation(
        "Submit a durable job; it is on disk when the answer comes.",
        {
            200: Answer("The job that this Idempotency-Key brought before.", JobView),
            202: Answer("The job.", JobView),
        },
        (_KEY,),
        Submission,
        refusals=(400, 404, 408, 413, 422, 429, 503, 507),
    ),
    ("POST", "/jobs/bulk"): Operation(
        "Submit many, one a line; each is taken or refused for itself.",
        {200: Answer("A line for each, in order, while more arrive.", BulkLine, NDJSON)},
        body=Submission,
        body_kind=NDJSON,
    ),
    ("GET", "/jobs"): Operation(
        "Jobs, the newest first.",
        {200: Answer("A page.", JobPage)},
        (
            Parameter("state", _one_of(State), "Only in this state."),
            _CLASS,
            _MODEL,
            _LABEL,
            _BEFORE,
            _LIMIT,
        ),
        refusals=(400,),
    ),
    ("GET", "/jobs/{id}"): Operation(
        "One job, with its place, its times and its result.",
        {200: Answer("As it stands.", JobView)},
        refusals=(404,),
    ),
    ("DELETE", "/jobs/{id}"): Operation(
        "Cancel it.",
        {
            200: Answer("It has ended.", JobView),
            202: Answer("It runs, and is about to end.", JobView),
        },
        refusals=(404, 409, 503),
    ),
    ("GET", "/jobs/{id}/wait"): Operation(
        "The job once it has ended, or as it stands when the time is over.",
        {200: Answer("`state` tells which.", JobView)},
        (
            Parameter(
                "timeout",
                {"type": "number", "minimum": 0, "maximum": LONGEST_WAIT, "default": WAIT},
                "Seconds.",
            ),
        ),
        refusals=(400, 404),
    ),
    ("GET", "/jobs/{id}/artifacts"): Operation(
        "What it left behind.", {200: Answer("All of it.", ArtifactList)}, refusals=(404,)
    ),
    ("GET", "/jobs/{id}/artifacts/{name}"): Operation(
        "The bytes of one; the ETag is their SHA-256.", _FILE, _RANGES, refusals=(404, 416)
    ),
    ("GET", "/jobs/{id}/output"): Operation(
        "The records of its answer, also while it is being written.",
        {200: Answer("One a line, until the answer is complete.", _TEXT, NDJSON)},
        (
            Parameter("from", _COUNT, "The number of the first record that is wanted."),
            Parameter("attempt", _TEXT, "Whose records: X-Foreman-Attempt of an earlier answer."),
        ),
        refusals=(400, 404, 409),
    ),
    ("GET", "/events"): Operation(
        "The event log: from now on, or after a given event.",
        _EVENTS,
        (*_EVENT_FILTERS, Parameter("job", _TEXT, "Only of this job.")),
        refusals=(400, 503),
    ),
    ("GET", "/jobs/{id}/events"): Operation(
        "A job's events, to its end.", _EVENTS, _EVENT_FILTERS, refusals=(400, 404, 503)
    ),
    ("GET", "/webhooks/deliveries"): Operation(
        "Webhooks, the newest first, with every attempt at them.",
        {200: Answer("A page.", DeliveryPage)},
        (
            Parameter("state", {"type": "string", "enum": MESSAGE_STATES}, "Only in this state."),
            Parameter("job", _TEXT, "Only of this job."),
            Parameter("endpoint", _TEXT, "Only to this URL."),
            _BEFORE,
            _LIMIT,
        ),
        refusals=(400,),
    ),
    ("POST", "/webhooks/deliveries/replay"): Operation(
        "Send webhooks once more: one, a job's, or those of a time.",
        {202: Answer("They are due now.", Replayed)},
        body=Replay,
        refusals=(400, 404, 409, 503),
    ),
    ("GET", "/webhooks/endpoints"): Operation(
        "Where webhooks go, and how that fares.", {200: Answer("All of them.", EndpointList)}
    ),
    ("POST", "/webhooks/endpoints/enable"): Operation(
        "Send to an endpoint again that was given up.",
        {200: Answer("As it stands now.", EndpointView)},
        body=Url,
        refusals=(400, 404, 503),
    ),
    ("POST", "/webhooks/test"): Operation(
        "Send a signed `foreman.test` there now.",
        {200: Answer("What became of it.", Tested)},
        body=Url,
        refusals=(400, 503),
    ),
}


def document(operations: dict[tuple[str, str], Operation] = OPERATIONS) -> Schema:
    """The OpenAPI 3.1 document."""
    schemas = _Schemas(operations)
    paths: dict[str, Schema] = {}
    for route in ROUTES:
        for method in route.methods:
            if route.dialect is Dialect.OWN and method != "HEAD":
                path = paths.setdefault(route.path, {})
                path[method.lower()] = schemas.operation(route.path, operations[method, route.path])
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "foreman",
            "version": __version__,
            "summary": "A durable, queued, observable front for one Ollama server.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{}, {"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas.components,
        },
    }


class _Schemas:
    """The schemas of every type in the table, each once."""

    def __init__(self, operations: dict[tuple[str, str], Operation]) -> None:
        answers = [each for one in operations.values() for each in one.answers.values()]
        bodies = [*(one.body for one in operations.values()), *(each.body for each in answers)]
        self._types = list(dict.fromkeys(body for body in bodies if isinstance(body, type)))
        self._types.append(ProblemView)
        references, self.components = msgspec.json.schema_components(
            self._types, ref_template="#/components/schemas/{name}"
        )
        self._reference = dict(zip(self._types, references, strict=True))

    def operation(self, path: str, operation: Operation) -> Schema:
        """One entry of `paths`."""
        answers = operation.answers | {
            status: Answer("Why not.", ProblemView, PROBLEM_TYPE)
            for status in (*operation.refusals, 401)
        }
        names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
        parameters = [
            *({"name": name, "in": "path", "required": True, "schema": _TEXT} for name in names),
            *(_parameter(each) for each in operation.parameters),
        ]
        found: Schema = {
            "summary": operation.summary,
            "parameters": parameters,
            "responses": {str(status): self._answer(each) for status, each in answers.items()},
        }
        if operation.body is not None:
            content = self._content(operation.body, operation.body_kind)
            found["requestBody"] = {"required": True, "content": content}
        return found

    def _answer(self, answer: Answer) -> Schema:
        described: Schema = {"description": answer.text}
        if answer.body is not None:
            described["content"] = self._content(answer.body, answer.kind)
        return described

    def _content(self, body: Any, kind: str) -> Schema:
        schema = self._reference[body] if isinstance(body, type) else body
        return {kind: {"schema": schema}}


def _parameter(parameter: Parameter) -> Schema:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.text,
        "schema": parameter.schema,
    }
