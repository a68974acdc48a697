import socket
import threading
from pathlib import Path
from typing import Any

import pytest

JOBS: dict[str, Any] = {"jobs": [], "next": None}


def test_nobody_at_the_address_is_exit_status_3(foreman: Any, monkeypatch: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("FOREMAN_URL", f"http://127.0.0.1:{port}")
    ran = foreman("jobs")
    assert (ran.status, ran.out) == (3, "")
    assert f"no answer from http://127.0.0.1:{port}: " in ran.err
    assert "FOREMAN_URL" in ran.err


def test_a_daemon_that_hangs_up_is_exit_status_3(foreman: Any, monkeypatch: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setenv("FOREMAN_URL", f"http://127.0.0.1:{port}")
        monkeypatch.setattr("foreman.cli.connection.PATIENCE", 0.01)
        assert foreman("jobs").status == 3


@pytest.mark.parametrize("url", ["box:8080", "ftp://box", "http://me:secret@box"])
def test_a_wrong_url_is_exit_status_4(foreman: Any, monkeypatch: Any, url: str) -> None:
    monkeypatch.setenv("FOREMAN_URL", url)
    ran = foreman("status")
    assert ran.status == 4
    assert ran.err.startswith("foreman: FOREMAN_URL: write a base URL")
    assert "secret" not in ran.err


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ("sesame", "Bearer sesame"),
        ("app:sesame,other:open", "Bearer sesame"),
        ("app:open:wide", "Bearer open:wide"),
        ("", None),
    ],
)
def test_the_token_is_a_secret_or_the_daemons_own_list(
    foreman: Any, daemon: Any, monkeypatch: Any, value: str, sent: str | None
) -> None:
    monkeypatch.setenv("FOREMAN_TOKEN", value)
    daemon.says("/jobs", JOBS)
    assert foreman("jobs").status == 0
    assert daemon.asked == [("/jobs?limit=20", sent)]


def test_a_token_no_header_can_hold_is_exit_status_4(
    foreman: Any, daemon: Any, monkeypatch: Any
) -> None:
    monkeypatch.setenv("FOREMAN_TOKEN", "sésame")
    ran = foreman("jobs")
    assert ran.status == 4
    assert "same" not in ran.err


def test_the_env_file_counts_where_the_environment_is_silent(
    foreman: Any, daemon: Any, monkeypatch: Any
) -> None:
    Path(".env").write_text(f"FOREMAN_URL={daemon.url}\nFOREMAN_TOKEN=app:sesame\n")
    monkeypatch.delenv("FOREMAN_URL")
    daemon.says("/jobs", JOBS)
    assert foreman("jobs").status == 0
    assert daemon.asked[0][1] == "Bearer sesame"


def test_a_proxy_in_the_environment_is_not_asked_for_this_machine(
    foreman: Any, daemon: Any, monkeypatch: Any
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    daemon.says("/jobs", JOBS)
    assert foreman("jobs").status == 0


def test_a_refusal_is_exit_status_1_with_the_daemons_words(foreman: Any, daemon: Any) -> None:
    daemon.says("/jobs", {"title": "Bad request", "detail": "limit=9: too small"}, 400)
    ran = foreman("jobs")
    assert (ran.status, ran.err) == (1, "foreman: limit=9: too small\n")


def test_a_missing_token_is_hinted_at(foreman: Any, daemon: Any) -> None:
    daemon.says("/jobs", {"detail": "who are you?"}, 401)
    assert foreman("jobs").err == "foreman: who are you?; set FOREMAN_TOKEN\n"


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"\xff", b"[]", b'{"jobs": 3}'])
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_an_answer_that_is_not_foremans_is_exit_status_1(
    foreman: Any, daemon: Any, body: bytes, options: list[str]
) -> None:
    daemon.answers["/jobs"] = (200, body)
    ran = foreman("jobs", *options)
    assert (ran.status, ran.out) == (1, "")
    assert "not foreman's" in ran.err


def test_an_error_page_of_another_server_is_named_as_such(foreman: Any, daemon: Any) -> None:
    daemon.answers["/jobs"] = (404, b"<html>nope</html>")
    ran = foreman("jobs")
    assert ran.status == 1
    assert "answered 404; is that foreman?" in ran.err


@pytest.mark.parametrize("command", ["jobs", "watch", "wait X"])
def test_what_does_not_speak_http_is_exit_status_3_and_not_waited_for(
    foreman: Any, monkeypatch: Any, command: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("FOREMAN_URL", f"http://127.0.0.1:{server.getsockname()[1]}")

        def greet() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        ran = foreman(*command.split())
        thread.join()
    assert ran.status == 3
    assert "does not speak HTTP: SSH-2.0" in ran.err
