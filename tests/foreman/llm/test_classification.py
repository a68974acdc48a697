"""The table of features 3.4, row by row."""

import pytest

from foreman.breaker import Verdict
from foreman.llm import CallError, StreamBroken, TimedOut, Unreachable
from foreman.llm.classification import TABLE, Advance, Retry, classify
from foreman.llm.errors import InvalidResponse, ServerError, from_status

YES, NO = Retry.YES, Retry.NO
COUNTS, NEUTRAL, ALIVE = Verdict.FAILED, Verdict.UNDECIDED, Verdict.ALIVE


@pytest.mark.parametrize(
    ("error", "retry", "advance", "verdict"),
    [
        (Unreachable("refused"), YES, Advance.YES, COUNTS),
        (TimedOut("no first byte"), NO, Advance.YES, COUNTS),
        (from_status(500, ""), YES, Advance.YES, COUNTS),
        (from_status(502, ""), YES, Advance.YES, COUNTS),
        (from_status(503, ""), YES, Advance.YES, COUNTS),
        (from_status(504, ""), YES, Advance.YES, COUNTS),
        (from_status(529, ""), YES, Advance.YES, COUNTS),
        (from_status(507, ""), YES, Advance.YES, COUNTS),
        (from_status(501, ""), NO, Advance.YES, NEUTRAL),
        (from_status(429, ""), Retry.AFTER, Advance.YES, NEUTRAL),
        (from_status(401, ""), NO, Advance.PERMITTED, NEUTRAL),
        (from_status(403, ""), NO, Advance.PERMITTED, NEUTRAL),
        (from_status(404, ""), NO, Advance.YES, NEUTRAL),
        (from_status(400, ""), NO, Advance.PERMITTED, ALIVE),
        (from_status(422, ""), NO, Advance.PERMITTED, ALIVE),
        (from_status(413, ""), NO, Advance.LARGER, NEUTRAL),
        (InvalidResponse("bad JSON"), YES, Advance.YES, COUNTS),
        (StreamBroken("before its first event"), YES, Advance.YES, COUNTS),
    ],
)
def test_a_row(error: CallError, retry: Retry, advance: Advance, verdict: Verdict) -> None:
    row = classify(error)

    assert (row.retry, row.advance, row.verdict) == (retry, advance, verdict)


@pytest.mark.parametrize("kind", list(TABLE))
def test_once_an_answer_has_begun_nothing_is_tried_and_the_failure_counts(
    kind: type[CallError],
) -> None:
    row = classify(kind("broke"), True)

    assert (row.retry, row.advance, row.verdict) == (NO, Advance.NO, COUNTS)


def test_only_a_rate_limit_lets_the_target_rest() -> None:
    resting = [kind.__name__ for kind, row in TABLE.items() if row.rest]

    assert resting == ["RateLimited"]


def test_every_call_error_has_a_row() -> None:
    assert set(CallError.__subclasses__()) == set(TABLE)


def test_an_error_of_ones_own_takes_after_the_class_it_refines() -> None:
    class Overloaded(ServerError):
        pass

    assert classify(Overloaded("529")) == TABLE[ServerError]
    assert classify(CallError("who knows")).retry is YES
