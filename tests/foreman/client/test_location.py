from pathlib import Path

import pytest

from foreman.client.location import DEFAULT_URL, locate
from foreman.errors import ConfigError


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for key in ("FOREMAN_URL", "FOREMAN_TOKEN"):
        monkeypatch.delenv(key, raising=False)


def test_without_settings_it_is_this_machine() -> None:
    assert locate().url == DEFAULT_URL
    assert locate().secret is None
    assert locate().is_here


def test_the_environment_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREMAN_URL", "http://box:8080/")
    monkeypatch.setenv("FOREMAN_TOKEN", "laptop:s3cret,phone:0ther")
    found = locate()
    assert (found.url, found.secret, found.is_here) == ("http://box:8080", "s3cret", False)


def test_what_is_given_is_stronger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREMAN_URL", "http://box:8080")
    monkeypatch.setenv("FOREMAN_TOKEN", "s3cret")
    found = locate("http://[::1]:1", "mine")
    assert (found.url, found.secret, found.is_here) == ("http://[::1]:1", "mine", True)
    assert locate(token="").secret is None


def test_dotenv_is_read(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("FOREMAN_URL=http://box:1\nFOREMAN_TOKEN=t\n")
    assert (locate().url, locate().secret) == ("http://box:1", "t")


def test_a_secret_is_not_shown() -> None:
    assert "s3cret" not in repr(locate(token="s3cret"))


def test_what_is_wrong_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="FOREMAN_URL: write a base URL"):
        locate("box:8080")
    with pytest.raises(ConfigError, match="FOREMAN_TOKEN: write a secret of plain ASCII"):
        locate(token="läptop")
