"""`foreman llm ...` against a scripted Ollama, and a provider that is not there."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.foreman.cli.scripted import FakeDaemon, Reply, lines

DEAD = "ollama://127.0.0.1:9"
END = {"done": True, "done_reason": "stop", "prompt_eval_count": 10, "eval_count": 20}
SETTINGS = """
[aliases]
home = "attic/m, box/m"
[prices]
box = { input = 1.0, output = 2.0 }
"cloud/x" = { input = 3, output = 15 }
[tiers]
box = "local"
"""


@dataclass
class Llm:
    """The command, and the target that `box` is."""

    run: Any
    target: FakeDaemon
    folder: Path

    def __call__(self, *words: str, stdin: str = "") -> Any:
        return self.run("llm", *words, stdin=stdin)

    def json(self, *words: str) -> Any:
        ran = self(*words, "--json")
        assert ran.status == 0, ran.err
        return json.loads(ran.out)

    def answers(self, *words: str, times: int = 1) -> None:
        said = [{"message": {"role": "assistant", "content": each}} for each in words]
        for _ in range(times):
            pieces = lines(*said, {"message": {"role": "assistant", "content": ""}, **END})
            self.target.replies("POST /api/chat", Reply(pieces))


@pytest.fixture(name="llm")
def _llm(foreman: Any, daemon: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Llm:
    for key in [key for key in os.environ if key.startswith(("LLM_", "XDG_"))]:
        monkeypatch.delenv(key)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LLM_BOX", daemon.url.replace("http://", "ollama://s3cret-token@"))
    monkeypatch.setenv("LLM_ATTIC", DEAD)
    (tmp_path / "llm.toml").write_text(SETTINGS)
    return Llm(foreman, daemon, tmp_path)


def test_an_answer_is_printed_and_beside_it_where_it_came_from(llm: Llm) -> None:
    llm.answers("Hel", "lo.")

    ran = llm("ask", "home", "Hi there")

    assert (ran.status, ran.out) == (0, "Hello.\n")
    first, *others = ran.err.splitlines()
    assert first.startswith("answered by box/m: ")
    assert first.endswith(" 10 + 20 tokens, 0.00005 USD")
    assert others == ["not by attic/m: all attempts to connect to 127.0.0.1:9 failed"]
    assert llm.target.requests[0].headers["authorization"] == "Bearer s3cret-token"


def test_what_is_asked_is_what_was_wanted(llm: Llm) -> None:
    llm.answers("Hi")

    ran = llm(
        "ask", "box/m", "-", "--instructions", "Be brief.", "--max-tokens", "7",
        "--temperature", "0", stdin="from a pipe",
    )  # fmt: skip

    assert ran.status == 0
    asked = llm.target.requests[0].json
    assert [each["content"] for each in asked["messages"]] == ["Be brief.", "from a pipe"]
    assert asked["options"] == {"num_predict": 7, "temperature": 0.0}


def test_json_has_the_whole_answer_and_its_history(llm: Llm) -> None:
    llm.answers("Hi")

    found = llm.json("ask", "home", "Hello")

    assert (found["target"], found["text"], found["finish"]) == ("box/m", "Hi", "stop")
    assert found["cost"] == {"amount": pytest.approx(0.00005), "unit": "USD"}
    assert found["usage"]["output"] == 20
    assert [(each["target"], each["called"]) for each in found["history"]] == [
        ("attic/m", True)
    ] * 2


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (("ask", "attic/m", "Hi"), 3, "no target answered:"),
        (("ask", "box/m", "Hi"), 1, "box/m: status 404"),
        (("ask", "nobody/m", "Hi"), 4, "LLM_NOBODY is not set"),
        (("ask", "nobody", "Hi"), 4, "there is no alias 'nobody'"),
        (("ask", "box/m", " "), 2, "the prompt is empty"),
        (("ask", "box/m", "Hi", "--timeout", "soon"), 2, "soon"),
        (("ask", "box/m", "Hi", "--image", "none.png"), 1, "none.png"),
        (("ask", "box/m", "Hi", "--settings", "none.toml"), 4, "none.toml"),
        (("cost", "nobody/m", "Hi"), 4, "LLM_NOBODY is not set"),
        (("stats",), 4, "there is no request log here"),
        (("log", "--since", "yesterday"), 2, "yesterday"),
        (("stats", "--range", "last_2d"), 2, "last_2d"),
    ],
)
def test_what_goes_wrong_is_said_with_its_exit_status(
    llm: Llm, words: tuple[str, ...], status: int, says: str
) -> None:
    ran = llm(*words)

    assert ran.status == status
    assert says in ran.err
    assert "s3cret" not in ran.err + ran.out


def test_an_answer_that_takes_too_long_is_given_up(llm: Llm) -> None:
    ran = llm("ask", "box/m", "Hi", "--timeout", "0s")

    assert (ran.status, ran.err) == (6, "foreman: no whole answer within 0s\n")


def test_every_provider_is_tried_and_what_is_wrong_is_said(
    llm: Llm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_ODD", "nosuch://t0ken@h")
    monkeypatch.setenv("LLM_TIMEOUT", "2m0s")
    llm.target.says("/api/tags", {"models": [{"name": "m:latest"}]})

    ran = llm("check")

    assert ran.status == 1
    rows = {line.split()[0]: line for line in ran.out.splitlines()}
    assert list(rows) == ["PROVIDER", "attic", "box", "odd"]
    assert rows["box"].endswith("well: 1 model")
    assert "all attempts to connect" in rows["attic"]
    assert "LLM_ODD: no scheme 'nosuch' among: anthropic, foreman" in rows["odd"]
    assert ran.err.endswith("foreman: 2 of 3 cannot be used\n")
    assert "t0ken" not in ran.out + ran.err


def test_one_provider_alone_is_tried_on_demand(llm: Llm) -> None:
    llm.target.says("/api/tags", {"models": []})

    [found] = llm.json("check", "box")

    assert (found["name"], found["models"], found["problem"]) == ("box", 0, "")


def test_without_providers_it_says_how_to_define_one(
    llm: Llm, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("LLM_BOX", "LLM_ATTIC"):
        monkeypatch.delenv(key)
    (llm.folder / "llm.toml").unlink()

    assert "LLM_NAME=scheme://token@host" in llm("check").err
    assert "LLM_NAME=scheme://token@host" in llm("providers").err


def test_providers_are_listed_with_how_they_did(llm: Llm) -> None:
    llm.answers("Hi")
    assert llm("ask", "home", "Hello").status == 0

    ran = llm("providers")

    rows = {line.split()[0]: line for line in ran.out.splitlines()}
    assert list(rows) == ["PROVIDER", "attic", "box", "cloud", "cloud/x"]
    assert "s3cret...***" in rows["box"]
    assert "1 USD" in rows["box"]
    assert "local" in rows["box"]
    assert rows["box"].endswith("answered")
    assert rows["attic"].endswith("all attempts to connect to 127.0.0.1:9 failed")
    assert "unknown" in rows["attic"]
    assert rows["cloud/x"].endswith("untried")
    assert "s3cret-token" not in ran.out
    assert len(llm.target.requests) == 1


def test_a_cost_is_known_before_anybody_is_called(
    llm: Llm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_CLOUD", "openai://key@127.0.0.1:9/v1")

    found = llm.json("cost", "home,cloud/x", "x" * 400, "--max-tokens", "100")
    table = llm("cost", "home,cloud/x", "x" * 400).out

    assert [(each["target"], each["input"], each["output"]) for each in found] == [
        ("attic/m", 100, 100),
        ("box/m", 100, 100),
        ("cloud/x", 100, 100),
    ]
    costs = [each["cost"] and each["cost"]["amount"] for each in found]
    assert costs == [None, pytest.approx(0.0003), pytest.approx(0.0018)]
    row = ["box/m", "local", "100", "256", "1", "2", "0.000612", "USD"]
    assert table.splitlines()[2].split() == row
    assert table.splitlines()[1].endswith("unknown")
    assert llm.target.requests == []


def test_the_log_tells_what_was_asked_and_the_stats_what_it_came_to(llm: Llm) -> None:
    llm.answers("Hi", times=2)
    assert [llm("ask", spec, "Hello").status for spec in ("home", "box/m", "attic/m")] == [0, 0, 3]

    log, stats = llm("log").out.splitlines(), llm("stats").out.splitlines()
    [failed] = llm.json("log", "--failed")["requests"]
    page = llm.json("log", "--per-page", "2", "--page", "2")

    assert len(log) == 4
    assert "not attic/m: all attempts" in log[3]
    assert [line.split()[:3] for line in stats[1:]] == [
        ["m", "3", "67"],
        ["x", "0", "-"],
        ["all", "3", "67"],
    ]
    assert stats[-1].endswith("0.0001 USD")
    assert (failed["model"], failed["success"]) == ("m", False)
    assert (page["total"], page["pages"], len(page["requests"])) == (3, 2, 1)
    assert llm("stats", "--model", "zzz").status == 1
    assert llm.json("stats", "--provider", "BOX", "--group-by", "tier")["groups"].keys() == {
        "local"
    }
    assert llm("log", "--until", "2001-01-01", "--since", "2000-01-01").out == ""


def test_nothing_is_logged_where_the_settings_say_so(llm: Llm) -> None:
    (llm.folder / "llm.toml").write_text("[log]\noff = true\n")
    llm.answers("Hi")

    assert llm("ask", "box/m", "Hello").status == 0
    assert not list(llm.folder.rglob("*.db"))
    assert "requests are not logged" in llm("log").err


def test_settings_may_have_providers_and_env_files_their_secrets(llm: Llm) -> None:
    file = llm.folder / "other.toml"
    file.write_text(
        f'[providers]\nmine = "ollama://${{MY_TOKEN}}@127.0.0.1:{llm.target.url.split(":")[-1]}"\n'
        '[log]\npath = "~/logs/mine.db"\n'
    )
    file.chmod(0o644)
    (llm.folder / ".env").write_text("MY_TOKEN=abc\n")
    llm.answers("Hi")

    ran = llm("ask", "mine/m", "Hello", "--settings", str(file))

    assert (ran.status, ran.out) == (0, "Hi\n")
    assert "others can read it: chmod 600" in ran.err
    assert llm.target.requests[0].headers["authorization"] == "Bearer abc"
    assert (llm.folder / "logs" / "mine.db").exists()
