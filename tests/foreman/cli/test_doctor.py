import json
from pathlib import Path
from typing import Any

import pytest

from foreman.cli.exits import MEANINGS, Exit
from foreman.doctor.checks import NAMES
from tests.fakes.servers import serving
from tests.foreman.cli.terminals import terminal

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def _settings(foreman: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FOREMAN_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("FOREMAN_LISTEN", "127.0.0.1:0")
    monkeypatch.setenv("FOREMAN_URL", NOWHERE)
    monkeypatch.setenv("FOREMAN_OLLAMA_URL", NOWHERE)


def test_a_finding_is_told_with_its_why_and_what_to_do(foreman: Any) -> None:
    ran = foreman("doctor", "--only", "target", "--only", "settings")
    assert ran.status == int(Exit.PROBLEMS) == 8
    assert ran.err == ""
    lines = ran.out.splitlines()
    assert lines[:4] == ["", "Settings", lines[2], ""]
    assert lines[2].startswith("ok       settings        3 set")
    assert lines[4] == "Target"
    assert lines[5].startswith(f"problem  target          no answer from the target at {NOWHERE}")
    assert lines[6].split()[0] == "why:"
    assert lines[7].split()[:3] == ["do:", "Start", "it"]
    assert lines[-1] == "1 problem, 1 of 2 checks fine"


def test_the_worst_finding_decides_the_status(foreman: Any, monkeypatch: Any) -> None:
    assert foreman("doctor", "--only", "settings").status == 0
    ran = foreman("doctor", "--only", "daemon")
    assert (ran.status, ran.out.splitlines()[-1]) == (7, "1 warning, 0 of 1 checks fine")
    assert foreman("doctor", "--only", "daemon", "--only", "target").status == 8
    with serving() as (url, _):
        monkeypatch.setenv("FOREMAN_OLLAMA_URL", url)
        ran = foreman("doctor", "--only", "embed-model")
    assert (ran.status, ran.out.splitlines()[-1]) == (0, "1 note, 0 of 1 checks fine")


def test_json_says_the_same(foreman: Any) -> None:
    ran = foreman("doctor", "--json")
    document = json.loads(ran.out)
    assert (ran.status, document["status"]) == (8, "problem")
    assert [each["name"] for each in document["checks"]] == list(NAMES)
    checks = {each["name"]: each for each in document["checks"]}
    [finding] = checks["target"]["findings"]
    assert finding.keys() == {"code", "severity", "found", "why", "do"}
    assert (finding["code"], finding["severity"]) == ("target-unreachable", "problem")
    assert checks["settings"] == {
        "name": "settings",
        "group": "Settings",
        "status": "ok",
        "findings": [],
        "fine": ["3 set, the others at their defaults"],
        "unseen": [],
    }
    assert checks["models"]["unseen"] == ["the target does not answer"]


def test_what_cannot_be_seen_is_said_and_is_no_finding(foreman: Any) -> None:
    ran = foreman("doctor", "--only", "models")
    assert ran.status == 0
    assert "unseen   models          the target does not answer" in ran.out
    assert ran.out.splitlines()[-1] == "0 of 1 checks fine, 1 could not see all"


def test_a_check_that_there_is_not_is_wrong_usage(foreman: Any) -> None:
    ran = foreman("doctor", "--only", "fsink")
    assert ran.status == 2
    assert "fsink" in ran.err
    assert "fsync" in ran.err


def test_loading_is_announced(foreman: Any, monkeypatch: Any) -> None:
    with serving() as (url, target):
        monkeypatch.setenv("FOREMAN_OLLAMA_URL", url)
        monkeypatch.setenv("FOREMAN_EMBED_MODEL", "embedder")
        ran = foreman("doctor", "--only", "two-slots", "--load")
    assert ran.status == 0
    assert "models are loaded now" in ran.err
    assert len(target.oracle.loads) == 2


def test_wrong_settings_are_a_finding_and_no_end(foreman: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("FOREMAN_LINGR", "1")
    ran = foreman("doctor")
    assert ran.status == 8
    assert "FOREMAN_LINGER?" in ran.out
    assert "Machine" in ran.out


def test_a_terminal_gets_colours_and_sees_which_check_runs() -> None:
    with terminal("doctor", "--only", "target", "--only", "settings") as screen:
        shown = screen.rest()
    assert b"\x1b[1;31mproblem" in shown
    assert b"\x1b[2mDoes it answer, and is it an Ollama server" in shown


def test_the_statuses_are_documented() -> None:
    assert MEANINGS[Exit.WARNED] == "doctor warns"
    assert MEANINGS[Exit.PROBLEMS] == "doctor found problems"
