"""What a client raises.

ForemanError
  ClientError
    Unreachable    no daemon answers at that URL, or the connection broke
    Refused        it answered, but not with what was asked for; `status`, `code`, `field` say why
    JobFailed      the job has ended as `failed`; `code` and `message` are its error
    WaitTimeout    the job had not ended in the time the caller gave
    Resync         the events asked for are no longer, or not yet, in the log
    Damaged        what came is not what the daemon says it keeps
"""

from typing import TYPE_CHECKING, Literal

from foreman.errors import ForemanError

if TYPE_CHECKING:
    from foreman.client.values import Job


class ClientError(ForemanError):
    """Base of what a client raises, but for ConfigError from its settings."""


class Unreachable(ClientError):
    """No (more) answer. `sent`: whether the request may have arrived."""

    def __init__(self, url: str, reason: str, *, sent: bool) -> None:
        super().__init__(f"no answer from {url}: {reason}")
        self.url = url
        self.sent = sent


class Refused(ClientError):
    """An answer that is not a success.

    `status` is HTTP's, `code` a short name to branch on ("" where the daemon gave none), `field`
    a JSON pointer to the part of the request that is wrong, `retry_after` in seconds.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        code: str = "",
        field: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{field}: {detail}" if field else detail)
        self.status = status
        self.detail = detail
        self.code = code
        self.field = field
        self.retry_after = retry_after

    @property
    def for_now(self) -> bool:
        """Whether the same request may be granted later: the queue is full, the daemon is busy."""
        return self.status in (429, 503)


class JobFailed(ClientError):
    """`job` will not be tried again. `code` is one of docs/reference/job-states.md."""

    def __init__(self, job: "Job") -> None:
        self.code = job.error.code if job.error else "failed"
        self.message = (job.error.message if job.error else None) or ""
        super().__init__(f"job {job.id} failed: {self.code}: {self.message}".removesuffix(": "))
        self.job = job


class WaitTimeout(ClientError):
    """`job`, as it stood when `timeout` seconds were over. It goes on."""

    def __init__(self, job: "Job", timeout: float) -> None:
        super().__init__(f"job {job.id} is still {job.state} after {timeout:g} s")
        self.job = job
        self.timeout = timeout


class Resync(ClientError):
    """The log cannot continue after `after`: look at the jobs, then watch after `last_seq`.

    `reason` is "expired" (retention has deleted what follows) or "ahead" (the log has never been
    there: another database). The log holds `first_seq` to `last_seq`.
    """

    def __init__(
        self, reason: Literal["ahead", "expired"], after: int, first_seq: int, last_seq: int
    ) -> None:
        super().__init__(
            f"the events after {after} are not there ({reason}): the log has {first_seq} "
            f"to {last_seq}"
        )
        self.reason = reason
        self.after = after
        self.first_seq = first_seq
        self.last_seq = last_seq


class Damaged(ClientError):
    """An answer that cannot be read, or bytes without the checksum they should have."""
