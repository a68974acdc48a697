"""Artifacts over HTTP: only one's own, only by their names, in pieces, in constant memory."""

import hashlib
import os
import tracemalloc
from pathlib import Path

import msgspec
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foreman.api.kept_results import BLOCK
from foreman.jobs import JobId
from tests.fakes.desk import Heard, ReadingDesk

BODY = bytes(range(256)) * 3
JSON = "application/json; charset=utf-8"


@pytest.fixture
def desk(tmp_path: Path) -> ReadingDesk:
    return ReadingDesk(tmp_path)


def place(job: JobId, name: str = "result.json") -> str:
    return f"/jobs/{job}/artifacts/{name}"


@pytest.mark.parametrize("in_file", [False, True])
async def test_the_bytes_come_as_the_target_sent_them(desk: ReadingDesk, in_file: bool) -> None:
    job = desk.done(desk.working(), BODY, JSON, in_file=in_file)
    heard = await desk.get(place(job))
    assert (heard.status, heard.body, heard.whole) == (200, BODY, True)
    assert heard.headers == {
        "etag": f'"{hashlib.sha256(BODY).hexdigest()}"',
        "accept-ranges": "bytes",
        "content-type": JSON,
        "x-content-type-options": "nosniff",
        "content-length": str(len(BODY)),
    }


@pytest.mark.parametrize("in_file", [False, True])
async def test_a_range_gets_its_bytes(desk: ReadingDesk, in_file: bool) -> None:
    job = desk.done(desk.working(), BODY, JSON, in_file=in_file)
    heard = await desk.get(place(job), range="bytes=250-259")
    assert (heard.status, heard.body) == (206, BODY[250:260])
    assert heard.headers["content-range"] == f"bytes 250-259/{len(BODY)}"
    assert heard.headers["content-length"] == "10"


async def test_a_range_beyond_the_end_is_refused_with_the_size(desk: ReadingDesk) -> None:
    job = desk.done(desk.working(), BODY, JSON)
    heard = await desk.get(place(job), range="bytes=5000-")
    assert heard.status == 416
    assert heard.headers["content-range"] == f"bytes */{len(BODY)}"
    assert msgspec.json.decode(heard.body)["code"] == "range_not_satisfiable"


async def test_a_download_that_broke_off_goes_on_where_it_was(desk: ReadingDesk) -> None:
    job = desk.done(desk.working(), BODY, JSON, in_file=True)
    first = await desk.get(place(job), range="bytes=0-99")
    etag = first.headers["etag"]
    rest = await desk.get(place(job), range="bytes=100-", if_range=etag)
    assert first.body + rest.body == BODY
    other = await desk.get(place(job), range="bytes=100-", if_range='"of another result"')
    assert (other.status, other.body) == (200, BODY)


async def test_who_has_it_already_is_told_so(desk: ReadingDesk) -> None:
    job = desk.done(desk.working(), BODY, JSON)
    etag = (await desk.get(place(job), method="HEAD")).headers["etag"]
    heard = await desk.get(place(job), if_none_match=etag)
    assert (heard.status, heard.body, heard.whole) == (304, b"", True)
    assert "content-length" not in heard.headers


@pytest.mark.parametrize("span", ["", "bytes=1-2", "bytes=5000-"])
async def test_a_head_gets_the_headers_of_the_whole(desk: ReadingDesk, span: str) -> None:
    job = desk.done(desk.working(), BODY, JSON, in_file=True)
    heard = await desk.get(place(job), method="HEAD", range=span)
    assert (heard.status, heard.body, heard.whole) == (200, b"", True)
    assert heard.headers["content-length"] == str(len(BODY))


# ---------------------------------------------------------------- whose, and by which name


async def test_somebody_elses_artifact_is_not_there(desk: ReadingDesk) -> None:
    """Row C64."""
    job = desk.done(desk.working(owner="ann"), BODY, JSON)
    assert (await desk.get(place(job), owner="ann")).status == 200
    assert (await desk.get(place(job), owner=None)).status == 200
    for path in (place(job), f"/jobs/{job}/output"):
        theirs = await desk.get(path, owner="bob")
        missing = await desk.get(path.replace(job, "01J00000000000000000000000"), owner="bob")
        assert theirs.status == missing.status == 404
        assert theirs.body.replace(job.encode(), b"") == missing.body.replace(
            b"01J00000000000000000000000", b""
        )


@pytest.mark.parametrize(
    "name",
    [
        "result.ndjson",
        "",
        ".",
        "..",
        "../../../etc/passwd",
        "..\\..\\x",
        "result.json\0",
        "RESULT.JSON",
        "result.json ",
        "%2e%2e",
        "result.json.draft",
    ],
)
async def test_a_name_that_is_no_artifact_of_the_job_is_not_there(
    desk: ReadingDesk, name: str
) -> None:
    """Row C64: the name is compared with the row's and never becomes a path."""
    job = desk.done(desk.working(), BODY, JSON, in_file=True)
    if "/" in name:
        with pytest.raises(AssertionError, match="table of routes"):
            await desk.get(place(job, name))
    else:
        assert (await desk.get(place(job, name))).status == 404


@given(st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"])))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
async def test_no_name_opens_another_file(desk: ReadingDesk, name: str) -> None:
    """Row C64."""
    job = desk.done(desk.working(), BODY, JSON, in_file=True)
    for path in (place(job, name), place(JobId(name))):
        heard = await desk.get(path)
        assert heard.status == 404 or name == "result.json"


# ---------------------------------------------------------------- what may be wrong with the disk


async def test_a_file_that_is_gone_or_changed_is_told_and_not_sent(
    desk: ReadingDesk, tmp_path: Path
) -> None:
    for damage in (Path.unlink, lambda path: os.truncate(path, 5), make_directory):
        job = desk.done(desk.working(), BODY, JSON, in_file=True)
        damage(tmp_path / "artifacts" / job[-2:] / f"{job}.1")
        heard = await desk.get(place(job))
        assert heard.status == 500
        assert msgspec.json.decode(heard.body)["code"] == "artifact_damaged"


async def test_a_row_that_is_damaged_is_told_and_not_sent(desk: ReadingDesk) -> None:
    job = desk.done(desk.working(), BODY, JSON)
    desk.connection.execute("UPDATE results SET body = x'00'")
    heard = await desk.get(place(job))
    assert (heard.status, heard.whole) == (500, True)
    assert msgspec.json.decode(heard.body)["code"] == "store_error"


def make_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


async def test_a_file_that_shrinks_while_it_is_sent_is_cut_and_never_made_up(
    desk: ReadingDesk, tmp_path: Path
) -> None:
    job = desk.done(desk.working(), bytes(3 * BLOCK), JSON, in_file=True)
    path = tmp_path / "artifacts" / job[-2:] / f"{job}.1"
    async with desk.following(place(job)) as heard:
        while not heard.pieces:
            await trio.lowlevel.checkpoint()
        os.truncate(path, BLOCK)
    assert not heard.whole


class Forgetful(Heard):
    """A client that keeps nothing of what it gets."""

    def take(self, piece: bytes) -> None:
        pass


async def test_a_large_artifact_takes_no_more_memory_than_a_small_one(desk: ReadingDesk) -> None:
    """Row C47: a reader costs a block, however slow he is and however large the file."""
    job = desk.done(desk.working(), bytes(100 * BLOCK), JSON, in_file=True)
    heard = Forgetful()
    tracemalloc.start()
    try:
        await desk.get(place(job), heard=heard)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert heard.whole
    assert peak < 3 * BLOCK
