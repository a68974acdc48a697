"""Everything that must hold of a database after a kill, read as anybody could read it.

No code of the program is used: not its SQL, not its checksums, not its states.
"""

import hashlib
import itertools
import json
import sqlite3
import zlib
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

import msgspec

NEXT = {
    "": {"queued"},
    "queued": {"loading", "failed"},
    "loading": {"working", "queued", "failed"},
    "working": {"done", "queued", "failed"},
    "done": set[str](),
    "failed": set[str](),
}
LIVE = ("queued", "loading", "working")
ENDED = ("done", "failed")
CRASHES = 3  # deaths of the daemon under one job after which it is given up

Promise = tuple[str, int, str]
"""A job, the number of one of its transitions, and the state it led to."""

Row = sqlite3.Row


class Snapshot:
    """The tables as they stand in a folder whose daemon is dead or stopped."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        database = folder / "foreman.db"
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            [(self.integrity,)] = connection.execute("PRAGMA integrity_check").fetchall()

            def rows(table: str, order: str = "1") -> list[Row]:
                return connection.execute(f"SELECT * FROM {table} ORDER BY {order}").fetchall()

            self.events = rows("events")
            self.jobs = rows("jobs")
            self.lanes = rows("lanes")
            self.artifacts = rows("artifacts")
            self.outbox = rows("outbox", "seq")
            self._beside = [*rows("requests"), *rows("results"), *self.outbox]
            self.strays = connection.execute("PRAGMA foreign_key_check").fetchall()
            self.bodies = {row["job"] for row in rows("requests")}
            self.results = {row["job"] for row in rows("results")}
            [self.store] = rows("store")

    def check(self, promises: Iterable[Promise] = ()) -> None:
        """Raises AssertionError unless all of it is sound and every promise is kept."""
        assert self.integrity == "ok"
        assert self.strays == []
        for row in (*self.events, *self.jobs, *self.artifacts, *self._beside):
            *values, found = row
            assert zlib.crc32(msgspec.msgpack.encode(values)) == found
        assert [event["seq"] for event in self.events] == list(range(1, self.store["seq"] + 1))
        for job in self.jobs:
            self._check_job(job)
        written = {(event["job"], event["n"], event["state"]) for event in self.events}
        assert written.issuperset(promises)
        self._check_totals()
        self._check_results()

    def files(self) -> set[Path]:
        """The artifacts' files that the rows speak of."""
        return {self._file(row) for row in self.artifacts if not row["inline"]}

    def _file(self, row: Row) -> Path:
        job: str = row["job"]
        return self._folder / "artifacts" / job[-2:] / f"{job}.{row['attempt']}"

    def _check_job(self, job: Row) -> None:
        log = list(self._log(job["id"]))
        assert [event["n"] for event in log] == list(range(1, job["version"] + 1))
        assert [event["previous_seq"] for event in log] == [0, *(e["seq"] for e in log[:-1])]
        assert (log[-1]["state"], log[-1]["seq"]) == (job["state"], job["last_seq"])
        for before, after in itertools.pairwise(["", *(event["state"] for event in log)]):
            assert after in NEXT[before]
        reasons = [json.loads(event["detail"]).get("reason") for event in log]
        looped = job["error_code"] == "crash_loop"
        assert job["crashes"] == reasons.count("restart") + looped
        assert looped == (job["crashes"] == CRASHES)
        assert job["attempt"] == 1 + reasons.count("retry")  # nothing else is charged
        self._check_outbox(job, log)

    def _log(self, job: str) -> Sequence[Row]:
        if not hasattr(self, "_logs"):
            self._logs: dict[str, list[Row]] = {row["id"]: [] for row in self.jobs}
            for event in self.events:
                self._logs[event["job"]].append(event)
        return self._logs[job]

    def _check_outbox(self, job: Row, log: Sequence[Row]) -> None:
        """One message for each transition that the job wants told, with the transition."""
        wanted = json.loads(job["webhook"])["events"] if job["webhook"] else []
        sent = [row["seq"] for row in self.outbox if row["job"] == job["id"]]
        assert sent == [event["seq"] for event in log if f"job.{event['state']}" in wanted]

    def _check_totals(self) -> None:
        waits = [
            j["model_key"] for j in self.jobs if (j["state"], j["class"]) == ("queued", "batch")
        ]
        assert {lane["model_key"]: lane["queued"] for lane in self.lanes} == {
            model: waits.count(model) for model in waits
        }
        assert self.store["queued"] == len(waits)

    def _check_results(self) -> None:
        """No row without its bytes, no bytes without their job."""
        assert self.bodies == {job["id"] for job in self.jobs if job["class"] == "batch"}
        done = {job["id"] for job in self.jobs if job["state"] == "done"}
        in_files = {row["job"] for row in self.artifacts if not row["inline"]}
        assert done & self.bodies <= self.results | in_files <= done
        assert not self.results & in_files
        assert in_files <= done
        for row in self.artifacts:
            if not row["inline"]:
                body = self._file(row).read_bytes()
                assert (len(body), hashlib.sha256(body).digest()) == (row["size"], row["sha256"])
