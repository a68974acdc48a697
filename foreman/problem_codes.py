"""What the codes in foreman's own errors mean: the table of docs/reference/errors.md."""

from typing import NamedTuple


class Code(NamedTuple):
    """With which status it comes (None: with several), and what a client makes of it."""

    status: int | None
    meaning: str


CODES = {
    "already_done": Code(409, "The job has ended; there is nothing to cancel."),
    "artifact_damaged": Code(500, "The file is gone, or not what its row says."),
    "artifact_not_found": Code(404, "The job has no artifact of this name."),
    "attempt_over": Code(409, "This run is over; follow the output again, from 0."),
    "bad_body": Code(400, "A body came with a request that has none."),
    "bad_parameter": Code(400, "`field` names the parameter that is unknown, double or wrong."),
    "body_too_large": Code(413, "A request for events needs no body of that size."),
    "body_too_slow": Code(408, "The request did not end within FOREMAN_BODY_TIMEOUT."),
    "cloud_model": Code(400, "A model in the cloud takes no durable jobs; call it directly."),
    "disk_full": Code(507, "Less than FOREMAN_MIN_FREE_DISK is free; nothing was accepted."),
    "dropped": Code(503, "The part of foreman that was asked is being restarted; ask again."),
    "endpoint_disabled": Code(409, "Enable the webhook's endpoint before a replay."),
    "http": Code(None, "The request itself is wrong: its method, its form."),
    "idempotency_mismatch": Code(422, "This Idempotency-Key was used with another body."),
    "invalid": Code(
        400, "The body is not what the route takes; `field` is a JSON pointer into it."
    ),
    "job_failed": Code(409, "The job has failed, so there is no output; its error is in `detail`."),
    "job_not_found": Code(404, "There is no such job, or it belongs to another token."),
    "model_not_found": Code(404, "The target does not have this model."),
    "no_such_delivery": Code(404, "There is no such message in the ledger."),
    "no_such_endpoint": Code(404, "No webhook was ever sent to this URL."),
    "not_kept": Code(404, "Its client got the answer; only durable jobs keep one."),
    "queue_full": Code(429, "FOREMAN_MAX_QUEUE jobs wait; try again after `Retry-After`."),
    "range_not_satisfiable": Code(
        416, "The range lies behind the end; `Content-Range` has the size."
    ),
    "stopping": Code(503, "foreman is shutting down; come back after `Retry-After`."),
    "store_busy": Code(503, "Another program holds the database's write lock."),
    "store_error": Code(500, "The database could not be written; the log says why."),
    "too_large": Code(413, "The body, or one line of it, exceeds FOREMAN_MAX_BODY."),
    "too_many_subscribers": Code(503, "FOREMAN_MAX_SUBSCRIBERS are there; try again later."),
    "too_slow": Code(408, "The body did not arrive within FOREMAN_BODY_TIMEOUT."),
    "webhook_blocked": Code(400, "The rules do not let a webhook go to this URL."),
}
