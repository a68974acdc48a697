"""Reading what a client submits to POST /jobs: every mistake is named, with its place.

Pure functions of bytes; which models exist and which addresses a webhook may reach is asked of
others by `foreman.api.submissions`.
"""

import difflib
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from foreman.admission import Admitted, admit
from foreman.jobs import JobClass, JobId, State
from foreman.rows import Idempotency, Microseconds, NewJob
from foreman.wire import ROUTES, Header, Kind, Route, route_for

HEADERS: tuple[Header, ...] = ((b"content-type", b"application/json"),)
"""Of a stored request, when it is sent."""

ENDPOINTS = tuple(
    route.path
    for route in ROUTES
    if route.kind in (Kind.INFERENCE, Kind.EMBEDDING) and route.path != "/v1/audio/transcriptions"
)
"""What a job can ask for; an upload in form data is no JSON object."""

EVERY_EVENT = "*"
EVENT_TYPES = tuple(f"job.{state.value}" for state in State)
LAST_EVENTS = ("job.done", "job.failed")
MOST_LABELS = 32
LONGEST_KEY = 255  # characters of an Idempotency-Key
_KEY = re.compile(rb"[\x21-\x7e]{1,%d}" % LONGEST_KEY)

Label = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern="^[^:]*$")]
"""Without a colon: a filter is written `name:value`."""
LabelText = Annotated[str, msgspec.Meta(max_length=256)]


class Webhook(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who is to be told, and of what."""

    url: Annotated[str, msgspec.Meta(min_length=1, max_length=2048)]
    events: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] = LAST_EVENTS


class Submission(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /jobs, or a line of POST /jobs/bulk."""

    request: msgspec.Raw
    endpoint: str = "/api/chat"
    priority: Annotated[int, msgspec.Meta(ge=-100, le=100)] = 0
    labels: Annotated[dict[Label, LabelText], msgspec.Meta(max_length=MOST_LABELS)] = {}
    webhook: Webhook | None = None
    artifacts: Literal["inline", "fetch"] | None = None
    expires_in: Annotated[float, msgspec.Meta(gt=0, le=10 * 365 * 86400)] | None = None
    idempotency_key: str | None = None


class Invalid(Exception):
    """What is wrong, where (a JSON pointer, "" = the whole body), and what would be right."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field
        self.text = text


@dataclass(frozen=True, slots=True)
class Intended:
    """A submission that can be understood: what it is to be run as, and the body it came in."""

    submission: Submission
    route: Route
    admitted: Admitted
    body: bytes

    def new_job(self, job: JobId, owner: str, key: str | None, now: Microseconds) -> NewJob:
        """The row to store; `key` is its Idempotency-Key."""
        wanted = self.submission
        expires_at = None if wanted.expires_in is None else now + round(wanted.expires_in * 1e6)
        return NewJob(
            job,
            JobClass.BATCH,
            self.route.path,
            self.admitted.model,
            self.admitted.fingerprint,
            bytes(wanted.request),
            self.admitted.streamed,
            wanted.priority,
            wanted.labels,
            None if wanted.webhook is None else _webhook(wanted.webhook),
            wanted.artifacts,
            expires_at,
            owner,
            None if key is None else Idempotency(key, hashlib.sha256(self.body).digest()),
        )


def read(body: bytes) -> Intended:
    """Understand the body of POST /jobs.

    Raises Invalid, and admission.Refused for what Ollama would refuse about the request inside.
    """
    try:
        submission = _submission(body)
    except msgspec.ValidationError as error:
        raise misfit(str(error), _FIELDS) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid("", f"the body is not JSON: {error}") from None
    except RecursionError:
        raise Invalid("", "the body is nested too deeply") from None
    if submission.webhook is not None:
        _check_events(submission.webhook)
    route = _route(submission.endpoint)
    request = bytes(submission.request)
    if not request.startswith(b"{"):
        raise Invalid("/request", "write the JSON object that the endpoint takes")
    admitted = admit(route, HEADERS, request)
    return Intended(submission, route, admitted, body)


def idempotency_key(header: bytes, named: str | None) -> str | None:
    """The key from the header or the body. Raises Invalid."""
    given = header or (named or "").encode()
    if not given and named is None:
        return None
    if not _KEY.fullmatch(given):
        raise Invalid("Idempotency-Key", f"write 1 to {LONGEST_KEY} printable ASCII characters")
    if named is not None and named.encode() != given:
        raise Invalid("/idempotency_key", "the header Idempotency-Key says something else")
    return given.decode()


def _route(endpoint: str) -> Route:
    route = route_for("POST", endpoint)
    if route is not None and route.path in ENDPOINTS:
        return route
    raise Invalid(
        "/endpoint", f"{endpoint!r} is not an endpoint for jobs{_nearest(endpoint, ENDPOINTS)}"
    )


def _check_events(webhook: Webhook) -> None:
    for index, name in enumerate(webhook.events):
        if name not in EVENT_TYPES and name != EVERY_EVENT:
            near = _nearest(name, (*EVENT_TYPES, EVERY_EVENT))
            raise Invalid(f"/webhook/events/{index}", f"{name!r} is no event{near}")


def _webhook(webhook: Webhook) -> str:
    every = EVERY_EVENT in webhook.events
    events = EVENT_TYPES if every else tuple(dict.fromkeys(webhook.events))
    return msgspec.json.encode(Webhook(webhook.url, events)).decode()


_submission = msgspec.json.Decoder(Submission).decode
_FIELDS = {"": Submission.__struct_fields__, "/webhook": Webhook.__struct_fields__}
_PLACE = re.compile(r" - at (?:`key` in )?`\$(.*)`$")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`$")
_MISSING = re.compile(r"Object missing required field `(.*)`$")


def misfit(text: str, fields: Mapping[str, tuple[str, ...]]) -> Invalid:
    """The decoder's complaint, with its place as a pointer and the nearest name for a wrong one.

    `fields` has the names of the fields of each object, by its pointer.
    """
    place = _PLACE.search(text)
    what = text[: place.start()] if place else text
    at = _pointer(place[1]) if place else ""
    if unknown := _UNKNOWN.match(what):
        near = _nearest(unknown[1], fields.get(at, ()))
        return Invalid(f"{at}/{unknown[1]}", f"there is no field {unknown[1]!r}{near}")
    if missing := _MISSING.match(what):
        return Invalid(f"{at}/{missing[1]}", f"the field {missing[1]!r} is missing")
    return Invalid(at, what[:1].lower() + what[1:])


def _pointer(path: str) -> str:
    """`.webhook.events[0]` as `/webhook/events/0`; `[...]`, any key, is left out."""
    return re.sub(r"\[(\d+)\]", r"/\1", path.replace("[...]", "")).replace(".", "/")


def _nearest(name: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; write one of {', '.join(known)}"
