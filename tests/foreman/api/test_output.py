"""A job's output, record by record: from the disk, along with the worker, after a break."""

from pathlib import Path

import msgspec
import pytest
from trio.testing import wait_all_tasks_blocked

from foreman.jobs import JobClass, JobId, Requeue
from foreman.live_output import BLOCK, LiveOutput, RunId
from tests.fakes.desk import Heard, ReadingDesk

NDJSON = "application/x-ndjson"
LINES = [b'{"n":%d}' % number for number in range(5)]
BODY = b"".join(line + b"\n" for line in LINES)
FIRST, SECOND = RunId(1, 2), RunId(1, 5)


@pytest.fixture
def desk(tmp_path: Path) -> ReadingDesk:
    return ReadingDesk(tmp_path)


def output(job: JobId) -> str:
    return f"/jobs/{job}/output"


def code(heard: Heard) -> str:
    return str(msgspec.json.decode(heard.body)["code"])


def live(desk: ReadingDesk, job: JobId, run: RunId = FIRST) -> LiveOutput:
    begun = desk.live.begin(job, run)
    begun.begin(NDJSON)
    return begun


# ---------------------------------------------------------------- from the disk


@pytest.mark.parametrize("in_file", [False, True])
@pytest.mark.parametrize("start", [0, 1, 4, 5, 100])
async def test_a_finished_job_is_read_from_any_record(
    desk: ReadingDesk, in_file: bool, start: int
) -> None:
    job = desk.done(desk.working(), BODY, NDJSON, in_file=in_file)
    heard = await desk.get(output(job), query=f"from={start}")
    assert (heard.status, heard.lines, heard.whole) == (200, LINES[start:], True)
    assert heard.headers == {"content-type": NDJSON, "x-foreman-attempt": "1.2"}


async def test_events_and_single_objects_are_records_too(desk: ReadingDesk) -> None:
    events = b"".join(b"data: " + line + b"\n\n" for line in LINES) + b"data: [DONE]\n\n"
    job = desk.done(desk.working(), events, "text/event-stream")
    assert (await desk.get(output(job))).lines == LINES
    job = desk.done(desk.working(), b'{\n "a": 1\n}', "application/json")
    assert (await desk.get(output(job))).lines == [b'{"a":1}']


async def test_a_large_result_comes_in_pieces(desk: ReadingDesk) -> None:
    lines = [b'"%050d"' % number for number in range(20_000)]
    job = desk.done(desk.working(), b"\n".join(lines), NDJSON, in_file=True)
    heard = await desk.get(output(job), query="from=10")
    assert heard.lines == lines[10:]
    assert max(map(len, heard.pieces)) < 2 * BLOCK


async def test_an_empty_result_is_an_empty_stream(desk: ReadingDesk) -> None:
    job = desk.done(desk.working(), b"", "application/json")
    heard = await desk.get(output(job))
    assert (heard.status, heard.body, heard.whole) == (200, b"", True)


# ---------------------------------------------------------------- along with the worker


async def test_records_come_as_they_are_made(desk: ReadingDesk) -> None:
    ref = desk.working()
    running = live(desk, ref.id)
    async with desk.following(output(ref.id)) as heard:
        for number, line in enumerate(LINES, start=1):
            running.append(line[:3])
            await wait_all_tasks_blocked()
            assert heard.lines == LINES[: number - 1]
            running.append(line[3:] + b"\n")
            await wait_all_tasks_blocked()
            assert heard.lines == LINES[:number]
        assert not heard.whole
        desk.live.end(running, complete=True)
    assert heard.whole
    assert heard.headers["x-foreman-attempt"] == "1.2"


@pytest.mark.parametrize("start", range(6))
async def test_a_reader_who_comes_back_misses_nothing(desk: ReadingDesk, start: int) -> None:
    ref = desk.working()
    running = live(desk, ref.id)
    running.append(b"".join(line + b"\n" for line in LINES[:3]) + LINES[3][:2])
    async with desk.following(output(ref.id), f"from={start}&attempt=1.2") as heard:
        await wait_all_tasks_blocked()
        assert heard.lines == LINES[start:3]
        running.append(LINES[3][2:] + b"\n" + LINES[4])
        desk.live.end(running, complete=True)
    assert heard.lines == LINES[start:]
    assert heard.whole


async def test_a_reader_waits_while_the_job_does(desk: ReadingDesk) -> None:
    queued = desk.queued()
    async with desk.following(output(queued.id)) as heard:
        await wait_all_tasks_blocked()
        desk.queued()
        await wait_all_tasks_blocked()
        running = live(desk, queued.id)
        ref = desk.working(queued)
        await wait_all_tasks_blocked()
        assert heard.status == 0
        running.append(BODY)
        await wait_all_tasks_blocked()
        assert heard.lines == LINES
        desk.done(ref, BODY, NDJSON)
        desk.live.end(running, complete=True)
    assert heard.whole


async def test_who_comes_between_the_end_of_the_run_and_its_row_reads_the_row(
    desk: ReadingDesk,
) -> None:
    ref = desk.working()
    async with desk.following(output(ref.id)) as heard:
        await wait_all_tasks_blocked()
        assert heard.status == 0
        desk.done(ref, BODY, NDJSON)
    assert heard.lines == LINES


# ---------------------------------------------------------------- runs that come to nothing


@pytest.mark.parametrize("reason", Requeue)
async def test_a_run_that_breaks_off_cuts_its_readers(desk: ReadingDesk, reason: Requeue) -> None:
    ref = desk.working()
    running = live(desk, ref.id)
    async with desk.following(output(ref.id)) as heard:
        running.append(LINES[0] + b"\n")
        await wait_all_tasks_blocked()
        desk.lost(ref, reason)
        desk.live.end(running, complete=False)
    assert (heard.lines, heard.whole) == (LINES[:1], False)


async def test_a_run_that_breaks_off_before_its_first_record_costs_a_reader_nothing(
    desk: ReadingDesk,
) -> None:
    ref = desk.working()
    running = live(desk, ref.id)
    async with desk.following(output(ref.id)) as heard:
        await wait_all_tasks_blocked()
        queued = desk.lost(ref)
        desk.live.end(running, complete=False)
        await wait_all_tasks_blocked()
        again = live(desk, ref.id, SECOND)
        ref = desk.working(queued)
        again.append(BODY)
        await wait_all_tasks_blocked()
        desk.live.end(again, complete=True)
    assert (heard.lines, heard.whole) == (LINES, True)
    assert heard.headers["x-foreman-attempt"] == "1.5"


@pytest.mark.parametrize("run", ["1.2", "2", "1.6"])
async def test_the_records_of_two_runs_are_never_mixed(desk: ReadingDesk, run: str) -> None:
    """Invariant I11: a restart repeats the attempt under the same number, with other words."""
    ref = desk.working(desk.lost(desk.working()))
    running = live(desk, ref.id, SECOND)
    running.append(BODY)
    heard = await desk.get(output(ref.id), query=f"from=3&attempt={run}")
    assert (heard.status, code(heard)) == (409, "attempt_over")
    desk.done(ref, BODY, NDJSON)
    desk.live.end(running, complete=True)
    heard = await desk.get(output(ref.id), query=f"from=3&attempt={run}")
    assert (heard.status, code(heard)) == (409, "attempt_over")
    assert (await desk.get(output(ref.id), query="from=3&attempt=1.5")).lines == LINES[3:]
    assert (await desk.get(output(ref.id), query="from=3&attempt=1")).lines == LINES[3:]


async def test_a_reader_of_a_run_that_ended_while_he_waited_is_told(desk: ReadingDesk) -> None:
    ref = desk.working()
    running = live(desk, ref.id)
    async with desk.following(output(ref.id), "attempt=1.2") as heard:
        await wait_all_tasks_blocked()
        desk.lost(ref)
        desk.live.end(running, complete=False)
    assert (heard.status, code(heard)) == (409, "attempt_over")


async def test_a_failed_job_has_no_output_and_says_why(desk: ReadingDesk) -> None:
    ref = desk.working()
    running = live(desk, ref.id)
    async with desk.following(output(ref.id)) as late, desk.following(output(ref.id)) as early:
        running.append(LINES[0])  # not a whole line
        await wait_all_tasks_blocked()
        desk.failed(ref)
        desk.live.end(running, complete=False)
    for heard in (late, early, await desk.get(output(ref.id))):
        assert (heard.status, code(heard)) == (409, "job_failed")
        assert msgspec.json.decode(heard.body)["detail"] == "target_error: boom"


async def test_the_answer_to_a_waiting_client_is_not_kept(desk: ReadingDesk) -> None:
    ref = desk.working(job_class=JobClass.INTERACTIVE, request=None)
    heard = await desk.get(output(ref.id))
    assert (heard.status, code(heard)) == (404, "not_kept")


# ---------------------------------------------------------------- the daemon stops; bad questions


async def test_a_stop_ends_every_wait(desk: ReadingDesk) -> None:
    queued, ref = desk.queued(), desk.working()
    running = live(desk, ref.id)
    async with desk.following(output(queued.id)) as waits, desk.following(output(ref.id)) as reads:
        running.append(BODY)
        await wait_all_tasks_blocked()
        desk.tail.close()
        desk.live.close()
    assert (waits.status, code(waits)) == (503, "stopping")
    assert (reads.lines, reads.whole) == (LINES, False)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("from=-1", "from"),
        ("from=", "from"),
        ("from=1e3", "from"),
        ("from=\xb2", "from"),
        ("from=" + "9" * 19, "from"),
        ("attempt=x", "attempt"),
        ("attempt=1.", "attempt"),
        ("attempt=1.2.3", "attempt"),
        ("form=1", "form"),
    ],
)
async def test_a_bad_parameter_is_named(desk: ReadingDesk, query: str, field: str) -> None:
    job = desk.done(desk.working(), BODY, NDJSON)
    heard = await desk.get(output(job), query=query)
    assert heard.status == 400
    assert msgspec.json.decode(heard.body)["field"] == field


async def test_an_unknown_job_is_not_there(desk: ReadingDesk) -> None:
    assert (await desk.get(output(JobId("nobody")))).status == 404
