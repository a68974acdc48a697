"""The spans of one attempt at a job: the load and the generation, each around its own request."""

from functools import lru_cache

from foreman import names
from foreman.admission import Admitted
from foreman.attempt import Again, Fail, Finish, Settlement, Work
from foreman.jobs import JobClass, JobId
from foreman.queue_view import shown
from foreman.tracing import NO_SPAN, Attributes, Role, Span, SpanContext, Tracer, Value
from foreman.wire import Request, ResponseHead, ResponsePart

PROVIDER = "ollama"

OPERATIONS = {
    b"/api/generate": "text_completion",
    b"/v1/completions": "text_completion",
    b"/v1/audio/transcriptions": "transcription",
    b"/api/embed": "embeddings",
    b"/api/embeddings": "embeddings",
    b"/v1/embeddings": "embeddings",
}
"""gen_ai.operation.name by path; the others chat."""


def generation(
    tracer: Tracer, request: Request, model: str, said: Attributes | None = None
) -> Span:
    """The span of a model's work, begun, in the trace of its request; `said` of it, too."""
    if request.trace is None:
        return NO_SPAN
    operation = OPERATIONS.get(request.path.partition(b"?")[0], "chat")
    attributes: dict[str, Value] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": model,
        **(said or {}),
    }
    name = f"{operation} {model}"
    return tracer.begin(name, request.trace, Role.CLIENT, attributes=attributes)


def within(request: Request, span: Span) -> Request:
    """The same request, as a part of `span`."""
    if span.context is None:
        return request
    return Request(request.method, request.path, request.headers, request.body, span.context)


_model = lru_cache(256)(names.display)
_lane = lru_cache(256)(shown)


class RunSpans:
    """Told what happens in an attempt. `work` is what to attempt, `awaiting` its first bytes."""

    __slots__ = ("_generation", "_load", "_loaded", "_sure", "awaiting", "work")

    def __init__(
        self, tracer: Tracer, work: Work, admitted: Admitted, job: JobId, attempt: int
    ) -> None:
        self.work = work
        self.awaiting = False
        self._load = self._generation = NO_SPAN
        self._loaded = False
        self._sure = work.load is None and admitted.load is not None
        parent = work.request.trace
        if parent is None:
            return
        model = _model(admitted.key)
        said: Attributes = {"foreman.job.id": job, "foreman.attempt": attempt}
        self._generation = generation(tracer, work.request, model, said)
        load = work.load
        if load is not None:
            what: dict[str, Value] = {"gen_ai.request.model": model, "foreman.job.id": job}
            self._load = tracer.begin(f"load {model}", parent, attributes=what)
            load = within(load, self._load)
        request = within(work.request, self._generation)
        self.work = Work(request, work.dialect, work.streamed, load, work.last_try)
        self.awaiting = work.streamed

    def loaded(self, seconds: float | None, *, anew: bool) -> None:
        """The request goes out, the model being in; after so many seconds where it was asked for.

        `anew`: it had not been there.
        """
        self._loaded = True
        if self._generation.context is None:
            return
        if seconds is not None:
            self._load.set({"foreman.load.seconds": seconds})
        # Refused, or asked for by the request itself: then nobody can tell.
        if seconds is not None or self._sure:
            self._load.set({"foreman.model.resident": not anew})
            self._generation.set({"foreman.model.resident": not anew})
        if self._load.context is not None:
            self._load.end()
            self._generation.begin_anew()

    def saw(self, part: ResponsePart) -> None:
        """The target answered; the first bytes of a stream are its first token."""
        if isinstance(part, bytes):
            self.awaiting = False
            self._generation.event("first_token")
        elif isinstance(part, ResponseHead):
            self.awaiting = part.status < 400

    def ended(self, settlement: Settlement | None) -> None:
        """The attempt is over; None: the daemon stops."""
        span = self._generation if self._loaded else self._load
        if span.context is None:
            return
        match settlement:
            case Finish(verdict):
                counts = {
                    "gen_ai.usage.input_tokens": verdict.tokens_in,
                    "gen_ai.usage.output_tokens": verdict.tokens_out,
                }
                span.set({name: count for name, count in counts.items() if count is not None})
            case Fail(code):
                span.fail(code.value)
            case Again(reason):
                span.fail(reason.value)
            case None:
                span.fail("shutdown")
        span.end()


def queued(
    tracer: Tracer,
    parent: SpanContext | None,
    admitted: Admitted,
    job: JobId,
    job_class: JobClass,
    at: int | None = None,
) -> Span:
    """The span of a job's wait for its turn; `at` nanoseconds since 1970, or from now on."""
    if parent is None:
        return NO_SPAN
    attributes: dict[str, Value] = {
        "gen_ai.request.model": _model(admitted.key),
        "foreman.job.id": job,
        "foreman.lane": _lane(admitted.fingerprint),
        "foreman.class": job_class.value,
    }
    return tracer.begin("queue", parent, at=at, attributes=attributes)


def job_span(
    tracer: Tracer, job: JobId, admitted: Admitted, attempts: int, settlement: Settlement
) -> None:
    """The root of a durable job's trace, when it has ended: all that happened to it lies below."""
    if isinstance(settlement, Again):
        return
    model = _model(admitted.key)
    span = tracer.job_ended(f"job {model}", job)
    span.set({"foreman.job.id": job, "foreman.attempts": attempts, "gen_ai.request.model": model})
    if isinstance(settlement, Fail):
        span.fail(settlement.code.value)
    span.end()
