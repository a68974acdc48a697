"""A durable job as the worker needs it: its request rebuilt from the row, its answer collected."""

import sqlite3
from dataclasses import dataclass

from foreman import tables
from foreman.admission import Admitted, admit
from foreman.errors import StoreError
from foreman.jobs import JobId
from foreman.live_output import LiveOutput
from foreman.rows import JobRow, Microseconds, Result
from foreman.wire import Request, ResponseHead, ResponsePart, ResponseWhole, Route, route_for

_HEADERS = ((b"content-type", b"application/json"),)


class Unreadable(Exception):
    """The stored request is damaged or gone."""


class OutputTooLarge(Exception):
    """The answer exceeds FOREMAN_MAX_OUTPUT."""


@dataclass(frozen=True, slots=True)
class BatchJob:
    """The row, what its stored body asks for, and since when it has waited this time."""

    row: JobRow
    route: Route
    admitted: Admitted
    request: Request
    queued_at: Microseconds


def read_batch_job(connection: sqlite3.Connection, job: JobId) -> BatchJob | None:
    """The queued job, None when it has gone.

    Raises StoreError when its row is damaged, Unreadable when its request is, admission.Refused
    when the request can never be run.
    """
    row = tables.get_job(connection, job)
    if row is None:
        return None
    try:
        body = tables.get_request(connection, job)
    except StoreError as error:
        raise Unreadable(str(error)) from error
    route = route_for("POST", row.endpoint)
    assert route is not None
    admitted = admit(route, _HEADERS, body)
    request = Request(b"POST", row.endpoint.encode(), _HEADERS, body)
    return BatchJob(row, route, admitted, request, tables.last_step(connection, row))


class BatchAnswer:
    """A sink that keeps the answer, up to `limit` bytes, where it can be followed as it grows."""

    def __init__(self, limit: int, output: LiveOutput) -> None:
        self._limit = limit
        self._status = 0
        self.output = output

    async def __call__(self, part: ResponsePart) -> None:
        match part:
            case ResponseHead(status, headers):
                self._status = status
                content_type = dict(headers).get(b"content-type", b"application/json")
                self.output.begin(content_type.decode("latin-1"))
            case bytes() if self._status < 400:  # a refusal is no output: its text is in the error
                if len(self.output) + len(part) > self._limit:
                    raise OutputTooLarge
                self.output.append(part)
            case ResponseWhole(head, body):
                await self(head)
                await self(body)
            case _:
                pass  # the outcome says how it ended

    def result(self) -> Result:
        """What was answered; for an attempt that ended well."""
        return Result(self._status, self.output.content_type, self.output.body())
