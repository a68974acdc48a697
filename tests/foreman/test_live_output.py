"""The running job's output: followed by anybody, waiting for nobody, gone when it is over."""

import gc
import weakref
from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from foreman.jobs import JobId, State
from foreman.live_output import BLOCK, Abandoned, LiveOutput, LiveOutputs, RunId, run_of
from tests.fakes.jobs import job_row

JOB, OTHER = JobId("01J0000000000000000000000A"), JobId("01J0000000000000000000000B")
FIRST = RunId(1, 2)


@dataclass
class Reader:
    """Somebody who follows an output from its start."""

    output: LiveOutput
    pieces: list[bytes] = field(default_factory=list[bytes])
    end: str = "none yet"

    async def follow(self) -> None:
        seen = 0
        try:
            with trio.fail_after(5):
                while piece := await self.output.more(seen):
                    self.pieces.append(piece)
                    seen += len(piece)
            self.end = "complete"
        except Abandoned:
            self.end = "abandoned"


def begun() -> LiveOutput:
    output = LiveOutput(JOB, FIRST)
    output.begin("application/x-ndjson")
    return output


async def test_every_reader_gets_every_byte_whenever_it_came() -> None:
    output = begun()
    early, late = Reader(output), Reader(output)
    async with trio.open_nursery() as readers:
        readers.start_soon(early.follow)
        for piece in (b"one", b"two"):
            await wait_all_tasks_blocked()
            output.append(piece)
        readers.start_soon(late.follow)
        await wait_all_tasks_blocked()
        output.append(b"three")
        output.end(complete=True)
    assert early.pieces == [b"one", b"two", b"three"]
    assert late.pieces == [b"onetwo", b"three"]
    assert early.end == late.end == "complete"


async def test_a_reader_that_lags_gets_what_it_missed_in_blocks() -> None:
    output, body = begun(), bytes(range(256)) * 2500
    output.append(body)
    output.end(complete=True)
    reader = Reader(output)
    await reader.follow()
    assert b"".join(reader.pieces) == body == output.body()
    assert max(map(len, reader.pieces)) == BLOCK


async def test_what_came_before_a_run_broke_off_can_still_be_read() -> None:
    output = begun()
    reader = Reader(output)
    output.append(b"half")
    output.end(complete=False)
    await reader.follow()
    assert (reader.pieces, reader.end) == ([b"half"], "abandoned")


async def test_the_first_end_stands() -> None:
    output = begun()
    output.end(complete=True)
    output.end(complete=False)
    assert await output.more(0) == b""


async def test_a_reader_that_waits_for_the_first_byte_learns_of_the_end() -> None:
    outputs = LiveOutputs()
    reader = Reader(outputs.begin(JOB, FIRST))
    async with trio.open_nursery() as readers:
        readers.start_soon(reader.follow)
        await wait_all_tasks_blocked()
        outputs.end(reader.output, complete=False)
    assert reader.end == "abandoned"


def test_only_the_run_that_goes_on_is_found() -> None:
    outputs = LiveOutputs()
    assert outputs.of(JOB, FIRST) is None
    first = outputs.begin(JOB, FIRST)
    assert outputs.of(JOB, FIRST) is first
    assert outputs.of(JOB, RunId(1, 5)) is outputs.of(OTHER, FIRST) is None
    second = outputs.begin(OTHER, FIRST)
    outputs.end(first, complete=False)
    assert outputs.of(OTHER, FIRST) is second
    outputs.end(second, complete=True)
    assert outputs.of(OTHER, FIRST) is None


async def test_the_next_job_takes_nothing_from_those_who_still_read_the_last() -> None:
    outputs = LiveOutputs()
    output = outputs.begin(JOB, FIRST)
    output.begin("application/json")
    output.append(b"all of it")
    outputs.end(output, complete=True)
    outputs.begin(OTHER, FIRST).append(b"something else")
    reader = Reader(output)
    await reader.follow()
    assert reader.pieces == [b"all of it"]


def test_an_output_that_nobody_reads_any_more_takes_no_memory() -> None:
    outputs = LiveOutputs()
    output = outputs.begin(JOB, FIRST)
    outputs.end(output, complete=True)
    ghost = weakref.ref(output)
    del output
    gc.collect()
    assert ghost() is None


async def test_a_stop_lets_go_of_every_reader_and_takes_no_new_one() -> None:
    outputs = LiveOutputs()
    output = outputs.begin(JOB, FIRST)
    readers = [Reader(output) for _ in range(3)]
    async with trio.open_nursery() as nursery:
        for reader in readers:
            nursery.start_soon(reader.follow)
        await wait_all_tasks_blocked()
        outputs.close()
    assert outputs.of(JOB, FIRST) is None
    late = Reader(outputs.begin(OTHER, FIRST))
    await late.follow()
    assert [reader.end for reader in (*readers, late)] == ["abandoned"] * 4


@pytest.mark.parametrize(
    ("state", "version"),
    [(State.QUEUED, 4), (State.LOADING, 5), (State.WORKING, 6), (State.DONE, 7)],
)
def test_a_run_has_the_same_name_from_its_claim_to_its_end(state: State, version: int) -> None:
    assert run_of(job_row(state=state, version=version, attempt=2)) == RunId(2, 5)


@pytest.mark.parametrize(
    ("text", "meant"), [("2", True), ("2.5", True), ("2.4", False), ("1", False), ("5", False)]
)
def test_a_reader_may_mean_any_run_of_an_attempt_or_exactly_one(text: str, meant: bool) -> None:
    assert RunId(2, 5).is_meant_by(text) is meant
