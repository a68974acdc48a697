import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from foreman.embedded.script import Hang, LoadFailure, ModelScript, Script
from tests.fakes.servers import daemon_process, serving
from tests.foreman.cli.terminals import terminal

NOWHERE = "http://127.0.0.1:9"
SCRIPT = Script(
    models=(
        ModelScript(name="small:latest", load_seconds=0.05, token_seconds=0.002, tokens=10, size=1),
        ModelScript(name="big:latest", load_seconds=0.1, token_seconds=0.002, tokens=10, size=2),
        ModelScript(name="embedder:latest", capabilities=("embedding",), embed_seconds=0.001),
        ModelScript(name="faraway:cloud", remote=True),
    )
)
FEW = ("--runs", "1", "--tokens", "5", "--yes")


@pytest.fixture(autouse=True)
def _settings(foreman: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREMAN_URL", NOWHERE)
    monkeypatch.setenv("FOREMAN_OLLAMA_URL", NOWHERE)


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with serving(SCRIPT, max_loaded=2) as (url, target):
        monkeypatch.setenv("FOREMAN_OLLAMA_URL", url)
        yield target


def test_without_a_daemon_the_target_is_asked_itself(foreman: Any, target: Any) -> None:
    ran = foreman("bench-target", "--embed", "embedder", *FEW)
    assert ran.status == 0
    assert "straight to the target" in ran.err
    assert "loads and unloads small:latest, big:latest (loaded now: nothing)" in ran.err
    lines = ran.out.splitlines()
    assert lines[0].split() == ["MODEL", "LOAD", "SWAP", "FIRST", "TOKEN", "PROMPT", "OUTPUT"]
    assert [line.split()[0] for line in lines[1:3]] == ["small:latest", "big:latest"]
    assert "beside" in lines[1]
    assert any(line.startswith("embedder:latest") and "texts/s" in line for line in lines)
    assert any(line.startswith("small:latest: ") and "calls an hour" in line for line in lines)
    assert "Set FOREMAN_EMBED_MODEL=embedder:latest" in ran.out


def test_json_has_every_figure(foreman: Any, target: Any) -> None:
    ran = foreman("bench-target", "small", "--json", *FEW)
    document = json.loads(ran.out)
    [model] = document["report"]["models"]
    assert (document["report"]["way"], model["model"]) == ("direct", "small:latest")
    assert model["load"] == pytest.approx(target.oracle.loads[0].seconds, abs=0.02)
    assert model["swap"] is None
    assert document["report"]["embedding"] is None
    assert [each["key"] for each in document["advice"]] == ["FOREMAN_EMBED_MODEL"]
    assert document["calls_an_hour"] is None


def test_through_a_daemon_it_stands_in_line_and_sees_what_foreman_adds(
    foreman: Any, target: Any, monkeypatch: Any, tmp_path: Path
) -> None:
    upstream = os.environ["FOREMAN_OLLAMA_URL"]
    with daemon_process(tmp_path / "data", upstream) as url:
        monkeypatch.setenv("FOREMAN_URL", url)
        ran = foreman("bench-target", "small", "big", "--json", *FEW)
        again = foreman("bench-target", "small", "--json", *FEW)
        direct = foreman("bench-target", "small", "--way", "direct", *FEW)
    document = json.loads(ran.out)
    report = document["report"]
    assert (ran.status, report["way"]) == (0, "daemon")
    assert f"through foreman at {url}" in ran.err
    small, big = report["models"]
    loads = [load.seconds for load in target.oracle.loads]
    assert (small["load"], big["load"]) == pytest.approx(loads[:2], abs=0.05)
    assert report["overhead"] is not None
    assert (document["mix"], report["unmeasured"]) == ({}, [])
    assert json.loads(again.out)["mix"]["big:latest"]["count"] > 0
    assert json.loads(again.out)["calls_an_hour"] > 0
    assert "will evict each other's models" in direct.err


def test_nobody_there_is_status_3(foreman: Any) -> None:
    ran = foreman("bench-target", *FEW)
    assert (ran.status, ran.out) == (3, "")
    assert f"no answer from {NOWHERE} nor {NOWHERE}" in ran.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nope"], "nope is not installed"),
        (["small", "--embed", "nope"], "nope is not installed"),
        (["a:b:c:local:cloud"], "not both"),
    ],
)
def test_a_strange_model_is_wrong_usage(
    foreman: Any, target: Any, arguments: list[str], words: str
) -> None:
    ran = foreman("bench-target", *arguments, *FEW)
    assert ran.status == 2
    assert words in " ".join(ran.err.replace("│", " ").split())


def test_no_model_to_measure_is_said(foreman: Any, monkeypatch: Any) -> None:
    with serving(Script(models=())) as (url, _):
        monkeypatch.setenv("FOREMAN_OLLAMA_URL", url)
        ran = foreman("bench-target", *FEW)
    assert ran.status == 1
    assert "no model that chats" in ran.err


def test_what_was_measured_before_a_failure_is_shown(foreman: Any, monkeypatch: Any) -> None:
    script = Script(models=SCRIPT.models, faults=(LoadFailure(model="big", text="out of memory"),))
    with serving(script) as (url, _):
        monkeypatch.setenv("FOREMAN_OLLAMA_URL", url)
        ran = foreman("bench-target", *FEW)
    assert ran.status == 1
    assert "out of memory" in ran.err
    assert "small:latest" in ran.out
    assert "Not measured: what was still to come." in ran.out


def test_ctrl_c_cancels_the_call_and_shows_what_there_is(foreman: Any, monkeypatch: Any) -> None:
    script = Script(models=SCRIPT.models, faults=(Hang(model="big", after_tokens=2),))
    with serving(script) as (url, target):
        monkeypatch.setenv("FOREMAN_OLLAMA_URL", url)
        command = [sys.executable, "-m", "actors", "bench-target", *FEW]
        pythonpath = {"PYTHONPATH": str(Path(__file__).parents[3])}
        with subprocess.Popen(
            command,
            env=os.environ | pythonpath,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            try:
                assert process.stderr is not None
                for line in process.stderr:
                    if b"big:latest: loading" in line:
                        break
                patience = threading.Event()
                while not any(each.model == "big:latest" for each in target.oracle.calls):
                    assert not patience.wait(0.01)
                process.send_signal(signal.SIGINT)
                out, err = process.communicate(timeout=30)
            finally:
                process.kill()
        while not target.oracle.cancelled:
            assert not patience.wait(0.01)
    assert process.returncode == 130
    assert b"interrupted" in err
    assert out.startswith(b"MODEL")
    assert b"small:latest" in out
    assert b"Not measured: what was still to come." in out


def test_on_a_terminal_it_asks_first(target: Any) -> None:
    with terminal("bench-target", "small", "--runs", "1", "--tokens", "5") as screen:
        screen.until(b"Go on? [y/N]: ")
        screen.type(b"n\n")
        screen.rest()
    assert not target.oracle.loads
    with terminal("bench-target", "small", "--runs", "1", "--tokens", "5") as screen:
        screen.until(b"Go on? [y/N]: ")
        screen.type(b"y\n")
        shown = screen.rest()
    assert b"small:latest" in shown
    assert target.oracle.loads
