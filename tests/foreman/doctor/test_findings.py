"""Each finding there is, provoked once with real parts."""

import itertools
import os
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from foreman import __version__
from foreman.artifacts import ArtifactFiles
from foreman.care import backup
from foreman.config import load
from foreman.database import open_writer
from foreman.disk import free_bytes
from foreman.doctor.checks import CHECKS
from foreman.embedded.script import LoadFailure, Script, Status
from foreman.jobs import JobIds
from foreman.rows import NEVER, Result
from foreman.tables import Transaction, claim, finish, start, submit
from tests.e2e.processes import NOW
from tests.fakes.jobs import new_job
from tests.fakes.servers import canned, serving
from tests.foreman.doctor.conftest import AWAY, TOKEN, Scene

CHECK_OF = {kind.code: check for check in CHECKS for kind in check.kinds}

Provoke = Callable[[Scene], None]
PROVOKED: dict[str, Provoke] = {}


def provokes(code: str) -> Callable[[Provoke], Provoke]:
    """The function brings about what is found by this name, and nothing else that matters."""

    def enter(function: Provoke) -> Provoke:
        assert code not in PROVOKED
        PROVOKED[code] = function
        return function

    return enter


def beside(scene: Scene) -> str:
    """A shell beside the running daemon, set up as that is; its URL."""
    url, folder = scene.running()
    scene.set(url=url, data_dir=folder, token=f"app:{TOKEN}", ollama_url=AWAY)
    return url


def test_every_finding_is_provoked_here() -> None:
    assert sorted(PROVOKED) == sorted(CHECK_OF)


@pytest.mark.parametrize("code", PROVOKED)
def test_what_is_wrong_is_found(scene: Scene, code: str) -> None:
    check = CHECK_OF[code]
    PROVOKED[code](scene)
    found = scene.findings(check.name)
    assert code in found
    assert all(found[code].advice and text for text in (found[code].found, found[code].why))
    assert TOKEN not in repr(found)


def test_who_is_well_hears_nothing_of_the_kind(scene: Scene) -> None:
    scene.set(embed_model=None)  # or it would have to be loaded
    found = set(scene.findings())
    assert found == {"daemon-stopped", "embed-model-unset"}


# Settings


@provokes("settings-wrong")
def _(scene: Scene) -> None:
    scene.set(lingr="10s")


@provokes("secrets-readable")
def _(scene: Scene) -> None:
    Path(".env").write_text(f"FOREMAN_TOKEN=app:{TOKEN}\n")
    Path(".env").chmod(0o644)


@provokes("token-weak")
def _(scene: Scene) -> None:
    scene.set(token="app:aaaaaaaaaaaaaaaaaaaaaaaa")


@provokes("open-to-all")
def _(scene: Scene) -> None:
    scene.set(listen="0.0.0.0:8080", insecure_open=1)


@provokes("no-tls")
def _(scene: Scene) -> None:
    scene.set(listen="0.0.0.0:8080", token=f"app:{TOKEN}")


@provokes("target-token-in-clear")
def _(scene: Scene) -> None:
    scene.set(ollama_url="http://gpu.example:11434", ollama_token=TOKEN)


@provokes("settings-differ")
def _(scene: Scene) -> None:
    beside(scene)
    scene.set(ollama_url="http://127.0.0.1:10")


@provokes("ollama-variable-ignored")
def _(scene: Scene) -> None:
    scene.variable("OLLAMA_ORIGINS", "https://chat.example")


@provokes("clients-bypass")
def _(scene: Scene) -> None:
    scene.variable("OLLAMA_HOST", load().ollama_url.replace("http://127.0.0.1", "localhost"))


@provokes("proxy-in-the-way")
def _(scene: Scene) -> None:
    scene.variable("HTTP_PROXY", "http://me:secret@proxy.example:3128")
    scene.set(url="http://gpu.example:8080")


@provokes("proxy-not-used")
def _(scene: Scene) -> None:
    scene.variable("http_proxy", "http://proxy.example:3128")
    scene.set(ollama_url="http://gpu.example:11434")


# The daemon


@provokes("daemon-stopped")
def _(scene: Scene) -> None:
    pass


@provokes("daemon-not-found")
def _(scene: Scene) -> None:
    beside(scene)
    scene.set(url=AWAY)


@provokes("daemon-silent")
def _(scene: Scene) -> None:
    beside(scene)
    listener = scene.stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    scene.set(url=f"http://127.0.0.1:{listener.getsockname()[1]}")


@provokes("not-foreman")
def _(scene: Scene) -> None:
    scene.set(url=scene.stack.enter_context(canned({"/": (200, b"hello")})))


@provokes("daemon-other-folder")
def _(scene: Scene) -> None:
    beside(scene)
    scene.set(data_dir=scene.data)


@provokes("daemon-other-version")
def _(scene: Scene) -> None:
    assert __version__ != "0.0.1"
    health = b'{"status":"ok","version":"0.0.1","target":{"up":true}}'
    scene.set(url=scene.stack.enter_context(canned({"/healthz": (200, health)})))


@provokes("token-refused")
def _(scene: Scene) -> None:
    beside(scene)
    scene.set(token="app:another-secret-of-some-length")


@provokes("daemon-degraded")
def _(scene: Scene) -> None:
    beside(scene)


@provokes("port-taken")
def _(scene: Scene) -> None:
    other = scene.stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    scene.set(listen=f"127.0.0.1:{other.getsockname()[1]}")


@provokes("cannot-listen")
def _(scene: Scene) -> None:
    scene.set(listen="192.0.2.1:8080", token=f"app:{TOKEN}")


# The target


def plays(scene: Scene, script: Script | None = None, max_loaded: int = 3) -> None:
    """In front of a target that plays this."""
    url, _ = scene.stack.enter_context(serving(script, max_loaded=max_loaded))
    scene.set(ollama_url=url)


def says(scene: Scene, path: str, status: int, body: bytes) -> None:
    """In front of something that says this."""
    others = {"/api/version": (200, b'{"version":"0.33.0"}'), "/api/tags": (200, b'{"models":[]}')}
    url = scene.stack.enter_context(canned({**others, path: (status, body)}))
    scene.set(ollama_url=url)


@provokes("target-unreachable")
def _(scene: Scene) -> None:
    scene.set(ollama_url=AWAY)


@provokes("target-refuses")
def _(scene: Scene) -> None:
    says(scene, "/api/version", 401, b'{"error":"unauthorized"}')


@provokes("target-not-ollama")
def _(scene: Scene) -> None:
    says(scene, "/api/version", 200, b"<html>")


@provokes("target-is-foreman")
def _(scene: Scene) -> None:
    url = beside(scene)
    scene.set(ollama_url=url)


@provokes("target-too-old")
def _(scene: Scene) -> None:
    says(scene, "/api/version", 200, b'{"version":"0.1.48"}')


@provokes("target-known-bad")
def _(scene: Scene) -> None:
    says(scene, "/api/version", 200, b'{"version":"0.32.5"}')


@provokes("no-models")
def _(scene: Scene) -> None:
    plays(scene, Script(models=()))


@provokes("model-spilled")
def _(scene: Scene) -> None:
    says(scene, "/api/ps", 200, b'{"models":[{"name":"big:latest","size":8,"size_vram":6}]}')


@provokes("embed-model-unset")
def _(scene: Scene) -> None:
    scene.set(embed_model=None)


@provokes("embed-model-missing")
def _(scene: Scene) -> None:
    scene.set(embed_model="nomic-embed-text")


@provokes("embed-model-wrong")
def _(scene: Scene) -> None:
    scene.set(embed_model="small")


@provokes("two-slots-unknown")
def _(scene: Scene) -> None:
    scene.set(embed_model="embedder")


@provokes("one-slot")
def _(scene: Scene) -> None:
    plays(scene, max_loaded=1)
    scene.load = True


@provokes("embed-model-fails")
def _(scene: Scene) -> None:
    plays(scene, Script(faults=(Status(status=500, paths=("/api/embed",)),)))
    scene.load = True


@provokes("worker-model-fails")
def _(scene: Scene) -> None:
    plays(scene, Script(faults=(LoadFailure(model="small"), LoadFailure(model="big"))))
    scene.load = True


@provokes("target-open")
def _(scene: Scene) -> None:
    scene.machine["addresses"] = lambda: ["127.0.0.1"]


# The disk


@provokes("data-folder-refused")
def _(scene: Scene) -> None:
    scene.database.chmod(0o644)


@provokes("data-folder-shown")
def _(scene: Scene) -> None:
    scene.data.chmod(0o755)


@provokes("data-folder-on-network")
def _(scene: Scene) -> None:
    scene.mounted("nfs4")


@provokes("data-folder-in-memory")
def _(scene: Scene) -> None:
    scene.mounted("tmpfs")


@provokes("data-folder-in-container")
def _(scene: Scene) -> None:
    scene.mounted("overlay")


@provokes("disk-full")
def _(scene: Scene) -> None:
    scene.set(min_free_disk="900000GiB")


@provokes("disk-low")
def _(scene: Scene) -> None:
    scene.set(min_free_disk=free_bytes(scene.data) * 3 // 4)


@provokes("ballast-gone")
def _(scene: Scene) -> None:
    database = scene.stack.enter_context(open_writer(scene.data, now=NOW, ballast=4096))
    database.ballast.release()


@provokes("fsync-slow")
def _(scene: Scene) -> None:
    moments = itertools.count(step=0.006)
    scene.machine["clock"] = lambda: next(moments)


# The database


@provokes("sqlite-too-old")
def _(scene: Scene) -> None:
    scene.machine["sqlite"] = (3, 36, 0)


@provokes("sqlite-wal-reset")
def _(scene: Scene) -> None:
    scene.machine["sqlite"] = (3, 51, 2)


@provokes("database-missing")
def _(scene: Scene) -> None:
    scene.database.unlink()


@provokes("database-refused")
def _(scene: Scene) -> None:
    scene.database.write_bytes(b"SQLite format 3\0" + bytes(200))


@provokes("events-lost")
def _(scene: Scene) -> None:
    (scene.data / "foreman.mark").write_text("99")


@provokes("wal-large")
def _(scene: Scene) -> None:
    scene.stack.enter_context(open_writer(scene.data, now=NOW, ballast=4096))
    os.truncate(scene.data / "foreman.db-wal", 65 << 20)


@provokes("unclean-end")
def _(scene: Scene) -> None:
    with open_writer(scene.data, now=NOW, ballast=4096):
        pass  # without a close


@provokes("database-damaged")
def _(scene: Scene) -> None:
    scene.jobs()
    with closing(sqlite3.connect(scene.database)) as connection:
        query = "SELECT rootpage FROM sqlite_schema WHERE name = 'jobs_by_model'"
        [(page,)] = connection.execute(query).fetchall()
    with scene.database.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(bytes(4096))


@provokes("rows-damaged")
def _(scene: Scene) -> None:
    scene.jobs()
    scene.sql("UPDATE jobs SET priority = 7")


@provokes("result-files-damaged")
def _(scene: Scene) -> None:
    files = ArtifactFiles(scene.data / "artifacts")
    with open_writer(scene.data, now=NOW, ballast=4096) as database:
        files.sweep(database.connection)
        tx = Transaction(database.connection, NOW, database.epoch)
        ref = claim(tx, submit(tx, new_job(JobIds().new())), resident=True)
        file = files.publish(ref.id, 1, Result(200, "application/json", b"{}"))
        finish(tx, start(tx, ref, load_s=None), artifact=file)
        database.close()
    [path] = (scene.data / "artifacts").glob("*/*")
    path.write_bytes(b"[]")


@provokes("no-backup")
def _(scene: Scene) -> None:
    scene.jobs()


def backed_up(scene: Scene, days_ago: int) -> None:
    """There is a job, and a backup of that age beside the database."""
    scene.jobs()
    folder = scene.data / "backups"
    folder.mkdir(exist_ok=True)
    (folder / backup.name(NOW - days_ago * 86400 * 1_000_000)).touch()


@provokes("old-backup")
def _(scene: Scene) -> None:
    backed_up(scene, 3)


@provokes("backup-on-same-disk")
def _(scene: Scene) -> None:
    backed_up(scene, 0)


# The jobs


@provokes("jobs-set-aside")
def _(scene: Scene) -> None:
    scene.jobs()
    scene.sql("UPDATE jobs SET not_before = ?", NEVER)


@provokes("jobs-stuck")
def _(scene: Scene) -> None:
    job = scene.jobs()
    database = scene.stack.enter_context(open_writer(scene.data, now=NOW, ballast=4096))
    database.connection.execute("UPDATE jobs SET state = 'working', epoch = 0 WHERE id = ?", (job,))


@provokes("jobs-expired")
def _(scene: Scene) -> None:
    scene.jobs()
    scene.sql("UPDATE jobs SET expires_at = ?", NOW - 3600 * 1_000_000)


@provokes("jobs-without-model")
def _(scene: Scene) -> None:
    scene.jobs("absent")


@provokes("queue-full")
def _(scene: Scene) -> None:
    scene.jobs()
    scene.set(max_queue=1)


ENDPOINT = """INSERT INTO endpoints (url, pending, failures, failing_since, held_until, lost,
    disabled_at, reason) VALUES ('https://hooks.example', 0, ?, ?, 0, 0, ?, ?)"""


@provokes("dead-letters")
def _(scene: Scene) -> None:
    scene.sql(
        """INSERT INTO outbox VALUES ('msg_1', 'https://hooks.example', 'j', 1, x'', 'dead', 10, 0,
        NULL, 0, 0, 0)"""
    )


@provokes("webhook-receiver-disabled")
def _(scene: Scene) -> None:
    scene.sql(ENDPOINT, 9, NOW - 1, NOW, "it said 410")


@provokes("webhook-receiver-failing")
def _(scene: Scene) -> None:
    scene.sql(ENDPOINT, 3, NOW - 2 * 3600 * 1_000_000, None, None)


@provokes("webhooks-unsigned")
def _(scene: Scene) -> None:
    scene.sql(ENDPOINT, 0, None, None, None)


# The machine


@provokes("clock-back")
def _(scene: Scene) -> None:
    scene.jobs()
    scene.machine["wall"] = lambda: NOW / 1e6 - 3600


@provokes("open-files")
def _(scene: Scene) -> None:
    scene.stack.enter_context(open_writer(scene.data, now=NOW, ballast=4096))
    limits = scene.folder() / str(os.getpid()) / "limits"
    limits.parent.mkdir()
    limits.write_text("Max open files            64                   64                   files\n")
    scene.machine["proc"] = scene.folder()


def managed(scene: Scene, enabled: str, failed: str = "active") -> None:
    """systemd runs this machine, and says so of the unit."""
    scene.machine["systemd"] = scene.folder()
    scene.program(
        "systemctl",
        f'case "$*" in "is-enabled "*) echo {enabled};; "is-failed "*) echo {failed};; esac',
    )


@provokes("no-unit")
def _(scene: Scene) -> None:
    managed(scene, "not-found")


@provokes("unit-disabled")
def _(scene: Scene) -> None:
    managed(scene, "disabled")


@provokes("unit-failed")
def _(scene: Scene) -> None:
    managed(scene, "enabled", "failed")


@provokes("machine-sleeps")
def _(scene: Scene) -> None:
    scene.machine["platform"] = "darwin"
    scene.program("pmset", "echo ' displaysleep  10'", "echo ' sleep         1 (imposed by 1)'")
