"""Artifacts: bytes with a checksum, taken up again where a connection broke."""

from functools import partial
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import msgspec

from foreman import records
from foreman.client import requests
from foreman.client.asking import Patience, accept, ask_for
from foreman.client.errors import Damaged, Refused, Unreachable
from foreman.client.requests import JobOrId
from foreman.client.transport import Request, Transport
from foreman.client.values import Artifact, Job


class _Listing(msgspec.Struct):
    artifacts: tuple[Artifact, ...]


async def artifacts(transport: Transport, job: JobOrId) -> tuple[Artifact, ...]:
    """What the job has left behind."""
    request = Request("GET", requests.job_path(job, "/artifacts"))
    return (await ask_for(transport, request, _Listing)).artifacts


async def content(transport: Transport, job: JobOrId, name: str | None) -> bytes:
    """The bytes of that artifact, or of the first. Raises Damaged."""
    return await _bytes(transport, job, await _chosen(transport, job, name))


async def save(transport: Transport, job: JobOrId, path: Path, name: str | None) -> Artifact:
    """The same in a file, which is there only when it is whole. Raises OSError, too."""
    artifact = await _chosen(transport, job, name)
    part = path.with_name(path.name + ".part")
    try:
        with await transport.blocking(lambda: part.open("wb")) as sink:
            await _copy(transport, job, artifact, sink)
        await transport.blocking(partial(part.replace, path))
    finally:
        part.unlink(missing_ok=True)
    return artifact


async def _chosen(transport: Transport, job: JobOrId, name: str | None) -> Artifact:
    found = await artifacts(transport, job)
    for each in found:
        if name in (None, each.name):
            return each
    have = ", ".join(each.name for each in found) or "nothing"
    raise Refused(404, f"the job has left {have}", code="no_artifact")


async def _bytes(transport: Transport, job: JobOrId, artifact: Artifact) -> bytes:
    sink = BytesIO()
    await _copy(transport, job, artifact, sink)
    return sink.getvalue()


async def _copy(transport: Transport, job: JobOrId, artifact: Artifact, sink: BinaryIO) -> None:
    """Write it into `sink`, and check what was written."""
    digest, patience = sha256(), Patience(transport)
    path = requests.job_path(job, f"/artifacts/{artifact.name}")
    while (start := sink.tell()) < artifact.size:
        rest = {"range": f"bytes={start}-", "if-range": f'"{artifact.sha256}"'} if start else {}
        try:
            async with transport.open(Request("GET", path, headers=rest)) as reply:
                await accept(reply)
                if start and reply.status != 206:
                    raise Damaged(f"{artifact.name} has changed while it was fetched")
                async for chunk in reply.chunks:
                    patience.renew()
                    digest.update(chunk)
                    await transport.blocking(partial(sink.write, chunk))
                if sink.tell() < artifact.size:
                    raise Damaged(f"{artifact.name} ends after {sink.tell()} bytes")
        except (Unreachable, Refused) as error:
            await patience.wait(error)
    if digest.hexdigest() != artifact.sha256:
        raise Damaged(f"{artifact.name} does not have the checksum {artifact.sha256}")


async def document(transport: Transport, job: Job, artifact: Artifact) -> object:
    """What the job's `result` would be, were it kept inline. Raises Damaged."""
    body = await _bytes(transport, job, artifact)
    try:
        return records.document(job.endpoint, artifact.content_type, body)
    except ValueError as error:
        raise Damaged(f"{artifact.name} is {error}") from None
