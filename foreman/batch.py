"""A durable job as the worker needs it: its request rebuilt from the row, its answer collected."""

import sqlite3
from dataclasses import dataclass

from foreman import tables
from foreman.admission import Admitted, admit
from foreman.jobs import JobId
from foreman.rows import JobRow, Result
from foreman.wire import Request, ResponseHead, ResponsePart, ResponseWhole, Route, route_for

_HEADERS = ((b"content-type", b"application/json"),)


class OutputTooLarge(Exception):
    """The answer exceeds FOREMAN_MAX_OUTPUT."""


@dataclass(frozen=True, slots=True)
class BatchJob:
    """The row, and what its stored body asks for."""

    row: JobRow
    route: Route
    admitted: Admitted
    request: Request


def read_batch_job(connection: sqlite3.Connection, job: JobId) -> BatchJob | None:
    """The queued job, None when it has gone. Raises admission.Refused for a body that is wrong."""
    row = tables.get_job(connection, job)
    if row is None:
        return None
    body = tables.get_request(connection, job)
    route = route_for("POST", row.endpoint)
    assert route is not None
    admitted = admit(route, _HEADERS, body)
    return BatchJob(row, route, admitted, Request(b"POST", row.endpoint.encode(), _HEADERS, body))


class BatchAnswer:
    """A sink that keeps the answer, up to `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._head: ResponseHead | None = None
        self._body = bytearray()

    async def __call__(self, part: ResponsePart) -> None:
        match part:
            case ResponseHead():
                self._head = part
            case bytes():
                self._body += part
                if len(self._body) > self._limit:
                    raise OutputTooLarge
            case ResponseWhole(head, body):
                self._head = head
                await self(body)
            case _:
                pass  # the outcome says how it ended

    def result(self) -> Result:
        """What was answered; for an attempt that ended well."""
        assert self._head is not None
        content_type = dict(self._head.headers).get(b"content-type", b"application/json")
        return Result(self._head.status, content_type.decode("latin-1"), bytes(self._body))
