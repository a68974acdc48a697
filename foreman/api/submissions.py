"""POST /jobs and /jobs/bulk: read, checked, stored; answered when they are on disk.

On the raw exchange and not in the Quart app: this is asked a thousand times a second, and a bulk
is answered while it is still being sent.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from foreman.admission import Refused
from foreman.api.exchange import BodyTooLarge, BodyTooSlow, Exchange
from foreman.api.inference import Waits, check_installed, is_cloud
from foreman.api.job_view import BulkJob, BulkLine, job_view
from foreman.api.ports import Desk, Ports
from foreman.api.problems import Problem, store_problem
from foreman.api.replies import NDJSON, PLAIN_JSON, PROBLEM
from foreman.errors import NoReply, StoreError
from foreman.intake import Intended, Invalid, idempotency_key, read
from foreman.netguard import Blocked
from foreman.rows import NewJob
from foreman.submitting import Accepted

GROUP = 256  # lines of a bulk that are stored together
KEY_HEADER = b"idempotency-key"


@dataclass(frozen=True, slots=True)
class Intake:
    """The rules of submission. `check_webhook(url)` raises netguard.Blocked."""

    check_webhook: Callable[[str], None]


@dataclass(slots=True)
class _Submitter:
    """Who submits, and what was learnt about their models during this request."""

    desk: Desk
    intake: Intake
    owner: str
    absent: dict[str, Problem] = field(default_factory=dict[str, Problem])

    async def job(self, body: bytes, header: bytes = b"") -> NewJob:
        """The job that `body` describes. Raises Problem."""
        try:
            intended = read(body)
            key = idempotency_key(header, intended.submission.idempotency_key)
        except Invalid as invalid:
            raise Problem(400, "invalid", invalid.text, field=invalid.field) from None
        except Refused as refused:
            raise Problem(refused.status, "invalid", refused.text, field="/request") from None
        if intended.submission.webhook is not None:
            self._check(intended.submission.webhook.url)
        await self._check_model(intended)
        return intended.new_job(self.desk.new_id(), self.owner, key, time.time_ns() // 1000)

    def _check(self, url: str) -> None:
        try:
            self.intake.check_webhook(url)
        except Blocked as blocked:
            raise Problem(400, "webhook_blocked", str(blocked), field="/webhook/url") from None

    async def _check_model(self, intended: Intended) -> None:
        key = intended.admitted.key
        if key in self.absent:
            raise self.absent[key]
        try:
            await check_installed(intended.route, intended.admitted, self.desk)
        except Refused as refused:
            problem = Problem(404, "model_not_found", refused.text, field="/request/model")
            raise self.absent.setdefault(key, problem) from None
        except NoReply as error:
            raise store_problem(error) from None
        if is_cloud(intended.admitted, self.desk):
            text = "a model in the cloud is not queued; call its own route"
            raise Problem(400, "cloud_model", text, field="/request/model")


async def single(exchange: Exchange, ports: Ports, waits: Waits, intake: Intake) -> None:
    """Answer POST /jobs: 202, or 200 for one that its Idempotency-Key has brought before."""
    submitter = _Submitter(ports.desk, intake, exchange.client)
    try:
        body = await _body(exchange, waits)
        job = await submitter.job(body, exchange.header(KEY_HEADER))
        placed = await ports.desk.submit(job)
    except Problem as problem:
        await refuse(exchange, problem)
        return
    except (StoreError, NoReply) as error:
        await refuse(exchange, store_problem(error))
        return
    row = placed.accepted.row
    exchange.span.set({"foreman.job.id": row.id, "foreman.queue.position": placed.position})
    _link(exchange, ports, [placed.accepted])
    view = msgspec.json.encode(job_view(row, position=placed.position))
    location = (b"location", f"/jobs/{row.id}".encode())
    await exchange.reply(202 if placed.accepted.anew else 200, [PLAIN_JSON, location], view)


async def bulk(exchange: Exchange, ports: Ports, waits: Waits, intake: Intake) -> None:
    """Answer POST /jobs/bulk: each line for itself, in order, while more of them arrive."""
    submitter = _Submitter(ports.desk, intake, exchange.client)
    incoming, number = _Lines(waits.max_body), 0
    await exchange.start(200, [NDJSON])
    try:
        while lines := await incoming.read(exchange, waits.body):
            answers = await _store(submitter, lines)
            _link(exchange, ports, [each for each in answers if isinstance(each, Accepted)])
            said = [_line(number + at, each) for at, each in enumerate(answers, start=1)]
            number += len(lines)
            await exchange.write(b"".join(said))
    except BodyTooLarge as error:
        await exchange.write(_line(number + 1, Problem(413, "too_large", str(error))))
    except BodyTooSlow:
        await exchange.write(_line(number + 1, _too_slow()))
    await exchange.finish()


async def refuse(exchange: Exchange, problem: Problem) -> None:
    """Answer with a problem."""
    headers = [(name.encode(), value.encode()) for name, value in problem.headers]
    await exchange.reply(problem.status, [PROBLEM, *headers], problem.body())


async def _body(exchange: Exchange, waits: Waits) -> bytes:
    try:
        return await exchange.body(waits.max_body, waits.body)
    except BodyTooLarge as error:
        raise Problem(413, "too_large", str(error)) from None
    except BodyTooSlow:
        raise _too_slow() from None


def _too_slow() -> Problem:
    return Problem(408, "too_slow", "the request body did not arrive in time")


class _Lines:
    """The lines of a body; blank ones are skipped. One may have `most` bytes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._whole: list[bytes] = []
        self._pieces: list[bytes] = []  # of a line that is not complete
        self._size = 0  # of these

    async def read(self, exchange: Exchange, seconds: float) -> list[bytes]:
        """Those that have arrived, at most GROUP of them; none after the last.

        Raises BodyTooLarge, BodyTooSlow and ClientGone.
        """
        while not self._whole:
            chunk = await exchange.read(seconds)
            self._take(b"\n" if chunk is None else chunk)
            if chunk is None:
                break
        lines, self._whole = self._whole[:GROUP], self._whole[GROUP:]
        return lines

    def _take(self, chunk: bytes) -> None:
        first, *others = chunk.split(b"\n")
        self._pieces.append(first)
        self._size += len(first)
        if self._size > self._most:
            raise BodyTooLarge(self._most)
        if others:
            *whole, last = [b"".join(self._pieces), *others]
            self._pieces, self._size = [last], len(last)
            self._whole = [line for line in whole if line.strip()]


async def _store(submitter: _Submitter, lines: Sequence[bytes]) -> list[Accepted | Problem]:
    """What became of each line, in order."""
    read_: list[NewJob | Problem] = []
    for line in lines:
        try:
            read_.append(await submitter.job(line))
        except Problem as problem:
            read_.append(problem)
    jobs = [each for each in read_ if isinstance(each, NewJob)]
    try:
        stored = iter(await submitter.desk.submit_each(jobs))
    except (StoreError, NoReply) as error:
        lost = store_problem(error)
        return [each if isinstance(each, Problem) else lost for each in read_]
    return [each if isinstance(each, Problem) else _settled(next(stored)) for each in read_]


def _settled(answer: Accepted | StoreError) -> Accepted | Problem:
    return store_problem(answer) if isinstance(answer, StoreError) else answer


def _link(exchange: Exchange, ports: Ports, accepted: Sequence[Accepted]) -> None:
    """Let the trace of a submission point at the traces of its jobs: those are their own."""
    if exchange.span.context is None:
        return
    for each in accepted:
        if context := ports.tracer.job(each.row.id):
            exchange.span.link(context)


def _line(number: int, answer: Accepted | Problem) -> bytes:
    if isinstance(answer, Problem):
        said = BulkLine(number, answer.status, error=answer.view())
    else:
        row = answer.row
        status = 202 if answer.anew else 200
        said = BulkLine(number, status, BulkJob(row.id, row.state))
    return msgspec.json.encode(said) + b"\n"
