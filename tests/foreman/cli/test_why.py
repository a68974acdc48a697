import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from foreman.cli.views import Failure, Job
from foreman.cli.why import RULES, explain
from foreman.jobs import JobClass, JobId, State
from foreman.queue_view import QueueView, RunningJob, WaitingLane
from foreman.scheduling import Rule
from tests.foreman.cli.scripted_jobs import JOB, job

NOW = datetime(2026, 5, 1, tzinfo=UTC)
MINE = Job(JOB, State.QUEUED, "batch", "mine:1", 1, NOW, fingerprint="mine:1", position=0)
CALL = msgspec.structs.replace(MINE, job_class="interactive")
EMPTY = QueueView(None, None, (), (), loads=0, fcfs_loads=0, target_away=False)


def lane(model: str, count: int = 1, kind: str = "batch", oldest: float = 60.0) -> WaitingLane:
    return WaitingLane(model, model, JobClass(kind), count, oldest)


def running(
    model: str, kind: str = "batch", seconds: float = 5.0, rule: Rule = Rule.BATCH
) -> RunningJob:
    return RunningJob(JobId("01RUN"), model, model, JobClass(kind), State.WORKING, seconds, rule)


@dataclass(frozen=True)
class Case:
    """A queue, and what must and must not be said of MINE in it."""

    name: str
    rule: int | None
    reasons: tuple[str, ...] = ()
    helps: tuple[str, ...] = ()
    not_said: tuple[str, ...] = ()
    lanes: tuple[WaitingLane, ...] = (lane("mine:1"),)
    resident: str | None = None
    running: RunningJob | None = None
    away: bool = False
    job: Job = MINE

    @property
    def queue(self) -> QueueView:
        return QueueView(self.running, self.resident, self.lanes, (), 0, 0, self.away)


def placed(position: int, **fields: Any) -> Job:
    return msgspec.structs.replace(MINE, position=position, **fields)


CASES = [
    Case("it is next", None, ("It is next",), not_said=("Ahead",)),
    Case(
        "the target is away",
        None,
        ("The target is away",),
        ("The target's return",),
        not_said=("It is next",),
        away=True,
    ),
    Case(
        "the slot is taken, and nobody else waits",
        None,
        ("The slot is taken: other:1 has been working for 5.0s (batch job 01RUN)",),
        ("foreman cancel 01RUN",),
        not_said=("Ahead", "of its own lane"),
        running=running("other:1"),
        job=placed(1),
    ),
    Case(
        "the job that runs is not one of its own lane",
        None,
        ("The slot is taken",),
        not_said=("of its own lane", "A higher priority"),
        lanes=(lane("mine:1", 3),),
        running=running("other:1"),
        job=placed(1),
    ),
    Case(
        "others of its own lane came first",
        None,
        ("2 jobs of its own lane",),
        ("A higher priority",),
        not_said=("FOREMAN_MAX_WAIT",),
        lanes=(lane("mine:1", 3),),
        running=running("mine:1"),
        job=placed(3),
    ),
    Case(
        "clients' calls come before batch",
        3,
        ("Ahead are 2 clients' calls for other:1",),
        ("FOREMAN_MAX_WAIT", "its oldest job waits 1m00s"),
        lanes=(lane("other:1", 2, "interactive"), lane("mine:1")),
        running=running("other:1", "interactive"),
        job=placed(3),
    ),
    Case(
        "the loaded model's batch is drained first",
        5,
        ("Ahead are 120 batch jobs for other:1", "One job of its own lane"),
        ("mine:1 being loaded", "A higher priority"),
        lanes=(lane("other:1", 120), lane("mine:1", 2)),
        resident="other:1",
        running=running("other:1"),
        job=placed(122),
    ),
    Case(
        "the loaded model is kept for its client",
        4,
        ("Nothing runs: other:1 stays loaded a moment",),
        not_said=("It is next",),
        resident="other:1",
    ),
    Case(
        "a batch job started while a call waited: its lane was overdue",
        2,
        ("The slot is taken",),
        lanes=(lane("mine:1", 1, "interactive", 60.0),),
        running=running("other:1", "batch", 5.0, Rule.OVERDUE),
        job=msgspec.structs.replace(CALL, position=1),
    ),
    Case(
        "its turn goes on for as long as its load took",
        1,
        ("The slot is taken",),
        lanes=(lane("mine:1", 1, "interactive", 60.0),),
        running=running("other:1", "batch", 5.0, Rule.HOLD),
        job=msgspec.structs.replace(CALL, position=1),
    ),
    Case(
        "a batch job that ran before the call came is no rule's doing",
        None,
        lanes=(lane("mine:1", 1, "interactive", 4.0),),
        running=running("other:1", "batch", 5.0),
        job=msgspec.structs.replace(CALL, position=1),
    ),
    Case(
        "the same model with other options is another load",
        5,
        (),
        ("The same runner options",),
        lanes=(lane("mine:1"), lane('mine:1 {"num_ctx":8192}')),
        resident="mine:1",
        job=placed(1, fingerprint='mine:1 {"num_ctx":8192}'),
    ),
    Case(
        "it waits out a pause after the target was lost",
        None,
        ("It may not start for another 12s. The target was unreachable",),
        job=placed(0, not_before=NOW + timedelta(seconds=12), reason="target_lost"),
    ),
    Case(
        "it will expire",
        None,
        (),
        ("not started in 5m00s, it fails",),
        job=placed(0, expires_at=NOW + timedelta(minutes=5)),
    ),
    Case("the queue is a moment older than the job", None, not_said=("Ahead",), lanes=()),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_queued_job_is_told(case: Case) -> None:
    why = explain(case.job, case.queue, NOW)
    said = "\n".join((*why.waits_for, *why.helps))
    assert why.rule == case.rule
    assert all(any(part in text for text in why.waits_for) for part in case.reasons), said
    assert all(any(part in text for text in why.helps) for part in case.helps), said
    assert not any(part in said for part in case.not_said), said


def test_a_job_that_has_the_slot_or_has_ended_waits_for_nothing() -> None:
    loading = msgspec.structs.replace(MINE, state=State.LOADING)
    queue = msgspec.structs.replace(EMPTY, running=running("mine:1"))
    assert "It has the slot" in explain(loading, queue, NOW).waits_for[0]
    done = msgspec.structs.replace(MINE, state=State.DONE)
    assert "It has ended well" in explain(done, queue, NOW).waits_for[0]
    error = Failure("expired", "too late")
    failed = msgspec.structs.replace(MINE, state=State.FAILED, error=error)
    assert explain(failed, queue, NOW).waits_for == (
        "expired: too late",
        "It was not started in the time it was given.",
    )
    newer = msgspec.structs.replace(failed, error=Failure("unheard_of"))
    assert explain(newer, queue, NOW).waits_for == ("unheard_of",)


def test_the_command_tells_people_and_programs(foreman: Any, daemon: Any) -> None:
    daemon.says(f"/jobs/{JOB}", job(model="mine:1", fingerprint="mine:1", position=3))
    view = QueueView(
        running("other:1"), "other:1", (lane("other:1", 2), lane("mine:1")), (), 0, 0, False
    )
    daemon.answers["/queue"] = (200, msgspec.json.encode(view))
    ran = foreman("why", JOB)
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.startswith(f"job      {JOB}, queued\nbecause  The slot is taken")
    assert f"\nrule     5. {RULES[5]}\n" in ran.out
    document = json.loads(foreman("why", JOB, "--json").out)
    assert document["rule"] == 5
    assert len(document["waits_for"]) == 2
