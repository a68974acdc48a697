"""deploy/compose.yaml against what foreman knows of itself, and deploy/pull-models.sh at work."""

import os
import re
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import yaml

import foreman
from foreman import config
from tests.conftest import StartDaemon
from tests.deploy import dockerfile
from tests.deploy.dockerfile import ROOT

DEPLOY = ROOT / "deploy"
PAGE = ROOT / "docs/how-to/containers.md"
KNOWN = {config.PREFIX + name.upper() for name in config.Settings.model_fields} | set(config.BESIDE)
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
FOREMAN = SERVICES["foreman"]
PULL = DEPLOY / "pull-models.sh"


def interpolated(value: object) -> Iterator[str]:
    """Every ${...} there is, without its braces."""
    yield from re.findall(r"\$\{([^}]*)\}", yaml.safe_dump(value, width=1000))


def seconds(duration: str) -> int:
    assert duration.endswith("s")
    return int(duration.removesuffix("s"))


def test_every_key_of_foreman_is_one_that_it_knows() -> None:
    assert set(FOREMAN["environment"]) <= KNOWN
    named = {re.split(r"[:?-]", each)[0] for each in interpolated(COMPOSE)}
    assert {name for name in named if name.startswith("FOREMAN_")} <= KNOWN
    assert FOREMAN["env_file"] == ".env"  # what is in there goes to foreman, which refuses others


def test_what_is_set_here_agrees_with_the_image() -> None:
    image = dockerfile.environment()
    for key in ("FOREMAN_LISTEN", "FOREMAN_DATA_DIR"):
        assert FOREMAN["environment"][key] == image[key]
    assert FOREMAN["build"] == {"context": "..", "dockerfile": "deploy/container/Dockerfile"}
    assert FOREMAN["image"] == f"foreman:{foreman.__version__}"
    assert FOREMAN["environment"]["FOREMAN_OLLAMA_URL"] == "http://ollama:11434"
    assert "data:/data" in FOREMAN["volumes"]
    assert "healthcheck" not in FOREMAN  # the image's


def test_a_missing_token_stops_it_before_anything_starts_and_says_what_to_do() -> None:
    assert re.match(
        r"\$\{FOREMAN_TOKEN:\?set FOREMAN_TOKEN=", FOREMAN["environment"]["FOREMAN_TOKEN"]
    )


def test_ollama_keeps_two_models_and_nobody_reaches_it_past_the_queue() -> None:
    ollama = SERVICES["ollama"]
    assert ollama["environment"]["OLLAMA_MAX_LOADED_MODELS"] == "2"
    assert "ports" not in ollama
    assert "models:/root/.ollama" in ollama["volumes"]
    [gpu] = ollama["deploy"]["resources"]["reservations"]["devices"]
    assert gpu["capabilities"] == ["gpu"]
    assert ollama["healthcheck"]["test"][:2] == ["CMD", "ollama"]


def test_foreman_may_do_little_and_has_the_time_it_needs_to_stop() -> None:
    assert FOREMAN["read_only"] is True
    assert FOREMAN["cap_drop"] == ["ALL"]
    assert FOREMAN["security_opt"] == ["no-new-privileges:true"]
    assert seconds(FOREMAN["stop_grace_period"]) > 10  # FOREMAN_SHUTDOWN_GRACE is at most that
    assert FOREMAN["depends_on"]["ollama"]["condition"] == "service_started"


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned_and_ports_are_this_machines_unless_asked(name: str) -> None:
    service = SERVICES[name]
    assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+", service["image"])
    assert all(
        re.match(r"\$\{\w+:-127\.0\.0\.1:\d+\}:\d+$", each) for each in service.get("ports", [])
    )


def test_traefik_finds_foreman_by_its_labels_and_cuts_nothing_off() -> None:
    labels, traefik = FOREMAN["labels"], SERVICES["traefik"]
    flags = dict(each.removeprefix("--").split("=", 1) for each in traefik["command"])
    assert labels["traefik.enable"] == "true"
    assert flags["providers.docker.exposedByDefault"] == "false"
    router, service = "traefik.http.routers.foreman", "traefik.http.services.foreman.loadbalancer"
    assert labels[f"{router}.service"] == "foreman"
    entry = labels[f"{router}.entrypoints"]
    port = flags[f"entryPoints.{entry}.address"]
    assert traefik["ports"] == ["${PUBLIC_BIND:-127.0.0.1" + port + "}" + port]
    for limit in ("readTimeout", "writeTimeout"):
        assert flags[f"entryPoints.{entry}.transport.respondingTimeouts.{limit}"] == "0"
    assert labels[f"{service}.server.port"] == dockerfile.image()["EXPOSE"]
    assert labels[f"{service}.responseforwarding.flushinterval"] == "-1"
    assert not any("middlewares" in label for label in labels)  # none that would buffer
    used = COMPOSE["networks"][FOREMAN["networks"][0]]["name"]
    assert labels["traefik.docker.network"] == used
    assert FOREMAN["networks"][0] in traefik["networks"]
    own = [label for label in labels if label.startswith("traefik.http.")]
    assert all(label.startswith((router, service)) for label in own)


def test_the_page_names_each_variable_of_the_file() -> None:
    page = PAGE.read_text()
    named = {re.split(r"[:?-]", each)[0] for each in interpolated(COMPOSE)}
    assert named == {"FOREMAN_TOKEN", "BIND", "PUBLIC_HOST", "PUBLIC_BIND"}
    assert all(f"`{name}`" in page for name in named)


async def pull(*words: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    return await trio.run_process(
        [PULL, *words],
        env={"PATH": os.environ["PATH"], **variables},
        check=False,
        capture_stdout=True,
        capture_stderr=True,
    )


async def test_models_that_are_there_are_not_pulled_again(
    daemon: StartDaemon, tmp_path: Path
) -> None:
    wanted = tmp_path / "models.txt"
    wanted.write_text("small  # for questions\n\nbig:latest\n")
    async with daemon() as foreman:
        await foreman.polled()
        there = await pull("--url", foreman.url, "--file", str(wanted))
        assert (there.returncode, there.stderr) == (0, b"")
        assert there.stdout == b"small: there\nbig:latest: there\n"
        again = await pull(FOREMAN_URL=f"{foreman.url}/", MODELS="small big")
        assert again.stdout == b"small: there\nbig: there\n"


async def test_what_is_not_there_is_pulled_and_a_failure_spares_the_rest(
    daemon: StartDaemon,
) -> None:
    async with daemon(allow_admin=True) as foreman:
        await foreman.polled()
        mixed = await pull("--url", foreman.url, "nope", "small")
        assert mixed.returncode == 1
        assert b"small: there" in mixed.stdout
        assert b"nope: not pulled" in mixed.stderr
        assert b"file does not exist" in mixed.stderr
        anew = await pull("--url", foreman.url, "--update", "small")
        assert anew.returncode == 0
        assert anew.stdout.endswith(b"  writing manifest\n  success\nsmall: pulled\n")


async def test_a_daemon_that_refuses_is_quoted(daemon: StartDaemon) -> None:
    async with daemon() as foreman:
        await foreman.polled()
        refused = await pull("--url", foreman.url, "nope")
        assert refused.returncode == 1
        assert b"403 FOREMAN_ALLOW_ADMIN is off" in refused.stderr


async def test_the_token_is_shown_and_a_wrong_one_is_named(daemon: StartDaemon) -> None:
    async with daemon(token="me:s3cret,you:0ther") as foreman:
        ask = partial(pull, "--url", foreman.url, "small")
        await foreman.polled()
        for right in ("me:s3cret,you:0ther", "s3cret"):
            assert (await ask(FOREMAN_TOKEN=right)).returncode == 0
        wrong = await ask(FOREMAN_TOKEN="me:wrong")
        assert wrong.returncode == 1
        assert b"is FOREMAN_TOKEN right?" in wrong.stderr


async def test_nobody_there_is_an_error_that_names_the_address() -> None:
    away = await pull("--url", "http://127.0.0.1:9", "small")
    assert away.returncode == 1
    assert b"http://127.0.0.1:9 said 000" in away.stderr


@pytest.mark.parametrize("words", [(), ("--file", "/nowhere"), ("--url",), ("--no",), ('a"b',)])
async def test_wrong_usage_is_told_and_nobody_is_asked(words: tuple[str, ...]) -> None:
    wrong = await pull(*words, FOREMAN_URL="http://127.0.0.1:9")
    assert wrong.returncode == 2
    assert b"000" not in wrong.stderr
