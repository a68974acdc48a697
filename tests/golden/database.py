"""A database as a daemon left it that was killed with a job in every state, written down as SQL.

    python -m tests.golden.database

writes the one of this schema. That of a schema which was released must never be written again:
it stands for the files that are out there.
"""

import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from foreman import outbox, tables
from foreman.artifacts import describe
from foreman.database import open_writer
from foreman.delivery import Attempt
from foreman.jobs import FailureCode, JobClass, JobIds, Requeue
from foreman.rows import Idempotency, JobRef, NewJob, Result
from foreman.schema import APPLICATION_ID, MIGRATIONS
from foreman.tables import Transaction
from tests.fakes.jobs import new_job

HERE = Path(__file__).parent
NOW = 1_750_000_000_000_000  # long past: nothing in it is yet to come
HOOK = '{"url":"http://127.0.0.1:9/hook","events":["job.done","job.failed"]}'
ANSWER = b'{"model":"small","response":"one","done":true}'


def golden(name: str) -> Path:
    """The file of the schema after this migration."""
    return HERE / f"{name}.sql"


def restore(name: str, folder: Path) -> Path:
    """The database of this schema in `folder`, as its daemon left it."""
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / "foreman.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # which a dump does not say
        connection.executescript(golden(name).read_text())
    path.chmod(0o600)
    return path


def main() -> None:
    with TemporaryDirectory() as folder:
        _live(Path(folder))
        with closing(sqlite3.connect(Path(folder) / "foreman.db")) as connection:
            head = [
                f"PRAGMA application_id = {APPLICATION_ID};",
                f"PRAGMA user_version = {len(MIGRATIONS)};",
            ]
            golden(MIGRATIONS[-1].name).write_text("\n".join([*head, *connection.iterdump(), ""]))


def _live(folder: Path) -> None:
    ids = JobIds(lambda: NOW // 1000)
    with open_writer(folder, now=NOW, ballast=4096) as database:
        tx = Transaction(database.connection, NOW, database.epoch)
        submit = partial(_submit, tx, ids)
        _finish(tx, _run(tx, submit(webhook=HOOK, labels={"team": "red"}, artifacts="inline")))
        _finish(tx, _run(tx, submit(webhook=HOOK, idempotency=Idempotency("key", b"digest"))))
        refused = _run(tx, submit(webhook=HOOK))
        tables.fail(tx, refused, FailureCode.TARGET_REFUSED, "model 'small' does not chat")
        tables.cancel(tx, submit().id)
        tables.requeue(tx, _run(tx, submit()), Requeue.RETRY, not_before_us=NOW, message="500")
        submit(priority=3, expires_at=NOW + 10**15, owner="laptop")
        tables.claim(tx, submit(), resident=False)
        _run(tx, submit(labels={"team": "blue", "ü": "ß"}))
        _run(tx, submit(job_class=JobClass.INTERACTIVE, request=None))
        submit(job_class=JobClass.INTERACTIVE, request=None)
        first = outbox.take(tx.connection, "http://127.0.0.1:9/hook", NOW, _middle)
        assert first is not None
        outbox.record(tx.connection, first.id, Attempt(NOW, 0.2, 200, reply=b"ok"), NOW, _middle)


def _submit(tx: Transaction, ids: JobIds, **fields: object) -> JobRef:
    job: NewJob = new_job(ids.new(), **fields)
    return tables.submit(tx, job)


def _run(tx: Transaction, ref: JobRef) -> JobRef:
    return tables.start(tx, tables.claim(tx, ref, resident=False), load_s=1.5)


def _finish(tx: Transaction, ref: JobRef) -> None:
    result = Result(200, "application/json", ANSWER)
    artifact = describe(result, 1, inline=True)
    tables.finish(tx, ref, result=result, artifact=artifact, tokens_in=3, tokens_out=1)


def _middle(low: float, high: float) -> float:
    return (low + high) / 2


if __name__ == "__main__":
    main()
