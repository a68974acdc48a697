"""/api/embed and /api/embeddings, and the inside of /v1/embeddings."""

import math
from dataclasses import dataclass

import trio

from foreman.embedded.chunk import nanoseconds
from foreman.embedded.engine import EngineError, Json, Vectors
from foreman.embedded.failures import Failed
from foreman.embedded.go import Fields, array
from foreman.embedded.host import Host, resolve, try_pulling
from foreman.embedded.options import runner_options

Vector = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Embedded:
    """The vectors of one call; the loaded time is trio's."""

    vectors: tuple[Vector, ...]
    prompt_count: int
    loaded: float


def read_inputs(value: Json) -> tuple[str, ...]:
    """The texts of an `input` field. Raises Failed."""
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        return (value,)
    items = array(value)
    if items is None or not all(isinstance(item, str) for item in items):
        raise Failed(400, "invalid input type")
    return tuple(items)


async def embed(host: Host, path: str, fields: Fields, texts: tuple[str, ...]) -> Embedded:
    """The vectors as the model gives them; no text at all is a load. Raises Failed."""
    name = fields.text("model")
    native = path == "/api/embeddings"
    model = resolve(
        host,
        name,
        missing=(400, "model is required") if native else (404, f"model '{name}' not found"),
        unknown=try_pulling(name),
    )
    options = runner_options(fields.object("options"))
    async with host.residency.loaded(model, options, fields.keep_alive()) as resident:
        loaded = trio.current_time()
        if not texts:
            return Embedded((), 0, loaded)
        async with resident.turn:
            host.oracle.begin(path, name)
            completed = False
            try:
                found: Vectors = await resident.runner.embed(texts)
                completed = True
            except EngineError as error:
                raise Failed(500 if native else error.status, error.text.strip()) from error
            finally:
                host.oracle.end(cancelled=not completed)
    return Embedded(found.vectors, found.prompt_count, loaded)


def normalised(vector: Vector, dimensions: int = 0) -> Vector:
    """Of length 1, cut to `dimensions` first where that is shorter."""
    if 0 < dimensions < len(vector):
        vector = vector[:dimensions]
    length = math.sqrt(sum(value * value for value in vector))
    return tuple(value / length for value in vector) if length else vector


def native_body(model: str, found: Embedded, dimensions: int, arrived: float) -> dict[str, Json]:
    """The answer of /api/embed; an empty call has no metrics."""
    vectors = [normalised(vector, dimensions) for vector in found.vectors]
    body: dict[str, Json] = {"model": model, "embeddings": vectors}
    if not vectors:
        return body
    metrics = {
        "total_duration": nanoseconds(trio.current_time() - arrived),
        "load_duration": nanoseconds(found.loaded - arrived),
        "prompt_eval_count": found.prompt_count,
    }
    return body | {name: value for name, value in metrics.items() if value}
