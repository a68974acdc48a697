"""The container image, as far as it can be tried without anything that builds or runs one."""

import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

import foreman
from tests.deploy import dockerfile
from tests.deploy.dockerfile import DOCKERFILE, ROOT
from tests.fakes.daemon import PATIENCE, SMALL

BIN = Path(sys.executable).parent
NOBODY = "http://127.0.0.1:9"  # discard: no target is there
READ_ONLY = """
mount --bind "$FOREMAN_DATA_DIR" "$FOREMAN_DATA_DIR"
mount -o remount,bind,ro /
exec setpriv --no-new-privs --bounding-set=-all --inh-caps=-all -- "$@"
"""
"""Becomes a command that can write to the data folder alone, and has no capability."""


def program(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def alone() -> Sequence[str]:
    """What stands before the command: READ_ONLY where this machine lets us, else nothing."""
    probe = ["unshare", "--mount", "sh", "-c", "mount --bind /tmp /tmp && setpriv --dump"]
    able = shutil.which("unshare") is not None and program(*probe).returncode == 0
    return ["unshare", "--mount", "sh", "-ec", READ_ONLY, "sh"] if able else []


def surroundings(data_dir: Path, **settings: str) -> dict[str, str]:
    """The image's environment, with the virtual environment of the tests in front."""
    small = {f"FOREMAN_{name.upper()}": str(value) for name, value in SMALL.items()}
    own = {"FOREMAN_DATA_DIR": str(data_dir), "PATH": f"{BIN}:{os.environ['PATH']}"}
    return dockerfile.environment() | small | own | settings


@asynccontextmanager
async def running(
    environment: Mapping[str, str], folder: Path
) -> AsyncGenerator[tuple[trio.Process, str]]:
    """ENTRYPOINT and CMD, and where they serve."""
    process = await trio.lowlevel.open_process(
        [*alone(), *dockerfile.command()], env=environment, cwd=folder, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    try:
        with trio.fail_after(PATIENCE):
            said = b""
            while b"serving on http://" not in said or not said.endswith(b"\n"):
                piece = await process.stderr.receive_some()
                assert piece, said.decode()
                said += piece
            yield process, said.partition(b"serving on http://")[2].split()[0].decode()
    finally:
        process.kill()
        with trio.move_on_after(PATIENCE, shield=True):
            await process.wait()


async def check(environment: Mapping[str, str], listen: str) -> subprocess.CompletedProcess[bytes]:
    """HEALTHCHECK, as the image is told to listen."""
    return await trio.run_process(
        dockerfile.health(),
        env={**environment, "FOREMAN_LISTEN": listen},
        check=False,
        capture_stderr=True,
    )


def test_hadolint_finds_nothing() -> None:
    found = program(BIN / "hadolint", DOCKERFILE)
    assert (found.returncode, found.stdout) == (0, "")


@pytest.mark.parametrize("script", sorted((ROOT / "deploy").rglob("*.sh")), ids=lambda s: s.name)
def test_shellcheck_finds_nothing(script: Path) -> None:
    found = program(BIN / "shellcheck", script)
    assert (found.returncode, found.stdout) == (0, "")


def test_the_image_says_what_is_true_of_it() -> None:
    image, environment = dockerfile.image(), dockerfile.environment()
    user, _, group = image["USER"].partition(":")
    assert int(user) > 0 < int(group)  # numbers: runAsNonRoot cannot look names up
    assert image["VOLUME"] == environment["FOREMAN_DATA_DIR"]
    assert image["EXPOSE"] == environment["FOREMAN_LISTEN"].rpartition(":")[2]
    assert image["STOPSIGNAL"] == "SIGTERM"
    assert image["ARG"] == f"VERSION={foreman.__version__}"
    labels = dict(word.split("=", 1) for word in dockerfile.Instruction("", image["LABEL"]).words)
    assert labels["org.opencontainers.image.version"] == "${VERSION}"
    assert "org.opencontainers.image.licenses" in labels


def test_both_stages_stand_on_one_base_pinned_by_its_tag() -> None:
    [base] = {stage[0].words[0] for stage in dockerfile.stages()}
    assert base == "${BASE}"
    _, _, tag = DOCKERFILE.read_text().partition("ARG BASE=")[2].split()[0].partition(":")
    assert tag.startswith("3.")
    assert f"Python :: {tag.partition('-')[0]}" in (ROOT / "pyproject.toml").read_text()


def test_the_context_is_what_the_image_copies_and_nothing_else() -> None:
    ignored, *lines = (
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    )
    assert ignored == "*"
    kept = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert kept == {source for source, _ in dockerfile.copies()}
    assert all((ROOT / each).exists() for each in kept)


def test_what_is_copied_is_enough_for_a_wheel_with_every_file_of_the_packages(
    tmp_path: Path,
) -> None:
    context = tmp_path / "context"
    context.mkdir()
    for source, _ in dockerfile.copies():
        if (ROOT / source).is_dir():
            unwanted = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / source, context / source, ignore=unwanted)
        elif "/" not in source:
            shutil.copy(ROOT / source, context)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    made = program(BIN / "python", "-m", "pip", "wheel", *options, "--wheel-dir", tmp_path, context)
    assert made.returncode == 0, made.stderr
    [wheel] = tmp_path.glob("*.whl")
    packages = [context / "foreman", context / "actors"]
    files = {file for package in packages for file in package.rglob("*") if file.is_file()}
    wanted = {str(file.relative_to(context)) for file in files}
    assert wanted <= set(zipfile.ZipFile(wheel).namelist())


def test_without_a_token_it_says_what_to_set_and_ends(tmp_path: Path) -> None:
    ended = subprocess.run(
        dockerfile.command(),
        env=surroundings(tmp_path),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ended.returncode == 4
    assert "set FOREMAN_TOKEN=name:secret" in ended.stderr
    assert list(tmp_path.iterdir()) == []


async def test_it_works_on_a_read_only_disk_is_healthy_without_its_target_and_stops_on_sigterm(
    tmp_path: Path,
) -> None:
    listen = {"FOREMAN_LISTEN": "127.0.0.1:0", "FOREMAN_OLLAMA_URL": NOBODY}
    environment = surroundings(tmp_path / "data", FOREMAN_TOKEN="me:s3cret", **listen)
    (tmp_path / "data").mkdir()
    async with running(environment, tmp_path) as (process, address):
        well = await check(environment, address)
        assert (well.returncode, well.stderr) == (0, b"")
        process.send_signal(getattr(signal, dockerfile.image()["STOPSIGNAL"]))
        with trio.fail_after(10):
            assert await process.wait() == 0
        gone = await check(environment, address)
        assert gone.returncode == 1
        assert f"no answer on port {address.rpartition(':')[2]}".encode() in gone.stderr
    assert (tmp_path / "data/foreman.db").exists()


async def test_an_answer_that_is_not_200_is_not_healthy() -> None:
    async def refuse(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")

    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, refuse, [listener])
        _, port = listener.socket.getsockname()
        sick = await check(dict(os.environ), f"0.0.0.0:{port}")
        nursery.cancel_scope.cancel("it was asked")
    assert sick.returncode == 1
    assert b"answered HTTP/1.1 503" in sick.stderr
