"""Every error foreman raises on purpose.

ForemanError
  ConfigError            a setting is wrong; the message names it and what would be right
  StoreError
    StoreRefused         the database or its folder cannot be used; nothing was touched
    BackupFailed         no backup could be made; the message says what to do
    StoreBusy            an outsider holds the write lock; try again
    StoreFull            the disk is full; nothing acknowledged was lost
    QueueFull            as many durable jobs wait as may
    KeyReused            an Idempotency-Key came again with another body
    StaleJob             the row is no longer in the state this writer left it in
  TargetError
    TargetUnreachable    no connection: asleep, down, wrong address
    TargetLost           the connection broke after the request had gone out
    TargetSilent         a silence limit ran out; `phase` says which
  Blocked                a webhook's address is refused; in foreman.netguard
  NoReply                an actor dropped a question: it crashed while holding it
  TooManyRestarts        a restart budget is spent; the process should end
"""

from pathlib import Path
from typing import Literal

Phase = Literal["load", "first_byte", "gap", "job"]


class ForemanError(Exception):
    """Base of all of them, for a caller that wants any."""


class ConfigError(ForemanError):
    """A setting is wrong. The text names the key, what was wrong and what would be right."""


class StoreError(ForemanError):
    """Something about the database."""


class StoreRefused(StoreError):
    """The database cannot be used as it is; nothing was written. `path` is the culprit."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class BackupFailed(StoreError):
    """No copy of the database was made, or it is not good enough to count as one."""


class StoreBusy(StoreError):
    """Another process holds the database's write lock."""


class StoreFull(StoreError):
    """No room on the disk for this write."""


class QueueFull(StoreError):
    """As many durable jobs wait as `limit` allows."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} jobs are queued already")
        self.limit = limit


class KeyReused(StoreError):
    """The Idempotency-Key belongs to `job`, which was submitted with another body."""

    def __init__(self, job: str) -> None:
        super().__init__(f"this Idempotency-Key was used for job {job}, with another body")
        self.job = job


class StaleJob(StoreError):
    """The guarded update of `job` matched no row: someone else moved it on."""

    def __init__(self, job: str) -> None:
        super().__init__(f"job {job} is no longer in the expected state")
        self.job = job


class TargetError(ForemanError):
    """The target did not answer as a target should. Not raised for statuses it did answer."""


class TargetUnreachable(TargetError):
    """No connection could be made: the request never went out."""


class TargetLost(TargetError):
    """The connection broke while a request was under way."""


class TargetSilent(TargetError):
    """The target said nothing for longer than the limit of this `phase` (`seconds`)."""

    def __init__(self, phase: Phase, seconds: float) -> None:
        super().__init__(f"no sign of life within {seconds:g} s ({phase})")
        self.phase: Phase = phase
        self.seconds = seconds


class NoReply(ForemanError):
    """The actor dropped the question: it crashed or stopped while holding it."""


class TooManyRestarts(ForemanError):
    """`actor` crashed more often than its supervisor's budget allows."""

    def __init__(self, actor: str) -> None:
        super().__init__(f"{actor} crashed too often")
        self.actor = actor
