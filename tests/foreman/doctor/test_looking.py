"""How doctor looks: without leaving a trace, at what is there, and saying what it could not see."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from foreman.database import open_writer
from foreman.disk import hold_lock
from foreman.doctor.checks import CHECKS
from foreman.doctor.findings import Kind, Severity
from foreman.doctor.machine import Machine, own_addresses
from tests.e2e.processes import NOW, rows
from tests.fakes.servers import daemon_process, serving
from tests.foreman.doctor.conftest import AWAY, TOKEN, Scene


def contents(folder: Path) -> dict[str, str]:
    """Each file with the hash of its bytes."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_folder_of_a_stopped_daemon_is_left_as_it_was(scene: Scene) -> None:
    scene.jobs()
    before = contents(scene.data)
    assert scene.results()["contents"].said == ["every row, page and file is what was written"]
    assert contents(scene.data) == before


def test_the_folder_of_a_daemon_that_died_is_left_as_it_was(scene: Scene) -> None:
    """Its -wal holds what is not in the database yet, and is read."""
    program = f"""
import os; from pathlib import Path
from foreman.database import open_writer
from foreman.jobs import JobIds
from foreman.tables import Transaction, submit
from tests.fakes.jobs import new_job
database = open_writer(Path({str(scene.data)!r}), now={NOW}, ballast=4096)
submit(Transaction(database.connection, {NOW}, database.epoch), new_job(JobIds().new()))
os._exit(0)
"""
    here = {"PYTHONPATH": str(Path(__file__).parents[3])}
    subprocess.run([sys.executable, "-c", program], check=True, env=os.environ | here)
    before = contents(scene.data)
    assert before.keys() >= {"foreman.db-wal", "foreman.db-shm"}
    results = scene.results()
    assert [each.code for each in results["database"].findings] == ["unclean-end"]
    assert results["jobs"].said == ["1 wait"]
    assert contents(scene.data) == before
    (scene.data / "foreman.db-shm").unlink()
    [unseen] = scene.results()["contents"].unseen
    assert "foreman.db-shm is missing" in unseen
    assert not (scene.data / "foreman.db-shm").exists()


def test_beside_a_running_daemon_all_is_seen(scene: Scene) -> None:
    with (
        serving() as (target, _),
        daemon_process(scene.root / "other", target, TOKEN=f"app:{TOKEN}") as url,
    ):
        scene.set(url=url, data_dir=scene.root / "other", token=f"app:{TOKEN}", ollama_url=target)
        scene.set(embed_model=None)
        results = scene.results()
        found = {finding.code for each in results.values() for finding in each.findings}
        assert found == {"embed-model-unset"}
        assert results["daemon"].said == [f"foreman 0.1.0 answers at {url}"]
        assert "contents" in results
        assert results["open-files"].said[0].startswith("the daemon (process ")


def test_with_a_daemon_models_are_loaded_through_its_queue(scene: Scene) -> None:
    with (
        serving() as (target, embedded),
        daemon_process(scene.root / "other", target) as url,
    ):
        scene.set(url=url, data_dir=scene.root / "other", ollama_url=target)
        scene.load = True
        [said] = scene.results("two-slots")["two-slots"].said
        assert said == "embedder:latest and big:latest were loaded, and stayed together"
        [call] = rows(scene.root / "other")
        assert (call["endpoint"], call["model"]) == ("/api/generate", "big:latest")
        assert {load.model for load in embedded.oracle.loads} == {"embedder:latest", "big:latest"}


def test_without_settings_the_rest_says_why_it_sees_nothing(scene: Scene) -> None:
    scene.set(lingr="10s", linger="soon")
    results = scene.results()
    [finding] = results["settings"].findings
    assert "FOREMAN_LINGER?" in finding.found
    assert results["target"].unseen == ["the settings cannot be read"]
    assert results["sqlite"].said == ["SQLite 3.60.0"]


def test_every_wrong_setting_is_a_finding(scene: Scene) -> None:
    scene.set(linger="soon", max_waiting=0)
    assert len(scene.results("settings")["settings"].findings) == 2


def test_a_quick_look_says_what_it_left_out(scene: Scene) -> None:
    scene.jobs()
    scene.quick = True
    assert scene.results()["contents"].unseen == [
        "rows and files that the newest events do not speak of (--quick)"
    ]
    scene.sql("UPDATE jobs SET priority = 7")
    assert "rows-damaged" in scene.findings("contents")


def test_many_damaged_rows_are_told_in_few_lines(scene: Scene) -> None:
    for _ in range(12):
        scene.jobs()
    scene.sql("UPDATE jobs SET priority = 7")
    findings = scene.results("contents")["contents"].findings
    assert len(findings) == 11
    assert findings[-1].found == "2 more findings like these"


def test_the_target_is_asked_once_when_it_is_away(scene: Scene) -> None:
    scene.set(ollama_url=AWAY)
    results = scene.results("target", "models", "embed-model")
    assert results["models"].unseen == ["the target does not answer"]
    assert results["embed-model"].unseen == ["the target does not answer"]


def test_secrets_in_a_file_for_its_owner_only_are_fine(scene: Scene) -> None:
    Path(".env").write_text(f"FOREMAN_TOKEN=app:{TOKEN}\n")
    Path(".env").chmod(0o600)
    assert not scene.findings("secrets")
    Path(".env").write_text("FOREMAN_LINGER=5s\nFOREMAN_TOKEN=\n")
    Path(".env").chmod(0o644)
    assert not scene.findings("secrets")


def test_secrets_in_toml_are_seen_too(scene: Scene) -> None:
    toml = scene.root / "foreman.toml"
    toml.write_text(f'token = "app:{TOKEN}"\n')
    toml.chmod(0o640)
    scene.set(config=toml)
    assert str(toml) in scene.findings("secrets")["secrets-readable"].found


@pytest.mark.parametrize(
    ("mounts", "path", "kind"),
    [
        ("1 0 8:1 / / rw - ext4 /dev/a rw", "/data/foreman", "ext4"),
        ("1 0 8:1 / / rw - ext4 a rw\n2 1 0:5 / /data rw - nfs4 b rw", "/data/foreman", "nfs4"),
        ("1 0 8:1 / / rw - ext4 a rw\n2 1 0:5 / /dat rw - nfs4 b rw", "/data/foreman", "ext4"),
        ("1 0 8:1 / / rw - ext4 a rw\n2 1 0:5 / /a\\040b rw x:1 - tmpfs b rw", "/a b", "tmpfs"),
        ("1 0 8:1 / / rw - ext4 a rw\n2 1 8:1 / / rw - overlay o rw", "/data", "overlay"),
    ],
)
def test_the_file_system_is_the_one_of_the_innermost_mount(
    tmp_path: Path, mounts: str, path: str, kind: str
) -> None:
    file = tmp_path / "mountinfo"
    file.write_text(mounts + "\n")
    assert Machine(mounts=file).file_system(Path(path)) == kind


def test_a_lock_is_held_by_the_process_that_has_it_open(tmp_path: Path) -> None:
    lock = tmp_path / "foreman.lock"
    assert Machine().holder(lock) is None
    descriptor = hold_lock(lock)
    assert Machine().holder(lock) == os.getpid()
    os.close(descriptor)
    assert Machine().holder(lock) is None  # the id of a process that lives, and has let go
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    lock.write_text(str(gone.pid))
    assert Machine().holder(lock) is None


def test_without_proc_a_lock_is_held_while_its_process_lives(tmp_path: Path) -> None:
    lock = tmp_path / "foreman.lock"
    elsewhere = Machine(proc=tmp_path / "none")
    lock.write_text(str(os.getpid()))
    assert elsewhere.holder(lock) == os.getpid()
    assert elsewhere.variables(os.getpid()) is None
    assert elsewhere.open_files(os.getpid()) is None


def test_own_addresses_are_not_the_loopback() -> None:
    assert not any(address.startswith("127.") for address in own_addresses())


def test_a_writer_in_this_process_is_no_obstacle(scene: Scene) -> None:
    with open_writer(scene.data, now=NOW, ballast=4096):
        assert scene.results("jobs")["jobs"].said == ["0 wait"]


def test_each_kind_says_its_facts_in_what_was_found() -> None:
    kinds = [kind for check in CHECKS for kind in check.kinds]
    assert len({kind.code for kind in kinds}) == len(kinds)
    assert all(kind.severity is not Severity.OK for kind in kinds)
    one = Kind("code", Severity.NOTE, "{what} is {how}", "because {what}", "do {that}")
    assert one.facts == {"what", "how", "that"}
    assert one(what="it", how="so", that="this").found == "it is so"


def test_each_check_asks_a_question_and_finds_something() -> None:
    assert all(check.question.endswith("?") and check.kinds for check in CHECKS)
    assert len({check.name for check in CHECKS}) == len(CHECKS)
