"""`foreman artifacts`: which results there are, and their bytes, checked against their hash."""

import hashlib
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
import typer

from foreman.cli.connection import Daemon, Refused, Unreachable, decode
from foreman.cli.outage import Outage
from foreman.cli.progress import counted
from foreman.cli.terminal import Table, render, say
from foreman.cli.views import Artifact
from foreman.units import format_size

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Listing(msgspec.Struct, frozen=True):
    """The answer of GET /jobs/{id}/artifacts."""

    artifacts: list[Artifact]


def show(daemon: Daemon, ids: Sequence[str], *, as_json: bool) -> None:
    """Print what there is; JSON is a job a line. Raises Unreachable and Refused."""
    rows: list[tuple[str, ...]] = []
    for job in ids:
        body = daemon.get(f"/jobs/{job}/artifacts")
        if as_json:
            typer.echo(body)
        rows += [
            (job, each.name, each.content_type, format_size(each.size), each.sha256)
            for each in decode(body, Listing).artifacts
        ]
    if rows and not as_json:
        render(Table(("JOB", "NAME", "TYPE", "SIZE", "SHA256"), rows))
    elif not rows:
        say("no artifacts")


def fetch(daemon: Daemon, ids: Sequence[str], folder: Path, *, as_json: bool) -> None:
    """Write each to FOLDER/JOB.NAME and print the path; `-` is standard output.

    What is there already, with the right hash, is left alone: the command can be run again.
    Raises Unreachable and Refused.
    """
    if str(folder) == "-":
        for job, artifact in _all(daemon, ids):
            for piece in _checked(daemon, job, artifact):
                sys.stdout.buffer.write(piece)
        sys.stdout.flush()
        return
    folder.mkdir(parents=True, exist_ok=True)
    for job, artifact in _all(daemon, counted(ids, "fetching", len(ids))):
        path = folder / f"{job}.{artifact.name}"
        if not (path.is_file() and _sha256(path) == artifact.sha256):
            _write(path, _checked(daemon, job, artifact))
        document = {"job": job, "name": artifact.name, "path": str(path), "size": artifact.size}
        typer.echo(msgspec.json.encode(document) if as_json else path)


def _all(daemon: Daemon, ids: Iterable[str]) -> Iterator[tuple[str, Artifact]]:
    for job in ids:
        for artifact in decode(daemon.get(f"/jobs/{job}/artifacts"), Listing).artifacts:
            if not (_PLAIN_NAME.fullmatch(artifact.name) and job.isalnum()):
                raise Refused(f"{job}: {artifact.name!r} is no name for a file")
            yield job, artifact


def _checked(daemon: Daemon, job: str, artifact: Artifact) -> Iterator[bytes]:
    """The bytes, taken up where they broke off. Raises Refused after the last if they are wrong."""
    digest, received = hashlib.sha256(), 0
    for piece in _resumed(daemon, f"/jobs/{job}/artifacts/{artifact.name}", artifact):
        digest.update(piece)
        received += len(piece)
        yield piece
    if digest.hexdigest() != artifact.sha256:
        raise Refused(
            f"{job}: {artifact.name} arrived damaged: {received} bytes of {artifact.size}, "
            f"sha256 {digest.hexdigest()} instead of {artifact.sha256}"
        )


def _resumed(daemon: Daemon, path: str, artifact: Artifact) -> Iterator[bytes]:
    outage, received = Outage(), 0
    while True:
        rest = {"Range": f"bytes={received}-", "If-Range": f'"{artifact.sha256}"'}
        try:
            with daemon.open("GET", path, headers=rest if received else None) as answer:
                outage.connected()
                if received and answer.status != 206:
                    raise Refused(f"{path} has changed while it was fetched")
                for piece in answer.pieces():
                    outage.over()
                    received += len(piece)
                    yield piece
                return
        except Unreachable as error:
            outage.struck(error)


def _write(path: Path, pieces: Iterator[bytes]) -> None:
    """Under its name only when it is whole and right."""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            file.writelines(pieces)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
