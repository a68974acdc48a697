"""One attempt, and everything a target can do wrong in it, in virtual time."""

import pytest
import trio
from trio.testing import MockClock

from foreman.attempt import (
    Again,
    End,
    Fail,
    Finish,
    Outcome,
    SilenceLimits,
    Work,
    answers,
    attempt,
    settle,
)
from foreman.errors import TargetLost, TargetUnreachable
from foreman.jobs import FailureCode, JobClass, Requeue
from foreman.streams import Verdict
from foreman.wire import (
    Dialect,
    Request,
    ResponseEnd,
    ResponseFailed,
    ResponseHead,
    ResponsePart,
)
from tests.fakes.target import CHAT, DONE, JSON, TOKEN, FakeTarget, Says

LIMITS = SilenceLimits(load=300, first_byte=60, gap=20, job=3600)
LOAD = Request(b"POST", b"/api/chat", (), b'{"model":"m","messages":[]}')
ASK = Request(b"POST", b"/api/chat", (), b'{"model":"m","messages":[1]}')
STREAM = Work(ASK, Dialect.OLLAMA, True, None)
WITH_LOAD = Work(ASK, Dialect.OLLAMA, True, LOAD)
LOST = TargetLost("connection reset")


class Client:
    """What a waiting client was sent, and when; it takes `slow` seconds over each piece."""

    def __init__(self, slow: float = 0) -> None:
        self.parts: list[ResponsePart] = []
        self.loads: list[float | None] = []
        self.slow = slow

    async def __call__(self, part: ResponsePart) -> None:
        await trio.sleep(self.slow)
        self.parts.append(part)

    async def loaded(self, load_s: float | None) -> None:
        await trio.lowlevel.checkpoint()
        self.loads.append(load_s)

    @property
    def kinds(self) -> list[str]:
        return [type(part).__name__ for part in self.parts]


async def run(
    target: FakeTarget, work: Work = STREAM, client: Client | None = None
) -> tuple[Outcome, Client]:
    client = client or Client()
    return await attempt(target, work, client, LIMITS, client.loaded), client


@pytest.fixture
def target() -> FakeTarget:
    return FakeTarget()


async def test_an_answer_is_passed_on_piece_by_piece_and_judged(
    autojump_clock: MockClock, target: FakeTarget
) -> None:
    outcome, client = await run(target)
    assert client.kinds == ["ResponseHead", "bytes", "bytes", "ResponseEnd"]
    assert outcome == Outcome(End.DONE, verdict=Verdict(True, tokens_in=2, tokens_out=3))
    assert client.loads == [None]


async def test_a_load_goes_first_and_is_timed(
    autojump_clock: MockClock, target: FakeTarget
) -> None:
    target.load_s["m"] = 42
    outcome, client = await run(target, WITH_LOAD)
    assert outcome.end is End.DONE
    assert client.loads == [42]
    assert target.asked("load") == [0]
    assert target.asked("/api/chat") == [42]


@pytest.mark.parametrize("error", [LOST, TargetUnreachable("refused")])
async def test_a_target_that_goes_before_it_answers_is_lost_and_nothing_is_sent(
    autojump_clock: MockClock, target: FakeTarget, error: Exception
) -> None:
    target.plays("/api/chat", Says(before=[error]))
    outcome, client = await run(target)
    assert outcome.end is End.LOST
    assert client.parts == []


async def test_a_target_that_is_there_and_breaks_off_the_last_try_has_failed(
    autojump_clock: MockClock,
    target: FakeTarget,
) -> None:
    target.plays("/api/chat", Says(before=[LOST]))
    outcome, client = await run(target, Work(ASK, Dialect.OLLAMA, True, None, last_try=True))
    assert (outcome.end, outcome.code) == (End.FAILED, FailureCode.TRUNCATED)
    assert client.kinds == ["ResponseFailed"]


async def test_a_target_that_is_away_is_lost_even_on_the_last_try(
    autojump_clock: MockClock, target: FakeTarget
) -> None:
    target.plays("/api/version", Says(before=[TargetUnreachable("refused")]))
    target.plays("/api/chat", Says(before=[LOST]))
    outcome, _ = await run(target, Work(ASK, Dialect.OLLAMA, True, None, last_try=True))
    assert outcome.end is End.LOST


@pytest.mark.parametrize("pieces", [0, 1, 2])
async def test_a_stream_that_breaks_off_is_truncated(
    autojump_clock: MockClock, target: FakeTarget, pieces: int
) -> None:
    target.plays("/api/chat", Says([TOKEN] * pieces + [LOST]))
    outcome, client = await run(target)
    assert (outcome.end, outcome.code) == (End.FAILED, FailureCode.TRUNCATED)
    assert client.kinds == ["ResponseHead", *["bytes"] * pieces, "ResponseFailed"]


async def test_a_native_stream_without_done_ends_incomplete(
    autojump_clock: MockClock, target: FakeTarget
) -> None:
    target.plays("/api/chat", Says([TOKEN]))
    outcome, _ = await run(target)
    assert outcome.verdict is not None
    assert not outcome.verdict.complete


async def test_an_sse_stream_without_its_end_is_truncated_and_says_so(
    autojump_clock: MockClock, target: FakeTarget
) -> None:
    target.plays("/v1/messages", Says([b"data: {}\n\n"], content_type=b"text/event-stream"))
    work = Work(Request(b"POST", b"/v1/messages", (), b"{}"), Dialect.ANTHROPIC, True, None)
    outcome, client = await run(target, work)
    assert outcome.code is FailureCode.TRUNCATED
    assert client.kinds[-1] == "ResponseFailed"


@pytest.mark.parametrize("garbage", [b"\x00\xff\n", b"[]\n", b'{"done":\n', b"<html>\n"])
async def test_garbage_is_passed_on_and_judged_as_garbled(
    autojump_clock: MockClock, target: FakeTarget, garbage: bytes
) -> None:
    target.plays("/api/chat", Says([TOKEN, garbage, DONE]))
    outcome, client = await run(target)
    assert (outcome.end, outcome.code) == (End.FAILED, FailureCode.GARBLED)
    assert garbage in client.parts


async def test_an_error_line_in_a_stream_is_the_targets_error(
    autojump_clock: MockClock, target: FakeTarget
) -> None:
    target.plays("/api/chat", Says([TOKEN, b'{"error":"model runner has unexpectedly stopped"}\n']))
    outcome, client = await run(target)
    assert (outcome.code, outcome.text) == (
        FailureCode.TARGET_ERROR,
        "model runner has unexpectedly stopped",
    )
    assert isinstance(client.parts[-1], ResponseEnd)


@pytest.mark.parametrize("status", [400, 404, 413])
async def test_a_4xx_is_a_refusal_in_the_targets_own_words(
    autojump_clock: MockClock, target: FakeTarget, status: int
) -> None:
    target.plays("/api/chat", Says([b'{"error":"no"}'], status, JSON))
    outcome, client = await run(target)
    assert (outcome.end, outcome.text) == (End.REFUSED, "no")
    assert isinstance(client.parts[0], ResponseHead)
    assert client.parts[0].status == status


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(b"7", 7.0), (b"-1", None), (b"Wed, 21 Oct 2026 07:28:00 GMT", None), (b"9" * 12, None)],
)
@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_read_where_it_is_a_number(
    autojump_clock: MockClock, target: FakeTarget, status: int, header: bytes, seconds: float | None
) -> None:
    busy = Says([b'{"error":"busy"}'], status, JSON, headers=((b"retry-after", header),))
    target.plays("/api/chat", busy)
    outcome, _ = await run(target)
    assert (outcome.end, outcome.retry_after) == (End.FAILED, seconds)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_refused_and_never_followed(
    autojump_clock: MockClock, target: FakeTarget, status: int
) -> None:
    target.plays("/api/chat", Says([], status, headers=((b"location", b"http://10.0.0.1/"),)))
    outcome, client = await run(target)
    assert outcome.code is FailureCode.TARGET_ERROR
    assert client.parts == [ResponseFailed(502, outcome.text)]
    assert len(target.requests) == 1


async def test_a_load_that_fails_is_the_targets_error(
    autojump_clock: MockClock, target: FakeTarget
) -> None:
    target.plays("load", Says([b'{"error":"runner terminated"}'], 500, JSON))
    outcome, client = await run(target, WITH_LOAD)
    assert outcome.text == "runner terminated"
    assert client.parts == [ResponseFailed(500, "runner terminated")]
    assert target.asked("/api/chat") == []


async def test_a_load_that_is_refused_leaves_the_answer_to_the_request_itself(
    autojump_clock: MockClock,
    target: FakeTarget,
) -> None:
    target.plays("load", Says([b'{"error":"not found"}'], 404, JSON))
    target.plays("/api/chat", Says([b'{"error":"not found"}'], 404, JSON))
    outcome, client = await run(target, WITH_LOAD)
    assert outcome.end is End.REFUSED
    assert client.loads == [None]


# ---------------------------------------------------------------- silence


async def test_a_load_may_take_as_long_as_its_limit_and_no_longer(
    autojump_clock: MockClock, target: FakeTarget
) -> None:
    target.load_s["m"] = 301
    outcome, client = await run(target, WITH_LOAD)
    assert (outcome.code, trio.current_time()) == (FailureCode.LOAD_TIMEOUT, 300)
    assert client.kinds == ["ResponseFailed"]


async def test_a_target_that_accepts_and_never_answers_is_cut_at_the_first_byte_limit(
    autojump_clock: MockClock,
    target: FakeTarget,
) -> None:
    target.plays("/api/chat", Says(before=[10_000]))
    outcome, _ = await run(target)
    assert (outcome.code, trio.current_time()) == (FailureCode.FIRST_BYTE_TIMEOUT, 60)


async def test_an_unstreamed_answer_may_take_as_long_as_the_job(
    autojump_clock: MockClock, target: FakeTarget
) -> None:
    target.plays("/api/chat", Says([DONE], content_type=JSON, before=[600]))
    outcome, _ = await run(target, Work(ASK, Dialect.OLLAMA, False, None))
    assert (outcome.end, trio.current_time()) == (End.DONE, 600)


async def test_silence_after_the_first_token_is_cut_at_the_gap_limit(
    autojump_clock: MockClock, target: FakeTarget
) -> None:
    target.plays("/api/chat", Says([5, TOKEN, 10_000]))
    outcome, client = await run(target)
    assert (outcome.code, trio.current_time()) == (FailureCode.GAP_TIMEOUT, 25)
    assert isinstance(client.parts[-1], ResponseFailed)
    assert client.parts[-1].status == 504


async def test_a_drip_below_the_gap_limit_ends_with_the_jobs_limit(
    autojump_clock: MockClock, target: FakeTarget
) -> None:
    target.plays("/api/chat", Says([TOKEN, 19] * 1000))
    outcome, _ = await run(target)
    assert (outcome.code, trio.current_time()) == (FailureCode.JOB_TIMEOUT, 3600)


async def test_a_slow_reader_is_not_the_targets_silence(
    autojump_clock: MockClock, target: FakeTarget
) -> None:
    target.plays("/api/chat", Says([TOKEN, TOKEN, DONE]))
    outcome, _ = await run(target, client=Client(slow=100))
    assert outcome.end is End.DONE


async def test_a_silent_target_that_is_asleep_is_lost_and_not_the_jobs_fault(
    autojump_clock: MockClock,
    target: FakeTarget,
) -> None:
    target.plays("/api/chat", Says(before=[10_000]))
    target.plays("/api/version", Says(before=[10_000]))
    outcome, client = await run(target)
    assert (outcome.end, trio.current_time()) == (End.LOST, 65)
    assert client.parts == []


async def test_a_target_that_falls_asleep_in_a_stream_is_a_gap(
    autojump_clock: MockClock, target: FakeTarget
) -> None:
    target.plays("/api/chat", Says([TOKEN, 10_000]))
    target.plays("/api/version", Says(before=[10_000]))
    outcome, _ = await run(target)
    assert (outcome.code, trio.current_time()) == (FailureCode.GAP_TIMEOUT, 20)


async def test_a_probe_waits_five_seconds_for_an_answer(
    autojump_clock: MockClock, target: FakeTarget
) -> None:
    target.plays("/api/version", Says(before=[10_000]))
    assert not await answers(target)
    assert trio.current_time() == 5
    target.plays("/api/version", CHAT)
    assert await answers(target)


# ---------------------------------------------------------------- what it means

BATCH, CALL = JobClass.BATCH, JobClass.INTERACTIVE
FAILED = Outcome(End.FAILED, FailureCode.GARBLED, "?")


def test_a_lost_target_puts_any_job_back_without_a_charge() -> None:
    for job_class in JobClass:
        again = settle(Outcome(End.LOST, text="gone"), job_class, 3, 3)
        assert again == Again(Requeue.TARGET_LOST, 0.0, "gone")


def test_a_failure_is_tried_again_for_a_batch_job_only_and_a_refusal_for_none() -> None:
    refused = Outcome(End.REFUSED, FailureCode.TARGET_REFUSED, "no")
    assert settle(FAILED, CALL, 1, 3) == Fail(FailureCode.GARBLED, "?")
    assert settle(FAILED, BATCH, 1, 3) == Again(Requeue.RETRY, 2.0, "?")
    assert settle(refused, BATCH, 1, 3) == Fail(FailureCode.TARGET_REFUSED, "no")


def test_attempts_run_out_and_the_pauses_between_them_double_up_to_a_minute() -> None:
    pauses = [settle(FAILED, BATCH, n, 10) for n in range(1, 10)]
    assert [each.delay for each in pauses if isinstance(each, Again)] == [
        2, 4, 8, 16, 32, 60, 60, 60, 60,
    ]  # fmt: skip
    assert settle(FAILED, BATCH, 10, 10) == Fail(FailureCode.GARBLED, "?")


@pytest.mark.parametrize(("asked", "waits"), [(30.0, 30.0), (1.0, 2.0), (1e9, 600.0)])
def test_retry_after_is_a_floor_with_a_ceiling(asked: float, waits: float) -> None:
    outcome = Outcome(End.FAILED, FailureCode.TARGET_ERROR, "busy", retry_after=asked)
    assert settle(outcome, BATCH, 1, 3) == Again(Requeue.RETRY, waits, "busy")


def test_an_answer_that_never_said_done_is_finished_as_incomplete() -> None:
    verdict = Verdict(complete=False)
    assert settle(Outcome(End.DONE, verdict=verdict), BATCH, 1, 3) == Finish(verdict, True)
