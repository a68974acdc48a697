"""What follows from a failed call: whether it is tried again, where, and what health learns.

One table, row by row replaceable: a chain takes any `Classifier`.
"""

from collections.abc import Callable
from enum import StrEnum

import msgspec

from foreman.breaker import Verdict
from foreman.llm import errors
from foreman.llm.errors import CallError


class Retry(StrEnum):
    """Whether the same target is called again."""

    NO = "no"
    YES = "yes"
    AFTER = "after"  # once `retry_after` is over, if that fits the deadline; else not


class Advance(StrEnum):
    """Whether the next candidate is called."""

    NO = "no"
    YES = "yes"
    PERMITTED = "permitted"  # only under the chain's advance_on_permanent
    LARGER = "larger"  # only to a model with a larger window


class Treatment(msgspec.Struct, frozen=True):
    """One row of the table."""

    retry: Retry
    advance: Advance
    verdict: Verdict
    """What the breaker hears. UNDECIDED counts nothing and leaves a probe open."""
    rest: bool = False
    """The target is let alone for `retry_after` seconds at least, without a failure counted."""


Classifier = Callable[[CallError, bool], Treatment]
"""Takes the error, and whether an event of the answer had been passed on to the caller."""

TRANSIENT = Treatment(Retry.YES, Advance.YES, Verdict.FAILED)
SPENT = Treatment(Retry.NO, Advance.YES, Verdict.FAILED)
ELSEWHERE = Treatment(Retry.NO, Advance.YES, Verdict.UNDECIDED)
LIMITED = Treatment(Retry.AFTER, Advance.YES, Verdict.UNDECIDED, rest=True)
LOCKED_OUT = Treatment(Retry.NO, Advance.PERMITTED, Verdict.UNDECIDED)
REFUSED = Treatment(Retry.NO, Advance.PERMITTED, Verdict.ALIVE)
TOO_LONG = Treatment(Retry.NO, Advance.LARGER, Verdict.UNDECIDED)
BEGUN = Treatment(Retry.NO, Advance.NO, Verdict.FAILED)

TABLE: dict[type[CallError], Treatment] = {
    errors.Unreachable: TRANSIENT,
    errors.TimedOut: SPENT,
    errors.ServerError: TRANSIENT,
    errors.Unsupported: ELSEWHERE,
    errors.RateLimited: LIMITED,
    errors.Unauthorized: LOCKED_OUT,
    errors.ModelNotFound: ELSEWHERE,
    errors.InvalidRequest: REFUSED,
    errors.ContextTooLong: TOO_LONG,
    errors.InvalidResponse: TRANSIENT,
    errors.StreamBroken: TRANSIENT,  # before its first event; after it, see BEGUN
}


def classify(error: CallError, begun: bool = False) -> Treatment:
    """The default: the table, by the nearest class; once an answer has begun, nothing is tried.

    >>> classify(errors.ModelNotFound("no such model")).advance
    <Advance.YES: 'yes'>
    >>> classify(errors.ServerError("overloaded"), True).advance
    <Advance.NO: 'no'>
    """
    if begun:
        return BEGUN
    kinds = (TABLE.get(kind) for kind in type(error).__mro__)
    return next((row for row in kinds if row is not None), TRANSIENT)
