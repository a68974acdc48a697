"""What happens while it happens: a job's output, and events. Both go on after a broken connection.

A place in the log is a number: a new connection begins where the last one broke, so nothing is
missed and nothing comes twice.
"""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Literal

import msgspec

from foreman.client import requests, working
from foreman.client.asking import Patience, accept, decode, plain
from foreman.client.errors import Damaged, JobFailed, Refused, Resync, Unreachable
from foreman.client.requests import JobOrId
from foreman.client.transport import Request, Transport
from foreman.client.values import Event, Record

BEYOND = 2**53 - 1  # after every event there will ever be


class _Kind(msgspec.Struct):
    type: str


class _Lost(msgspec.Struct):
    reason: Literal["ahead", "expired"]
    after: int
    first_seq: int
    last_seq: int


async def head(transport: Transport) -> int:
    """The `seq` of the latest event: what is watched from there on is new.

    Whoever asks for what comes after everything is told where everything ends.
    """
    try:
        async with aclosing(_log(transport, "/events", {"follow": "0"}, BEYOND)) as events:
            async for event in events:
                return event.seq
    except Resync as answer:
        return answer.last_seq
    raise Damaged("the daemon does not say where its log ends")


async def watch_job(transport: Transport, job: JobOrId, after: int) -> AsyncGenerator[Event]:
    """The job's events after this one, up to its last. Raises Resync, Unreachable, Refused."""
    while True:
        path = requests.job_path(job, "/events")
        async with aclosing(_log(transport, path, {}, after)) as events:
            async for event in events:
                yield event
                if event.ended:
                    return
                after = event.seq
        found = await working.get(transport, job)
        if found.ended and found.last_seq <= after:
            return


async def watch_all(
    transport: Transport, query: Mapping[str, str], after: int
) -> AsyncGenerator[Event]:
    """Everybody's events, without end. Raises Resync, Unreachable, Refused."""
    while True:
        async with aclosing(_log(transport, "/events", query, after)) as events:
            async for event in events:
                yield event
                after = event.seq


async def _log(
    transport: Transport, path: str, query: Mapping[str, str], after: int
) -> AsyncGenerator[Event]:
    """The events of a route until the daemon ends it."""
    patience = Patience(transport)
    while True:
        request = Request("GET", path, {**query, "after": str(after)})
        try:
            async with transport.subscribe(request) as messages:
                patience.renew()
                async for message in messages:
                    if (event := _event(message)) is None:
                        break  # too slow, and told so: the rest comes from the log
                    yield event
                    after = event.seq
                else:
                    return
        except (Unreachable, Refused) as error:
            await patience.wait(error)


def _event(message: bytes) -> Event | None:
    """None where the daemon gave this subscriber up. Raises Resync."""
    kind = decode(message, _Kind).type
    if kind == "resync":
        lost = decode(message, _Lost)
        raise Resync(lost.reason, lost.after, lost.first_seq, lost.last_seq)
    return None if kind == "slow" else decode(message, Event)


async def output(transport: Transport, job: JobOrId, start: int) -> AsyncGenerator[Record]:
    """The records from number `start` on, live. Raises JobFailed, Unreachable, Refused."""
    patience, path = Patience(transport), requests.job_path(job, "/output")
    n, run = start, ""
    while True:
        query = {"from": str(n)} | ({"attempt": run} if run else {})
        try:
            async with transport.open(Request("GET", path, query)) as reply:
                await accept(reply)
                patience.renew()
                run = reply.headers.get("x-foreman-attempt", "")
                async for line in reply.lines():
                    yield Record(run, n, plain(line))
                    n += 1
                return
        except Unreachable as error:
            await patience.wait(error)
        except Refused as error:
            if error.code == "job_failed":
                raise JobFailed(await working.get(transport, job)) from None
            if error.code == "attempt_over" and run:
                n, run = 0, ""
            else:
                await patience.wait(error)
