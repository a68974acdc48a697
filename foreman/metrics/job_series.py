"""What is counted of jobs: how they ended, what they waited for, how fast their models were."""

from collections.abc import Callable, Iterable
from functools import cache

from foreman.attempt import Again, Fail, Finish, Settlement
from foreman.jobs import FailureCode, JobClass, Requeue, State
from foreman.metrics.series import Series

_WAIT_SECONDS = (0.01, 0.1, 1, 5, 15, 60, 300, 900, 3600, 14400)
_LOAD_SECONDS = (0.5, 1, 2, 5, 10, 20, 40, 80, 160, 320, 600)
_FIRST_BYTE_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_WORK_SECONDS = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
_TOKENS_PER_SECOND = (1, 2, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 250, 500)


class JobSeries:
    """Jobs by model and class. `label` names a model of the target, or `other`."""

    def __init__(self, series: Series, label: Callable[[str], str]) -> None:
        self._label = label
        self._jobs = cache(
            series.counter(
                "foreman_jobs_total",
                "Ends of attempts: state done, failed (code: the error) or queued again "
                "(code: the reason).",
                "class",
                "state",
                "code",
            ).labels
        )
        for job_class in JobClass:
            self._jobs(job_class, State.DONE, "")
            for code in FailureCode:
                self._jobs(job_class, State.FAILED, code)
            for reason in Requeue:
                self._jobs(job_class, State.QUEUED, reason)
        self._wait_seconds = cache(
            series.histogram(
                "foreman_wait_seconds",
                "From a job's arrival to its start.",
                _WAIT_SECONDS,
                "model",
                "class",
            ).labels
        )
        self._loads = cache(
            series.counter("foreman_loads_total", "Times a model was loaded.", "model").labels
        )
        self._load_seconds = cache(
            series.histogram(
                "foreman_load_seconds", "How long a load took.", _LOAD_SECONDS, "model"
            ).labels
        )
        self._first_byte_seconds = cache(
            series.histogram(
                "foreman_target_first_byte_seconds",
                "From the request to the target, the model loaded, to the first byte of a streamed "
                "answer.",
                _FIRST_BYTE_SECONDS,
                "model",
            ).labels
        )
        self._work_seconds = cache(
            series.histogram(
                "foreman_work_seconds",
                "How long the target worked on a job that was done, without the load.",
                _WORK_SECONDS,
                "model",
                "class",
            ).labels
        )
        self._tokens = cache(
            series.counter(
                "foreman_tokens_total",
                "Tokens the target reported; direction in or out.",
                "model",
                "direction",
            ).labels
        )
        self._tokens_per_second = cache(
            series.histogram(
                "foreman_tokens_per_second",
                "Tokens out of a job for each second that the target worked on it.",
                _TOKENS_PER_SECOND,
                "model",
            ).labels
        )

    def begin(self, models: Iterable[str]) -> None:
        """The target has these: their counters are there before the first job that counts."""
        for model in models:
            self._loads(model)
            for direction in ("in", "out"):
                self._tokens(model, direction)

    def loaded(self, model: str, seconds: float) -> None:
        """The target loaded `model`."""
        label = self._label(model)
        self._loads(label).inc()
        self._load_seconds(label).observe(seconds)

    def waited(self, model: str, job_class: JobClass, seconds: float) -> None:
        """A job was started after `seconds` in the queue."""
        self._wait_seconds(self._label(model), job_class).observe(seconds)

    def answering(self, model: str, seconds: float) -> None:
        """The first byte of a streamed answer came `seconds` after the request went out."""
        self._first_byte_seconds(self._label(model)).observe(seconds)

    def concluded(
        self, model: str, job_class: JobClass, settlement: Settlement, work_s: float
    ) -> None:
        """An attempt has ended, on which the target worked for `work_s` seconds."""
        match settlement:
            case Finish(verdict):
                self._jobs(job_class, State.DONE, "").inc()
                label, tokens = self._label(model), verdict.tokens_out or 0
                self._tokens(label, "in").inc(verdict.tokens_in or 0)
                self._tokens(label, "out").inc(tokens)
                self._work_seconds(label, job_class).observe(work_s)
                if tokens and work_s:
                    self._tokens_per_second(label).observe(tokens / work_s)
            case Fail(code):
                self._jobs(job_class, State.FAILED, code).inc()
            case Again(reason):
                self._jobs(job_class, State.QUEUED, reason).inc()
