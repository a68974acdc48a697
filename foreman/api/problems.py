"""What foreman's own API says when it cannot do what was asked: RFC 9457, problem details."""

from collections.abc import Sequence
from http.client import responses

import msgspec

from foreman.errors import ForemanError, KeyReused, NoReply, QueueFull, StoreBusy, StoreFull

PROBLEM_TYPE = "application/problem+json"


class ProblemView(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of a problem."""

    type: str
    title: str
    status: int
    detail: str
    code: str | None = None
    field: str | None = None


class Problem(Exception):
    """An answer of `status`; `code` is for programs, `detail` for people.

    `field` is a JSON pointer into the body, or the name of a parameter.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        field: str | None = None,
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.field = field
        self.headers = tuple(headers)

    def view(self) -> ProblemView:
        """What is sent, before it is encoded."""
        return problem_view(self.status, self.detail, code=self.code, field=self.field)

    def body(self) -> bytes:
        """What is sent."""
        return msgspec.json.encode(self.view())


def problem_view(
    status: int, detail: str, *, code: str | None = None, field: str | None = None
) -> ProblemView:
    """A problem of no further type than its status."""
    return ProblemView("about:blank", responses.get(status, "Error"), status, detail, code, field)


_OF_THE_STORE: dict[type[ForemanError], tuple[int, str, int | None]] = {
    KeyReused: (422, "idempotency_mismatch", None),
    QueueFull: (429, "queue_full", 30),
    StoreFull: (507, "disk_full", None),
    StoreBusy: (503, "store_busy", 5),
    NoReply: (503, "dropped", 1),
}
"""Status, code, and after how many seconds to try again."""


def store_problem(error: ForemanError) -> Problem:
    """What to answer when the store, or an actor before it, would not do it."""
    status, code, again = _OF_THE_STORE.get(type(error), (500, "store_error", None))
    text = str(error) or "the request was dropped, please try again"
    return Problem(
        status, code, text, headers=() if again is None else [("retry-after", str(again))]
    )
