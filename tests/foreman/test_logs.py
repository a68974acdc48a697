import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from foreman import logs
from foreman.jobs import JobId

JOB = JobId("01JD000000000000000000TEST")
log = logging.getLogger("foreman.test")


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)


def run(program: str, redirect: str) -> subprocess.CompletedProcess[str]:
    """`program` after `from foreman import logs`, its streams redirected by the shell."""
    source = f"import logging, os, sys\nfrom foreman import logs\n{program}"
    return subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" -c "$1" {redirect}', sys.executable, source],
        stdout=subprocess.PIPE,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_json_line_holds_the_event_and_its_fields(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure(format="json")
    log.info("loaded %s", "qwen", extra={"seconds": 1.5})
    line = json.loads(capfd.readouterr().err)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "loaded qwen",
        "level": "info",
        "logger": "foreman.test",
        "seconds": 1.5,
    }


def test_a_console_line_has_no_colours_beside_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    log.warning("target away", extra={"reason": "asleep"})
    line = capfd.readouterr().err
    assert "\x1b" not in line
    assert line.split() == [
        *line.split()[:1],
        "[warning",
        "]",
        "target",
        "away",
        "[foreman.test]",
        "reason=asleep",
    ]


def test_lines_below_the_level_are_left_out(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure("warning")
    log.info("quiet")
    log.error("loud")
    assert "quiet" not in (seen := capfd.readouterr().err)
    assert "loud" in seen


def test_libraries_that_log_each_request_are_held_back(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure("debug")
    logging.getLogger("httpcore.connection").debug("send_request_headers.started")
    assert capfd.readouterr().err == ""


async def test_each_line_about_a_job_has_its_id_in_child_tasks_too(
    capfd: pytest.CaptureFixture[str],
) -> None:
    logs.configure(format="json")

    async def child() -> None:
        await trio.lowlevel.checkpoint()
        logging.getLogger("some.library").warning("inside")

    async with trio.open_nursery() as nursery:
        with logs.about(JOB):
            nursery.start_soon(child)
        log.info("outside")
    lines = {line["event"]: line for line in map(json.loads, capfd.readouterr().err.splitlines())}
    assert lines["inside"]["job"] == JOB
    assert "job" not in lines["outside"]


@pytest.mark.parametrize("format", ["console", "json"])
def test_a_secret_is_blotted_out_of_messages_fields_and_tracebacks(
    capfd: pytest.CaptureFixture[str], format: logs.Format
) -> None:
    secret = 'sésame "open"'
    logs.configure(format=format, secrets=[secret, "abc"])
    error = ValueError(f"Bearer {secret}")
    log.error("sent %s", secret, extra={"header": f"{secret} abc"}, exc_info=error)
    seen = capfd.readouterr().err
    assert "same" not in seen
    assert seen.count("[secret]") == 3
    assert "abc" in seen  # too short to blot out


def test_what_clients_choose_cannot_forge_a_line(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    log.info("no model %s", "x\n2026 [info] forged", extra={"model": "\x1b[2Jx"})
    seen = capfd.readouterr().err
    assert seen.count("\n") == 1
    assert "\x1b" not in seen
    assert r"x\n2026" in seen


def test_a_traceback_keeps_its_lines(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    try:
        _ = {"a": 1}["lane"]
    except KeyError:
        log.exception("crashed")
    lines = capfd.readouterr().err.splitlines()
    assert lines[1] == "Traceback (most recent call last):"
    assert lines[-1] == "KeyError: 'lane'"


def test_warnings_are_logged() -> None:
    done = run("logs.configure(); import warnings; warnings.warn('old wine')", "2>&1")
    assert "old wine" in done.stdout
    assert "[py.warnings]" in done.stdout


def test_a_wrong_logging_call_costs_its_own_line_only(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    log.info("%d jobs", "sesame-open")
    log.info("next")
    first, second = capfd.readouterr().err.splitlines()
    assert "test_logs.py" in first
    assert "cannot be logged" in first
    assert "sesame-open" not in first
    assert "next" in second


def test_configuring_twice_writes_each_line_once(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    logs.configure()
    log.info("once")
    assert capfd.readouterr().err.count("once") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a Linux device")
def test_a_full_log_disk_disturbs_nothing() -> None:
    done = run("logs.configure(); logging.warning('lost'); print('worked')", "2>/dev/full")
    assert (done.returncode, done.stdout) == (0, "worked\n")


def test_with_stderr_closed_no_file_of_ours_gets_the_logs(tmp_path: os.PathLike[str]) -> None:
    program = f"""
logs.configure()
file = open({os.fspath(tmp_path)!r} + "/database", "w")
logging.warning("lost")
print(file.fileno() > 2, file.tell(), sys.stderr is not None)
"""
    done = run(program, "2>&-")
    assert (done.returncode, done.stdout) == (0, "True 0 True\n")


def test_a_reader_that_has_stopped_does_not_stop_the_daemon() -> None:
    program = """
reader, writer = os.pipe()
os.dup2(writer, 2)
logs.configure()
for _ in range(300):
    logging.warning("x" * 1000)
print("worked")
"""
    done = run(program, "2>/dev/null")
    assert (done.returncode, done.stdout) == (0, "worked\n")


def test_importing_it_does_not_load_rich() -> None:
    done = run("print('rich' in sys.modules); import rich; print(rich.__name__)", "")
    assert done.stdout == "False\nrich\n"


LINES = """
for name in ("debug", "info", "warning", "error", "critical"):
    getattr(logging.getLogger("foreman.test"), name)("a %s line", name)
try:
    raise ValueError("a bug")
except ValueError:
    logging.getLogger("foreman.test").exception("crashed")
"""


def journalled(tmp_path: Path, settings: str, stream: str = "2") -> list[str]:
    """What a process that believes its stream `stream` to be the journal writes to it."""
    believe = f'found = os.fstat({stream}); os.environ["JOURNAL_STREAM"] = '
    believe += 'f"{found.st_dev}:{found.st_ino}"'
    path = tmp_path / "journal"
    run(f"{believe}\nlogs.configure({settings})\n{LINES}", f"2> {path}")
    return path.read_text().splitlines()


def test_in_the_journal_each_line_says_its_priority_and_no_time(tmp_path: Path) -> None:
    lines = journalled(tmp_path, '"debug"')
    assert [line[:3] for line in lines[:6]] == ["<7>", "<6>", "<4>", "<3>", "<2>", "<3>"]
    assert len(lines) > 6
    assert all(line.startswith("<3>") for line in lines[6:])  # the traceback
    assert lines[1].split() == ["<6>[info", "]", "a", "info", "line", "[foreman.test]"]


def test_json_in_the_journal_is_json(tmp_path: Path) -> None:
    lines = journalled(tmp_path, '"debug", "json"')
    assert len(lines) == 6
    assert all(json.loads(line)["timestamp"] for line in lines)


def test_a_file_beside_the_journal_is_not_taken_for_it(tmp_path: Path) -> None:
    lines = journalled(tmp_path, '"debug"', stream="1")
    assert lines[0][:4].isdigit()  # the year
