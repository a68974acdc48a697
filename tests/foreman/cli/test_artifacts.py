import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.foreman.cli.scripted import Reply
from tests.foreman.cli.scripted_jobs import JOB, OTHER

BODY = b'{"done":true}\n' * 100
AT = f"/jobs/{JOB}/artifacts/result.json"


def artifact(name: str = "result.json", body: bytes = BODY) -> dict[str, Any]:
    return {
        "name": name,
        "content_type": "application/json",
        "size": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
        "url": f"/jobs/{JOB}/artifacts/{name}",
    }


@pytest.fixture(autouse=True)
def _listed(daemon: Any) -> None:
    daemon.says(f"/jobs/{JOB}/artifacts", {"artifacts": [artifact()]})
    daemon.says(f"/jobs/{OTHER}/artifacts", {"artifacts": []})
    daemon.answers[AT] = (200, BODY)


def test_they_are_listed(foreman: Any, daemon: Any) -> None:
    heading, line = foreman("artifacts", JOB, OTHER).out.splitlines()
    assert heading.split() == ["JOB", "NAME", "TYPE", "SIZE", "SHA256"]
    assert line.split()[:4] == [JOB, "result.json", "application/json", "1400"]
    assert foreman("artifacts", OTHER).err == "no artifacts\n"
    [document] = foreman("artifacts", JOB, "--json").out.splitlines()
    assert json.loads(document) == {"artifacts": [artifact()]}


def test_they_are_written_under_the_jobs_name_and_a_second_time_not_fetched(
    foreman: Any, daemon: Any
) -> None:
    path = Path("results") / f"{JOB}.result.json"
    ran = foreman("artifacts", "-", "--to", "results", stdin=f"{JOB}\n{OTHER}\n")
    assert (ran.status, ran.out) == (0, f"{path}\n")
    assert path.read_bytes() == BODY
    fetched = len(daemon.requests)
    assert json.loads(foreman("artifacts", JOB, "--to", "results", "--json").out) == {
        "job": JOB,
        "name": "result.json",
        "path": str(path),
        "size": len(BODY),
    }
    assert len(daemon.requests) == fetched + 1
    path.write_bytes(b"something else")
    assert foreman("artifacts", JOB, "--to", "results").status == 0
    assert path.read_bytes() == BODY


def test_what_arrives_damaged_is_not_kept(foreman: Any, daemon: Any) -> None:
    daemon.answers[AT] = (200, BODY[:-1] + b"x")
    ran = foreman("artifacts", JOB, "--to", ".")
    assert (ran.status, ran.out) == (1, "")
    assert "arrived damaged: 1400 bytes of 1400" in ran.err
    assert list(Path().iterdir()) == []


def test_standard_output_gets_the_bytes_alone(foreman: Any, daemon: Any) -> None:
    assert foreman("artifacts", JOB, "--to", "-").out.encode() == BODY


def test_a_download_that_breaks_is_taken_up_by_range(foreman: Any, daemon: Any) -> None:
    half, rest = Reply((BODY[:500],), cut=True), Reply((BODY[500:],), 206)
    daemon.replies(f"GET {AT}", half, Reply(status=206, cut=True), rest)
    assert foreman("artifacts", JOB, "--to", ".").status == 0
    assert Path(f"{JOB}.result.json").read_bytes() == BODY
    assert daemon.requests[-1].headers["range"] == "bytes=500-"
    assert daemon.requests[-1].headers["if-range"] == f'"{artifact()["sha256"]}"'


def test_a_file_that_changed_meanwhile_is_not_patched_together(foreman: Any, daemon: Any) -> None:
    daemon.replies(f"GET {AT}", Reply((BODY[:500],), cut=True), Reply((BODY,), 200))
    ran = foreman("artifacts", JOB, "--to", ".")
    assert ran.status == 1
    assert "changed while it was fetched" in ran.err


@pytest.mark.parametrize("name", ["../evil", "a/b", ".hidden", "", "x\0y"])
def test_a_name_that_leads_elsewhere_is_refused(foreman: Any, daemon: Any, name: str) -> None:
    daemon.says(f"/jobs/{JOB}/artifacts", {"artifacts": [artifact(name)]})
    ran = foreman("artifacts", JOB, "--to", "here")
    assert ran.status == 1
    assert list(Path("here").iterdir()) == []
