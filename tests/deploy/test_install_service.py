"""`foreman install-service`: what it writes, what it says, and what it leaves alone."""

import os
import plistlib
import subprocess
import sys
from pathlib import Path

import pytest

from foreman.cli import install_service, service_files
from foreman.cli.exits import Ended
from foreman.config import Settings
from tests.deploy import units

ROOT = Path(__file__).parents[2]
SYSTEM = Path("etc/systemd/system")


def install(
    root: Path, *options: str, answer: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "actors", "install-service", "--for", "systemd"]
    return subprocess.run(
        [*command, "--root", root, *options],
        input=answer,
        env=os.environ | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def files(root: Path) -> set[Path]:
    return {path.relative_to(root) for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("path", dict(service_files.copies()), ids=str)
def test_the_committed_copy_is_the_one_the_code_makes(path: Path) -> None:
    assert (ROOT / path).read_text(encoding="utf-8") == dict(service_files.copies())[path]


def test_no_other_file_lies_beside_the_copies() -> None:
    made = {path for path, _ in service_files.copies()}
    for folder in ("deploy/systemd", "deploy/launchd"):
        assert {Path(folder, path) for path in files(ROOT / folder)} <= made


def test_the_units_run_this_very_installation(tmp_path: Path) -> None:
    done = install(tmp_path, "--socket", "--yes")
    assert done.returncode == 0, done.stderr
    assert files(tmp_path) == {
        SYSTEM / "foreman.service",
        SYSTEM / "foreman.socket",
        Path("etc/foreman/foreman.env"),
    }
    command = units.command(tmp_path / SYSTEM / "foreman.service")
    assert command == [str(Path(sys.executable).with_name("foreman")), "serve"]
    assert os.access(command[0], os.X_OK)


def test_a_users_service_has_its_own_place_and_only_what_a_user_may_ask_for(
    tmp_path: Path,
) -> None:
    done = install(tmp_path, "--user", "--yes", XDG_CONFIG_HOME="/home/me/.config")
    assert done.returncode == 0, done.stderr
    config = Path("home/me/.config")
    assert files(tmp_path) == {
        config / "systemd/user/foreman.service",
        config / "foreman/foreman.env",
    }
    unit = tmp_path / config / "systemd/user/foreman.service"
    assert units.values(unit, "WantedBy") == ["default.target"]
    for key in ("DynamicUser", "CapabilityBoundingSet", "ProtectSystem", "OOMScoreAdjust"):
        assert units.values(unit, key) == []
    assert "systemctl --user enable foreman.service" in done.stdout


def test_it_says_all_that_it_does_and_how_to_undo_it(tmp_path: Path) -> None:
    done = install(tmp_path, "--socket", "--yes")
    for path in files(tmp_path):
        assert f"write      {tmp_path / path}" in done.stdout
    for line in ("daemon-reload", "enable foreman.service foreman.socket", "start foreman.service"):
        assert f"run        systemctl {line}" in done.stdout
    assert "systemctl disable --now foreman.service foreman.socket" in done.stderr


def test_a_dry_run_shows_the_files_and_writes_none(tmp_path: Path) -> None:
    done = install(tmp_path, "--dry-run")
    assert done.returncode == 0
    assert "WatchdogSec=30" in done.stdout
    assert files(tmp_path) == set()


@pytest.mark.parametrize("answer", ["n\n", "\n", ""], ids=["no", "enter", "no terminal"])
def test_without_a_yes_nothing_is_done(tmp_path: Path, answer: str) -> None:
    done = install(tmp_path, answer=answer)
    assert done.returncode == 1
    assert files(tmp_path) == set()


def test_a_yes_that_is_typed_will_do(tmp_path: Path) -> None:
    assert install(tmp_path, answer="y\n").returncode == 0
    assert files(tmp_path)


def test_a_second_time_changes_nothing_and_spares_the_socket(tmp_path: Path) -> None:
    install(tmp_path, "--socket", "--yes")
    done = install(tmp_path, "--socket", "--yes")
    assert f"unchanged  {tmp_path / SYSTEM / 'foreman.service'}" in done.stdout
    assert "run        systemctl restart foreman.service" in done.stdout
    assert "restart foreman.socket" not in done.stdout  # clients wait at it meanwhile


def test_settings_are_never_overwritten_and_nobody_else_reads_them(tmp_path: Path) -> None:
    install(tmp_path, "--yes")
    settings = tmp_path / "etc/foreman/foreman.env"
    assert settings.stat().st_mode & 0o777 == 0o600
    settings.write_text("FOREMAN_TOKEN=me:secret\n")
    unit = tmp_path / SYSTEM / "foreman.service"
    unit.write_text("an older one\n")
    done = install(tmp_path, "--yes")
    assert f"keep       {settings}" in done.stdout
    assert f"replace    {unit}" in done.stdout
    assert settings.read_text() == "FOREMAN_TOKEN=me:secret\n"
    assert "WatchdogSec" in unit.read_text()


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "etc").write_text("a file where a folder should be")
    done = install(tmp_path, "--yes")
    assert done.returncode == 1
    assert f"cannot write {tmp_path / SYSTEM / 'foreman.service'}" in done.stderr


@pytest.mark.parametrize("place", ["/home/me/.venv/bin", "/root/venv/bin", "/run/user/1/bin"])
def test_a_system_service_is_not_made_of_what_its_sandbox_hides(
    monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr(sys, "executable", f"{place}/python")
    monkeypatch.setattr(Path, "is_file", lambda _path: True)
    wish = install_service.Wish("systemd", user=False, socket=False, root=Path("/"))
    with pytest.raises(Ended, match="out of the service's sight"):
        install_service.install(wish, yes=False, dry_run=True)


def test_launchd_gets_a_property_list(tmp_path: Path) -> None:
    done = install(tmp_path, "--for", "launchd", "--user", "--yes", HOME="/Users/me")
    assert done.returncode == 0, done.stderr
    path = tmp_path / "Users/me/Library/LaunchAgents/io.github.foreman-ollama.plist"
    job = plistlib.loads(path.read_bytes())
    assert job["ProgramArguments"] == [str(Path(sys.executable).with_name("foreman")), "serve"]
    assert job["KeepAlive"] is job["RunAtLoad"] is True
    assert job["StandardErrorPath"] == "/Users/me/Library/Logs/foreman.log"
    assert job["Umask"] == 0o077
    assert f"run        launchctl bootstrap gui/{os.getuid()} {path}" in done.stdout


def test_launchd_has_no_socket_to_offer(tmp_path: Path) -> None:
    done = install(tmp_path, "--for", "launchd", "--socket", "--yes")
    assert done.returncode == 2
    assert files(tmp_path) == set()


def test_a_path_with_spaces_and_signs_is_taken_literally() -> None:
    text = service_files.service(["/opt/my 100%/foreman", "serve"], user=False)
    assert 'ExecStart="/opt/my 100%%/foreman" serve\n' in text


def test_the_settings_that_are_suggested_exist() -> None:
    lines = service_files.environment().splitlines()
    keys = [line[1:].partition("=")[0] for line in lines if line.startswith("#FOREMAN_")]
    assert keys
    assert all(key.removeprefix("FOREMAN_").lower() in Settings.model_fields for key in keys)
    assert not any(line and not line.startswith("#") for line in lines)  # none is set


def test_a_stop_fits_into_what_systemd_allows(tmp_path: Path) -> None:
    """FOREMAN_SHUTDOWN_GRACE is the sum of what the tiers may take."""
    unit = units.installed(tmp_path) / "foreman.service"
    [longest] = [
        each.le for each in Settings.model_fields["shutdown_grace"].metadata if hasattr(each, "le")
    ]
    assert int(units.values(unit, "TimeoutStopSec")[0]) >= 2 * longest
