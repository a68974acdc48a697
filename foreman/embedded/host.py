"""What every handler works with, and how a request's model name is resolved."""

from dataclasses import dataclass

from foreman import names
from foreman.embedded.blobs import Blobs
from foreman.embedded.clock import Clock
from foreman.embedded.dialect import JSON_UTF8
from foreman.embedded.engine import Engine, Model
from foreman.embedded.failures import Failed, Unauthorized
from foreman.embedded.go import encode, quote
from foreman.embedded.http1 import Exchange
from foreman.embedded.installed import Installed
from foreman.embedded.oracle import Oracle
from foreman.embedded.residency import Residency

VERSION = "0.33.0"
SIGNIN_URL = "https://ollama.com/connect?name=embedded&key=c3NoLWVkMjU1MTk"


@dataclass(frozen=True, slots=True)
class Host:
    """The server's parts; one of each."""

    engine: Engine
    installed: Installed
    residency: Residency
    clock: Clock
    oracle: Oracle
    blobs: Blobs


def resolve(
    host: Host,
    name: str,
    *,
    missing: tuple[int, str] = (400, "model is required"),
    unknown: tuple[int, str] | None = None,
) -> Model:
    """The installed model that a request names.

    `missing` answers a blank name, `unknown` one that is not installed (Ollama's routes differ).
    Raises Failed, or Unauthorized for a cloud model.
    """
    try:
        parsed = names.parse(name)
    except names.InvalidName as error:
        status, text = (400, error.text) if name.strip() else missing
        raise Failed(status, text) from None
    model = host.installed.find(name)
    local_only = parsed.source == "local"
    if parsed.source == "cloud" or (model and model.remote and not local_only):
        return _cloud(host, model)
    if model is None or model.remote:
        raise Failed(*(unknown or (404, f"model '{name}' not found")))
    return model


def try_pulling(name: str) -> tuple[int, str]:
    """How the embedding routes say that a model is not installed."""
    return 404, f"model {quote(name)} not found, try pulling it first"


async def answer(exchange: Exchange, body: object, status: int = 200) -> None:
    """Answer with JSON, as gin's c.JSON does."""
    await exchange.respond(status, [(b"Content-Type", JSON_UTF8)], encode(body))


async def unauthorized(exchange: Exchange) -> None:
    """The answer of every route to a call that needs a signed-in user."""
    await answer(exchange, {"error": "unauthorized", "signin_url": SIGNIN_URL}, 401)


def _cloud(host: Host, model: Model | None) -> Model:
    if model is None or not host.engine.signed_in:
        raise Unauthorized
    return model
