"""The routes that change what is installed: in memory, with Ollama's progress lines."""

from collections.abc import Sequence

from foreman import names
from foreman.embedded.dialect import JSON, NDJSON
from foreman.embedded.engine import Json, Model
from foreman.embedded.failures import Failed
from foreman.embedded.go import Fields, encode, quote
from foreman.embedded.host import Host
from foreman.embedded.http1 import Exchange

Progress = dict[str, Json]

_STEPS = 4  # progress lines of one layer


async def pull(host: Host, exchange: Exchange, fields: Fields) -> None:
    """Pulls what is installed already; of anything else the registry knows nothing."""
    name = _name(fields.text("model") or fields.text("name"))
    lines: list[Progress] = [{"status": "pulling manifest"}]
    model = host.installed.find(name)
    if model is None:
        error = "pull model manifest: file does not exist"
        await _progress(exchange, fields, lines, error)
        return
    lines += _transfer(f"pulling {model.digest[:12]}", model)
    lines += [{"status": "verifying sha256 digest"}, {"status": "writing manifest"}]
    await _progress(exchange, fields, [*lines, {"status": "success"}])


async def push(host: Host, exchange: Exchange, fields: Fields) -> None:
    """Pushes an installed model that has a namespace, to nowhere."""
    asked = fields.text("model") or fields.text("name")
    if not asked:
        raise Failed(400, "model is required")
    lines: list[Progress] = [{"status": "retrieving manifest"}]
    model = host.installed.find(asked) if _valid(asked) else None
    if model is None:
        await _progress(exchange, fields, lines, "couldn't retrieve manifest")
        return
    lines += [*_transfer("pushing", model), {"status": "pushing manifest"}]
    await _progress(exchange, fields, [*lines, {"status": "success"}])


async def create(host: Host, exchange: Exchange, fields: Fields) -> None:
    """Makes a model of an installed one, with its own system prompt if it brings one."""
    name = _name(fields.text("model") or fields.text("name"))
    source = fields.text("from")
    if not source:
        raise Failed(400, "neither 'from' or 'files' was specified")
    model = host.installed.find(_name(source))
    if model is None:
        await _progress(exchange, fields, [], f"pull model manifest: {source} does not exist")
        return
    host.installed.copy(model, name, system=fields.text("system"), modified_at=host.clock.stamp())
    lines: list[Progress] = [
        {"status": f"using existing layer sha256:{model.digest}"},
        {"status": "writing manifest"},
    ]
    await _progress(exchange, fields, [*lines, {"status": "success"}])


async def copy(host: Host, exchange: Exchange, fields: Fields) -> None:
    """200 with an empty body."""
    source, destination = fields.text("source"), fields.text("destination")
    for what, name in (("source", source), ("destination", destination)):
        if not _valid(name):
            raise Failed(400, f"{what} {quote(name)} is invalid")
    model = host.installed.find(source)
    if model is None:
        raise Failed(404, f"model {quote(source)} not found")
    host.installed.copy(model, destination, modified_at=host.clock.stamp())
    await exchange.respond(200)


async def delete(host: Host, exchange: Exchange, fields: Fields) -> None:
    """200 with an empty body."""
    asked = fields.text("model") or fields.text("name")
    if not _valid(asked):
        raise Failed(400, f"name {quote(asked)} is invalid" if asked else "model is required")
    model = host.installed.find(asked)
    if model is None:
        raise Failed(404, f"model '{asked}' not found")
    host.installed.remove(model)
    await exchange.respond(200)


async def _progress(
    exchange: Exchange, fields: Fields, lines: Sequence[Progress], error: str = ""
) -> None:
    """Stream the lines; without streaming, only the last. A late error is one more line."""
    if fields.flag("stream") is False or (error and not lines):
        body = {"error": error} if error else lines[-1]
        status = 500 if error else 200
        await exchange.respond(status, [(b"Content-Type", JSON)], encode(body))
        return
    await exchange.start(200, [(b"Content-Type", NDJSON)])
    for line in [*lines, {"error": error}] if error else lines:
        await exchange.send(encode(line) + b"\n")
    await exchange.finish()


def _transfer(status: str, model: Model) -> list[Progress]:
    layer = {"status": status, "digest": f"sha256:{model.digest}", "total": model.size}
    steps = [{"completed": model.size * step // _STEPS} for step in range(1, _STEPS + 1)]
    return [layer, *(layer | step for step in steps)]


def _name(asked: str) -> str:
    try:
        names.parse(asked)
    except names.InvalidName as error:
        text = error.text if asked.strip() else "invalid model name"
        raise Failed(400, text) from None
    return asked


def _valid(asked: str) -> bool:
    try:
        names.parse(asked)
    except names.InvalidName:
        return False
    return True
