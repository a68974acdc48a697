import json
from pathlib import Path
from typing import Any

import pytest


def test_every_setting_is_listed_with_its_source(foreman: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("FOREMAN_LINGER", "90")
    Path(".env").write_text("FOREMAN_ALLOW_ADMIN=yes\n")
    lines = [line.split() for line in foreman("config").out.splitlines()]
    assert lines[0] == ["SETTING", "VALUE", "FROM"]
    assert ["FOREMAN_LINGER", "1m30s", "environment"] in lines
    assert ["FOREMAN_ALLOW_ADMIN", "1", ".env"] in lines
    assert ["FOREMAN_MAX_BODY", "64MiB", "default"] in lines


def test_secrets_are_hidden_in_both_forms(foreman: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("FOREMAN_TOKEN", "app:sesame-open")
    monkeypatch.setenv("FOREMAN_OLLAMA_TOKEN", "sesame-open")
    for ran in (foreman("config"), foreman("config", "--json")):
        assert "sesame" not in ran.out + ran.err
        assert "app:**********" in ran.out


@pytest.mark.parametrize("key", ["linger", "FOREMAN_LINGER", "Linger"])
def test_one_setting_is_shown_with_its_meaning(foreman: Any, key: str) -> None:
    _, line, _, meaning = foreman("config", key).out.splitlines()
    assert line.split() == ["FOREMAN_LINGER", "15s", "default"]
    assert meaning.startswith("After a client's call")


def test_json_says_value_source_and_meaning(foreman: Any) -> None:
    document = json.loads(foreman("config", "listen", "--json").out)
    assert document["FOREMAN_LISTEN"].items() >= {
        ("value", "127.0.0.1:8080"),
        ("from", "default"),
        ("meaning", "Address and port to serve on; port 0 lets the system choose."),
    }


def test_an_unknown_key_is_wrong_usage(foreman: Any) -> None:
    ran = foreman("config", "lingr")
    assert ran.status == 2
    assert "FOREMAN_LINGER?" in ran.err


def test_wrong_settings_are_exit_status_4_with_a_line_each(foreman: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("FOREMAN_LINGER", "soon")
    monkeypatch.setenv("FOREMAN_MAX_WAITING", "0")
    ran = foreman("config")
    assert (ran.status, ran.out) == (4, "")
    assert ran.err.count("(environment)") == 2
