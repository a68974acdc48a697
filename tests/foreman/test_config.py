import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from foreman.config import ClientToken, Settings, load
from foreman.errors import ConfigError
from foreman.reference import env_example
from foreman.units import (
    Address,
    format_duration,
    format_size,
    parse_address,
    parse_duration,
    parse_size,
    parse_url,
)


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for key in [key for key in os.environ if key.upper().startswith("FOREMAN_")]:
        monkeypatch.delenv(key)


def wrong(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    """What `load` says about these variables."""
    for key, value in variables.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(ConfigError) as refused:
        load()
    return str(refused.value)


# ---------------------------------------------------------------- units


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("5m", 300),
        ("1h30m", 5400),
        ("250ms", 0.25),
        ("7", 7),
        (7, 7),
        ("0", 0),
        ("2d", 172_800),
        ("1d12h", 129_600),
    ],
)
def test_a_duration_has_units_or_counts_seconds(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "s",
        "-3s",
        "5 m",
        "d",
        "1dd",
        "12hd",
        "-1d",
        "1e400",
        "9" * 400 + "s",
        "nan",
        True,
        None,
        [1],
    ],
)
def test_a_wrong_duration_is_told_what_is_right(text: object) -> None:
    with pytest.raises(ValueError, match="30s, 5m, 1h30m or 30d"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8MiB", 8 * 2**20),
        ("64MB", 64 * 10**6),
        ("512 kib", 2**19),
        ("1.5GiB", 3 * 2**29),
        ("100b", 100),
        ("0", 0),
        (4096, 4096),
    ],
)
def test_a_size_has_units_or_counts_bytes(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "-1", "5ib", "1TB", "9" * 400, False, None])
def test_a_wrong_size_is_told_what_is_right(text: object) -> None:
    with pytest.raises(ValueError, match="64MiB"):
        parse_size(text)


@given(st.integers(0, 10**9), st.integers(0, 2**50))
def test_durations_and_sizes_are_shown_so_that_they_read_back(milliseconds: int, size: int) -> None:
    seconds = milliseconds / 1000
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, abs=1e-6)
    assert size >= 10**12 or parse_size(format_size(size)) == size


@pytest.mark.parametrize(
    ("text", "address", "loopback"),
    [
        ("127.0.0.1:8080", Address("127.0.0.1", 8080), True),
        ("localhost:0", Address("localhost", 0), True),
        ("127.9.9.9:1", Address("127.9.9.9", 1), True),
        ("[::1]:80", Address("::1", 80), True),
        ("[::]:80", Address("::", 80), False),
        ("0.0.0.0:80", Address("0.0.0.0", 80), False),
        ("example.org:80", Address("example.org", 80), False),
    ],
)
def test_an_address_reads_back_and_knows_if_it_is_loopback(
    text: str, address: Address, loopback: bool
) -> None:
    assert parse_address(text) == address
    assert (str(address), address.loopback) == (text, loopback)


@pytest.mark.parametrize(
    "text", ["", "8080", ":8080", "::1:80", "[x]:80", "h:", "h:x", "h:²", "h:65536"]
)
def test_a_wrong_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="port"):
        parse_address(text)


@pytest.mark.parametrize(
    "text",
    ["", "ollama:11434", "ftp://x", "http://", "http://a:b@c", "http://x?y", "http://x:99999"],
)
def test_a_wrong_url_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="base URL"):
        parse_url(text)


# ---------------------------------------------------------------- sources


def test_without_any_source_the_defaults_hold() -> None:
    settings = load()
    assert settings.listen == Address("127.0.0.1", 8080)
    assert settings.poll_interval == 30
    assert settings.max_body == 64 * 2**20
    assert {origin.where for origin in settings.sources().values()} == {"default"}


def test_stronger_sources_win_and_each_value_says_where_it_came_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    toml = tmp_path / "foreman.toml"
    toml.write_text(
        'linger = "1s"\nmax_wait = "1m"\nheartbeat = 1\nmax_waiting = 1\nallow_admin = true'
    )
    Path(".env").write_text(
        f"FOREMAN_CONFIG={toml}\nFOREMAN_MAX_WAIT=2m\nFOREMAN_HEARTBEAT=2\nFOREMAN_MAX_WAITING=2\n"
    )
    monkeypatch.setenv("FOREMAN_HEARTBEAT", "3s")
    monkeypatch.setenv("FOREMAN_MAX_WAITING", "3")
    seen = load(max_waiting=4).sources()
    assert seen["FOREMAN_LINGER"] == ("1s", str(toml))
    assert seen["FOREMAN_ALLOW_ADMIN"] == ("1", str(toml))
    assert seen["FOREMAN_MAX_WAIT"] == ("2m", ".env")
    assert seen["FOREMAN_HEARTBEAT"] == ("3s", "environment")
    assert seen["FOREMAN_MAX_WAITING"] == ("4", "argument")
    assert seen["FOREMAN_GAP_TIMEOUT"] == ("2m", "default")


def test_building_settings_by_hand_reads_nothing_from_outside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FOREMAN_LINGER", "1s")
    Path(".env").write_text("FOREMAN_LINGER=2s\n")
    assert Settings().linger == 15


def test_bare_ollama_keys_are_never_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("OLLAMA_URL", "OLLAMA_HOST", "OLLAMA_TOKEN", "LISTEN", "TOKEN", "DATA_DIR"):
        monkeypatch.setenv(key, "http://elsewhere:1")
    Path(".env").write_text("OLLAMA_URL=http://elsewhere:1\nOLLAMA_NUM_PARALLEL=4\n")
    assert load() == Settings()


def test_an_empty_value_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREMAN_TOKEN", "")
    monkeypatch.setenv("FOREMAN_MAX_WAIT", "")
    assert load() == Settings()


def test_the_example_file_loads_with_every_line_switched_on() -> None:
    lines = env_example().splitlines()
    Path(".env").write_text("\n".join(x[1:] if x.startswith("#FOREMAN") else x for x in lines))
    read, default = load().model_dump(), Settings().model_dump()
    del read["data_dir"], default["data_dir"]  # written out here, and depends on the machine
    assert read == default


def test_the_data_folder_follows_the_platform(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert load().data_dir == tmp_path / ".local/state/foreman"
    monkeypatch.setenv("XDG_STATE_HOME", "/xdg")
    assert load().data_dir == Path("/xdg/foreman")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert load().data_dir == tmp_path / "Library/Application Support/foreman"


def test_a_relative_or_home_path_becomes_absolute(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load(data_dir="~/x").data_dir == tmp_path / "x"
    assert load(data_dir="y").data_dir == tmp_path / "y"


def test_the_home_of_nobody_is_refused() -> None:
    with pytest.raises(ConfigError, match="no such user's home"):
        load(data_dir="~nobody-of-this-name/x")


def test_lists_are_split_at_commas() -> None:
    origins = load(allowed_origins="https://a.example, https://b.example,").allowed_origins
    assert origins == ("https://a.example", "https://b.example")


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("FOREMAN_LISTN", "did you mean FOREMAN_LISTEN?"),
        ("FOREMAN_POLLINTERVAL", "did you mean FOREMAN_POLL_INTERVAL?"),
        ("foreman_emed_model", "did you mean FOREMAN_EMBED_MODEL?"),
        ("FOREMAN_ULR", "did you mean FOREMAN_URL?"),
        ("FOREMAN_XYZZY", "`foreman config` lists all settings"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_name(
    monkeypatch: pytest.MonkeyPatch, key: str, hint: str
) -> None:
    text = wrong(monkeypatch, **{key: "s3cret-value"})
    assert text == f"{key.upper()} (environment) is not a setting; {hint}"


def test_an_unknown_key_in_a_file_is_refused_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Path(".env").write_text("FOREMAN_LINGR=1s\n")
    assert wrong(monkeypatch).startswith("FOREMAN_LINGR (.env) is not a setting")
    Path(".env").unlink()
    toml = tmp_path / "f.toml"
    toml.write_text('FOREMAN_LISTEN = "127.0.0.1:1"')
    text = wrong(monkeypatch, FOREMAN_CONFIG=str(toml))
    assert text == f"FOREMAN_LISTEN ({toml}) is not a setting; did you mean listen?"


def test_the_keys_of_the_client_commands_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREMAN_URL", "http://box:8080")
    assert load() == Settings()


@pytest.mark.parametrize(
    ("key", "value", "right"),
    [
        ("POLL_INTERVAL", "0", "should be greater than 0"),
        ("LINGER", "soon", "write a duration like 30s"),
        ("MAX_BODY", "big", "write a size like 64MiB"),
        ("MAX_BODY", "0", "should be greater than 0"),
        ("MAX_WAITING", "0", "should be greater than or equal to 1"),
        ("MAX_ATTEMPTS", "three", "should be a valid integer"),
        ("EMBED_OTHER", "drop", "should be 'queue', 'reject' or 'bypass'"),
        ("LOG_LEVEL", "loud", "should be 'debug', 'info', 'warning' or 'error'"),
        ("SHUTDOWN_GRACE", "11s", "should be less than or equal to 10"),
        ("ALLOW_ADMIN", "perhaps", "should be a valid boolean"),
        ("LISTEN", "8080", "write host:port"),
        ("EMBED_MODEL", "../x", "invalid model name"),
        ("OLLAMA_URL", "ollama:11434", "write a base URL"),
    ],
)
def test_an_error_names_the_key_the_value_the_source_and_what_is_right(
    monkeypatch: pytest.MonkeyPatch, key: str, value: str, right: str
) -> None:
    text = wrong(monkeypatch, **{f"FOREMAN_{key}": value})
    assert text.startswith(f"FOREMAN_{key}={value} (environment): {right}")


def test_every_mistake_has_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    text = wrong(monkeypatch, FOREMAN_LINGER="x", FOREMAN_MAX_WAITING="x", FOREMAN_LISTEN="x")
    assert len(text.splitlines()) == 3


def test_names_of_choices_may_be_upper_case() -> None:
    assert load(log_level="INFO", embed_other="Reject").embed_other == "reject"


@pytest.mark.parametrize("bind", ["0.0.0.0:8080", "[::]:8080", "192.168.1.2:0"])
def test_serving_others_needs_a_token_or_the_word_insecure(
    monkeypatch: pytest.MonkeyPatch, bind: str
) -> None:
    text = wrong(monkeypatch, FOREMAN_LISTEN=bind)
    assert "FOREMAN_TOKEN=name:secret" in text
    assert "FOREMAN_INSECURE_OPEN=1" in text
    assert load(token="app:sesame").listen == parse_address(bind)
    assert load(insecure_open="1").listen == parse_address(bind)


@pytest.mark.parametrize("content", [b"linger = ", b"\xff\xfe", b"a = 1\na = 2"])
def test_an_unreadable_toml_file_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes
) -> None:
    toml = tmp_path / "f.toml"
    toml.write_bytes(content)
    assert wrong(monkeypatch, FOREMAN_CONFIG=str(toml)).startswith(f"{toml} cannot be read: ")


def test_a_toml_file_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    text = wrong(monkeypatch, FOREMAN_CONFIG="/nowhere/f.toml")
    assert text == "FOREMAN_CONFIG: there is no file /nowhere/f.toml"


def test_an_unreadable_env_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_bytes(b"FOREMAN_LINGER=\xff\n")
    assert wrong(monkeypatch).startswith(".env cannot be read: ")


# ---------------------------------------------------------------- secrets


def test_tokens_are_pairs_of_name_and_secret() -> None:
    tokens = load(token="app:sesame, batch:open:wide").token
    assert tokens == (
        ClientToken("app", SecretStr("sesame")),
        ClientToken("batch", SecretStr("open:wide")),
    )


@pytest.mark.parametrize(
    "value", ["sesame-open", "app:", ":sesame-open", "a:x,sesame-open", "a:x,a:y"]
)
def test_a_wrong_token_is_refused_without_being_shown(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    text = wrong(monkeypatch, FOREMAN_TOKEN=value)
    assert text.startswith("FOREMAN_TOKEN (environment): ")
    assert "sesame" not in text


def test_secrets_never_show(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(token="app:sesame-open", ollama_token="sesame-open")
    everything = f"{settings!r} {settings} {settings.sources()} {settings.model_dump_json()}"
    assert "sesame" not in everything
    assert settings.sources()["FOREMAN_TOKEN"].shown == "app:**********"
    url = wrong(monkeypatch, FOREMAN_OLLAMA_URL="http://me:sesame-open@box")
    assert "sesame" not in url


def test_settings_built_by_hand_do_not_show_a_wrong_secret_either() -> None:
    with pytest.raises(ValueError, match="token") as refused:
        Settings.model_validate({"token": "sesame-open"})
    assert "sesame" not in str(refused.value)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load().linger = 3.0


def test_importing_the_settings_loads_no_server_and_no_cloud_client() -> None:
    program = "import sys, foreman.config; print(*sys.modules)"
    seen = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = set(seen.stdout.split())
    assert not loaded & {"quart", "hypercorn", "trio", "boto3", "yaml", "rich"}
