"""Checks of the queue and the webhooks: what waits in vain, and what was given up."""

from collections.abc import Iterator

from foreman import names
from foreman.doctor.context import Context
from foreman.doctor.findings import CannotLookError, Fine, Kind, Outcome, Severity
from foreman.rows import NEVER

SECOND = 1_000_000  # microseconds
HOUR = 3600 * SECOND

SET_ASIDE = Kind(
    "jobs-set-aside",
    Severity.WARNING,
    "{count} jobs were set aside because their rows are damaged, {job} among them",
    "They will not run, and whoever waits for them waits for ever.",
    "Submit them again, then: foreman cancel {job}",
)
STUCK = Kind(
    "jobs-stuck",
    Severity.WARNING,
    "job {job} has been {state} for longer than FOREMAN_LOAD_TIMEOUT and FOREMAN_JOB_TIMEOUT allow",
    "It holds the only slot, or a daemon of before left it: nothing else gets on.",
    "foreman cancel {job}; if that does not end it, restart the daemon",
)
EXPIRED = Kind(
    "jobs-expired",
    Severity.NOTE,
    "{count} jobs have waited past their expires_in",
    "They fail as soon as a daemon looks at them; nobody works on them.",
    "{advice}",
)
WITHOUT_MODEL = Kind(
    "jobs-without-model",
    Severity.WARNING,
    "{count} jobs wait for {model}, which the target does not have",
    "They fail with 404 when their turn comes.",
    "ollama pull {model}",
)
QUEUE_FULL = Kind(
    "queue-full",
    Severity.WARNING,
    "{count} jobs wait, and FOREMAN_MAX_QUEUE is {limit}",
    "At the limit POST /jobs is answered with 429.",
    "Raise FOREMAN_MAX_QUEUE, or submit less at once",
)
DEAD_LETTERS = Kind(
    "dead-letters",
    Severity.WARNING,
    "{count} webhooks were given up",
    "Their receivers were never told how those jobs ended.",
    "See them with: foreman webhooks dead; send one again with: foreman webhooks replay ID",
)
DISABLED = Kind(
    "webhook-receiver-disabled",
    Severity.WARNING,
    "webhooks to {url} are disabled: {reason}",
    "It is told nothing any more; what comes up for it is given up at once.",
    "When it is well again: foreman webhooks enable {url}",
)
FAILING = Kind(
    "webhook-receiver-failing",
    Severity.NOTE,
    "webhooks to {url} have failed {failures} times in a row, for {hours} hours",
    "They are tried for 76 hours; then they are given up.",
    "See what it answers with: foreman webhooks test {url}",
)
UNSIGNED = Kind(
    "webhooks-unsigned",
    Severity.WARNING,
    "webhooks are sent to {count} receivers, unsigned",
    "A receiver cannot tell them from those of somebody else.",
    "Set FOREMAN_WEBHOOK_SECRET to the output of: echo whsec_$(head -c 32 /dev/urandom | base64)",
)


def jobs(context: Context) -> Iterator[Outcome]:
    """Does a job wait in vain, or hold up the others?"""
    for count, job in context.database.execute(_SET_ASIDE, (NEVER,)).fetchall():
        if count:
            yield SET_ASIDE(count=count, job=job)
    now = round(context.machine.wall() * SECOND)
    if context.holder is not None:
        limit = context.settings.load_timeout + context.settings.job_timeout
        terms = (context.totals.epoch, now - round(limit * SECOND))
        for job, state in context.database.execute(_STUCK, terms).fetchall():
            yield STUCK(job=job, state=state)
    if expired := context.count(_EXPIRED, now - HOUR // 60):
        running = "Look in the daemon's log why it does not end them"
        advice = "foreman serve" if context.holder is None else running
        yield EXPIRED(count=expired, advice=advice)
    waiting, limit = context.totals.queued, context.settings.max_queue
    if waiting >= 0.9 * limit:
        yield QUEUE_FULL(count=waiting, limit=limit)
    yield Fine(f"{waiting} wait")


def models_of_jobs(context: Context) -> Iterator[Outcome]:
    """Has the target the models that jobs wait for?"""
    lanes = context.database.execute(_LANES).fetchall()
    if not lanes:
        yield Fine("no job waits")
        return
    for model, count in lanes:
        if context.find(model) is None:
            yield WITHOUT_MODEL(count=count, model=names.display(model))
    yield Fine(f"the models of {len(lanes)} lanes are installed")


def webhooks(context: Context) -> Iterator[Outcome]:
    """Are webhooks delivered, and signed?"""
    now = round(context.machine.wall() * SECOND)
    if dead := context.count("SELECT count(*) FROM outbox WHERE state = 'dead'"):
        yield DEAD_LETTERS(count=dead)
    for url, reason in context.database.execute(_DISABLED).fetchall():
        yield DISABLED(url=url, reason=reason)
    for url, failures, since in context.database.execute(_FAILING, (now - HOUR,)).fetchall():
        yield FAILING(url=url, failures=failures, hours=(now - since) // HOUR)
    receivers = context.count("SELECT count(*) FROM endpoints")
    if not receivers:
        raise CannotLookError("nobody was sent a webhook yet")
    if not context.settings.webhook_secret:
        yield UNSIGNED(count=receivers)
    yield Fine(f"{receivers} receivers are well")


_SET_ASIDE = "SELECT count(*), min(id) FROM jobs WHERE state = 'queued' AND not_before = ?"
_STUCK = """SELECT id, state FROM jobs
    WHERE state IN ('loading', 'working') AND (epoch < ? OR claimed_at < ?) LIMIT 10"""
_EXPIRED = "SELECT count(*) FROM jobs WHERE state = 'queued' AND expires_at < ?"
_LANES = "SELECT model_key, sum(queued) FROM lanes WHERE queued > 0 GROUP BY model_key"
_DISABLED = "SELECT url, ifnull(reason, '') FROM endpoints WHERE disabled_at IS NOT NULL"
_FAILING = """SELECT url, failures, failing_since FROM endpoints
    WHERE disabled_at IS NULL AND failing_since < ?"""
