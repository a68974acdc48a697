"""Who may ask at all: rows of Hosts, Origins and tokens."""

import pytest

from foreman.api.gate import OPEN_PATHS, Gate

LOCAL, OPEN = Gate(loopback=True), Gate(loopback=False)
TOKENS = Gate(loopback=True, tokens={"ada": "one", "bob": "two"})


@pytest.mark.parametrize(
    "host",
    [
        b"", b"localhost", b"LOCALHOST:8080", b"127.0.0.1", b"127.0.0.1:8080", b"127.9.9.9",
        b"[::1]", b"[::1]:80", b"0.0.0.0", b"10.0.0.7", b"192.168.1.2:1", b"box.local",
        b"a.internal", b"x.localhost",
    ],
)  # fmt: skip
def test_on_loopback_local_names_and_addresses_are_let_in(host: bytes) -> None:
    assert LOCAL.host_allowed(host)


@pytest.mark.parametrize(
    "host",
    [
        b"evil.example", b"evil.example:8080", b"localhost.evil.example", b"8.8.8.8", b"\xff",
        b"[::1", b"127.0.0.1.evil.example", b"[2001:4860::8888]",
    ],
)  # fmt: skip
def test_on_loopback_a_foreign_name_is_a_rebound_page_and_refused(host: bytes) -> None:
    assert not LOCAL.host_allowed(host)


def test_beyond_loopback_any_host_may_be_meant() -> None:
    assert OPEN.host_allowed(b"models.example")


@pytest.mark.parametrize(
    "origin",
    [
        b"http://localhost", b"https://localhost:3000", b"http://127.0.0.1:5173", b"app://obsidian",
        b"tauri://localhost", b"vscode-webview://x", b"file://",
    ],
)  # fmt: skip
def test_ollamas_own_origins_get_their_cors_headers(origin: bytes) -> None:
    headers = LOCAL.origin_headers(origin, b"localhost:8080")
    assert headers is not None
    assert dict(headers)[b"access-control-allow-origin"] == origin


@pytest.mark.parametrize(
    "origin",
    [b"https://evil.example", b"null", b"http://localhost.evil.example", b"http://127.0.0.1.evil"],
)
def test_a_foreign_origin_is_refused(origin: bytes) -> None:
    assert LOCAL.origin_headers(origin, b"localhost:8080") is None


def test_no_origin_and_the_own_origin_need_no_headers() -> None:
    assert LOCAL.origin_headers(b"", b"localhost") == []
    assert OPEN.origin_headers(b"https://Models.example", b"models.example") == []


def test_a_star_lets_everybody_in_by_its_name() -> None:
    headers = Gate(loopback=True, origins=("*",)).origin_headers(b"https://x.example", b"localhost")
    assert headers is not None
    assert dict(headers)[b"access-control-allow-origin"] == b"*"


@pytest.mark.parametrize(
    ("authorization", "key", "client"),
    [
        (b"Bearer one", b"", "ada"),
        (b"bearer  two ", b"", "bob"),
        (b"", b"one", "ada"),
        (b"Bearer three", b"", None),
        (b"Bearer ", b"", None),
        (b"Basic one", b"", None),
        (b"one", b"", None),
        (b"", b"", None),
        (b"Bearer \xff\xfe", b"", None),
    ],
)
def test_a_token_names_its_client_and_nothing_else_does(
    authorization: bytes, key: bytes, client: str | None
) -> None:
    assert TOKENS.client("/api/chat", authorization, key) == client


def test_health_is_told_to_anybody_and_without_tokens_everything_is() -> None:
    for path in OPEN_PATHS:
        assert TOKENS.client(path, b"", b"") == ""
    assert LOCAL.client("/api/chat", b"", b"") == ""
