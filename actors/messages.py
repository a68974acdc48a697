"""Every message between actors, on one page. Each says: sender -> receiver: meaning.

Values only: ids, bytes and reply slots, no live objects that both sides keep.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import outcome
import trio

from foreman.admission import Admitted
from foreman.delivery import Tested
from foreman.inventory import Inventory
from foreman.jobs import JobId
from foreman.queue_view import QueueView
from foreman.tables import Transaction
from foreman.wire import Request, ResponsePart, Route

T = TypeVar("T")
Reply = trio.MemorySendChannel[T]


# ------------------------------------------------------------------ to the store


@dataclass(frozen=True, slots=True)
class Write(Generic[T]):
    """anyone -> store: run `do` in the next transaction; answered after its fsync."""

    do: Callable[[Transaction], T]
    reply: Reply[outcome.Maybe[T]]


# ------------------------------------------------------------------ to the poller


@dataclass(frozen=True, slots=True)
class Refresh:
    """ingress -> poller: a name is not in the inventory; look once more. Shared by all who ask."""

    reply: Reply[Inventory]


PollerMessage = Refresh


# ------------------------------------------------------------------ to the worker


@dataclass(frozen=True, slots=True)
class Call:
    """ingress -> worker: a client waits for this; `parts` is where its answer goes."""

    job: JobId
    route: Route
    admitted: Admitted
    request: Request
    parts: trio.MemorySendChannel[ResponsePart]
    position: Reply[int]  # jobs ahead of this one, the running one included; answered at once
    owner: str = ""  # the name of the client's token


@dataclass(frozen=True, slots=True)
class Gone:
    """ingress -> worker: the client of this call hung up."""

    job: JobId


@dataclass(frozen=True, slots=True)
class Cancel:
    """ingress -> worker: end this job if a client waits for it or it runs; is that so?"""

    job: JobId
    reply: Reply[bool]


@dataclass(frozen=True, slots=True)
class Unloaded:
    """ingress -> worker: a client asked the target to drop this model (normalised name)."""

    model: str


@dataclass(frozen=True, slots=True)
class Describe:
    """ingress -> worker: what runs, what waits, what is loaded?"""

    reply: Reply[QueueView]


@dataclass(frozen=True, slots=True)
class Drain:
    """ingress -> worker: the daemon stops; batch work ends now, calls go on until `refuse_at`.

    What waits then, on trio's clock, is refused; the running call may finish.
    """

    refuse_at: float


WorkerMessage = Call | Gone | Cancel | Unloaded | Describe | Drain


@dataclass(frozen=True, slots=True)
class Wake:
    """poller, ingress -> worker, a channel of one: look again (new batch rows, target back)."""


# ------------------------------------------------------------------ to the embed actor


@dataclass(frozen=True, slots=True)
class EmbedCall:
    """ingress -> embed: answer this embedding beside the queue, unless `scope` was cancelled."""

    request: Request
    parts: trio.MemorySendChannel[ResponsePart]
    scope: trio.CancelScope
    model: str = ""  # as the client named it


# ------------------------------------------------------------------ to the traces


@dataclass(frozen=True, slots=True)
class Traced:
    """tracer -> traces, a channel of one: spans have ended, enough to deliver them."""


# ------------------------------------------------------------------ to the webhooks


@dataclass(frozen=True, slots=True)
class Posted:
    """store -> webhooks, a channel of one: the outbox has something new; look again."""


@dataclass(frozen=True, slots=True)
class TestWebhook:
    """ingress -> webhooks: send this URL one message now, and say how it went."""

    __test__ = False  # pytest takes it for a test otherwise

    url: str
    reply: Reply[Tested]
