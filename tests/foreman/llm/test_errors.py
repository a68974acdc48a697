import pytest

from foreman.errors import ForemanError
from foreman.llm import (
    Attempt,
    CallError,
    ContextTooLong,
    DeadlinePassed,
    Exhausted,
    InvalidRequest,
    InvalidResponse,
    LLMError,
    ModelNotFound,
    RateLimited,
    ServerError,
    Skip,
    SkipReason,
    TimedOut,
    Unauthorized,
    Unsupported,
)
from foreman.llm.errors import LONGEST, Code, from_status, redact


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, InvalidRequest, Code.INVALID_REQUEST),
        (401, Unauthorized, Code.AUTHENTICATION_FAILED),
        (402, InvalidRequest, Code.INVALID_REQUEST),
        (403, Unauthorized, Code.AUTHENTICATION_FAILED),
        (404, ModelNotFound, Code.MODEL_NOT_FOUND),
        (408, TimedOut, Code.PROVIDER_TIMEOUT),
        (413, ContextTooLong, Code.CONTEXT_TOO_LONG),
        (422, InvalidRequest, Code.INVALID_REQUEST),
        (429, RateLimited, Code.RATE_LIMITED),
        (500, ServerError, Code.UPSTREAM_ERROR),
        (501, Unsupported, Code.UPSTREAM_ERROR),
        (502, ServerError, Code.UPSTREAM_ERROR),
        (503, ServerError, Code.UPSTREAM_ERROR),
        (504, ServerError, Code.UPSTREAM_ERROR),
        (529, ServerError, Code.UPSTREAM_ERROR),
        (302, InvalidResponse, Code.INVALID_RESPONSE),
    ],
)
def test_each_status_has_its_error(status: int, kind: type[CallError], code: Code) -> None:
    error = from_status(status, "no", target="box/m", retry_after=7.0)

    assert type(error) is kind
    assert error.code is code
    assert (error.status, error.target, error.retry_after) == (status, "box/m", 7.0)
    assert str(error) == "box/m: no"


def test_a_status_without_words_is_its_own_reason() -> None:
    assert from_status(503, "").reason == "status 503"


def test_all_are_foremans_errors() -> None:
    assert issubclass(LLMError, ForemanError)


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("http://tok%2Fen@box/api is down", "http://box/api is down"),
        ("https://user:secret@box", "https://box"),
        ("Authorization: Bearer abc.def-1", "Authorization: Bearer [REDACTED]"),
        ("x-api-key: secret", "x-api-key: [REDACTED]"),
        ("Incorrect API key: sk-ant-abc***xyz.", "Incorrect API key: sk-[REDACTED]."),
        ("GET /v1?api_key=secret&x=1", "GET /v1?api_key=[REDACTED]&x=1"),
        ("a task-force of 3 tokens", "a task-force of 3 tokens"),
    ],
)
def test_secrets_that_a_target_repeats_do_not_get_into_errors(told: str, shown: str) -> None:
    assert CallError(told).reason == shown
    assert str(CallError(told, target="box/m")) == f"box/m: {shown}"


def test_a_long_reason_is_cut() -> None:
    assert len(redact("x" * 10_000)) == LONGEST + 3


HISTORY = (
    Skip("a/m", SkipReason.COOLING_DOWN, retry_in=12.0),
    Attempt("b/m", ServerError("overloaded", target="b/m"), 0.25),
    Attempt("b/m", RateLimited("slow down", target="b/m", retry_after=5.0), 1.0),
    Skip("c/m", SkipReason.INCAPABLE, detail="tools"),
)


def test_exhaustion_lists_every_attempt_and_every_skip_in_order() -> None:
    assert str(Exhausted(HISTORY)).splitlines() == [
        "no target answered:",
        "  a/m: skipped, cooling down, again in 12 s",
        "  b/m: overloaded (after 0.25 s)",
        "  b/m: slow down (after 1 s)",
        "  c/m: skipped, lacks what the request needs: tools",
    ]


def test_it_can_be_asked_for_both() -> None:
    error = Exhausted(HISTORY)

    assert [step.target for step in error.attempts] == ["b/m", "b/m"]
    assert [step.target for step in error.skips] == ["a/m", "c/m"]
    assert error.history == HISTORY


def test_it_says_when_the_first_target_may_be_called_again() -> None:
    assert Exhausted(HISTORY).retry_after == 5.0
    assert Exhausted(HISTORY[:1]).retry_after == 12.0
    assert Exhausted(HISTORY[3:]).retry_after is None


def test_without_candidates_it_says_so() -> None:
    assert str(Exhausted(())) == "no target answered:\n  there was none to call"


def test_time_that_ran_out_is_an_exhaustion_with_a_code_of_its_own() -> None:
    error = DeadlinePassed(HISTORY[1:2])

    assert isinstance(error, Exhausted)
    assert error.code is Code.PROVIDER_TIMEOUT
    assert "in time" in str(error)
    assert len(error.attempts) == 1


def test_an_error_of_one_call_has_no_history_until_a_chain_gives_it_one() -> None:
    error = Unauthorized("no")
    assert error.history == ()

    error.history = HISTORY

    assert len(error.attempts) == 2
    assert LLMError.history == ()
