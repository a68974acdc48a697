"""Checks of what is set: the settings, the files they stand in, the environment around them."""

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from foreman.config import PREFIX, Settings
from foreman.doctor.context import Context
from foreman.doctor.findings import CannotLookError, Fine, Kind, Outcome, Severity, Unseen
from foreman.errors import ConfigError
from foreman.setting_types import parse_path
from foreman.units import Address

SHORT = 16  # characters; fewer can be guessed
FEW = 6  # different characters; fewer make a pattern
SECRETS = ("token", "ollama_token", "webhook_secret")

SETTINGS_WRONG = Kind(
    "settings-wrong",
    Severity.PROBLEM,
    "{mistake}",
    "The daemon refuses to start with settings it does not understand.",
    "Correct the line, then look with: foreman config",
)
SECRETS_READABLE = Kind(
    "secrets-readable",
    Severity.PROBLEM,
    "{path} holds {keys} and others on this machine can read it (mode {mode})",
    "Whoever reads a token can use this foreman and see its jobs.",
    "chmod 600 {path}, and replace secrets that others may have read",
)
TOKEN_WEAK = Kind(
    "token-weak",
    Severity.WARNING,
    "the token of client {name} is {length} characters long, {different} of them different",
    "Nothing slows down somebody who guesses.",
    "Replace it in FOREMAN_TOKEN; make one with: openssl rand -hex 32",
)
OPEN_TO_ALL = Kind(
    "open-to-all",
    Severity.WARNING,
    "FOREMAN_INSECURE_OPEN serves anyone who reaches {listen}",
    "Everyone in the network can submit, read and cancel all jobs.",
    "Set FOREMAN_TOKEN=name:secret and take FOREMAN_INSECURE_OPEN away, or listen on 127.0.0.1",
)
NO_TLS = Kind(
    "no-tls",
    Severity.NOTE,
    "{listen} can be reached from other machines, and foreman itself speaks plain HTTP",
    "Tokens, prompts and answers can be read on the way.",
    "Put a reverse proxy with TLS in front and listen on 127.0.0.1, or keep to a network you trust",
)
TARGET_TOKEN_IN_CLEAR = Kind(
    "target-token-in-clear",
    Severity.WARNING,
    "FOREMAN_OLLAMA_TOKEN goes to {url} over plain HTTP",
    "It can be read on the way, prompts and answers as well.",
    "Use an https:// URL in FOREMAN_OLLAMA_URL",
)
SETTINGS_DIFFER = Kind(
    "settings-differ",
    Severity.WARNING,
    "the daemon (process {process}) was started with other settings: {keys}",
    "What is said here is about the settings of this shell, not about the daemon's.",
    "Run foreman doctor with the daemon's environment (and from its folder, if it has a .env), "
    "or restart the daemon",
)
VARIABLE_IGNORED = Kind(
    "ollama-variable-ignored",
    Severity.NOTE,
    "{variable} is set in {where}, and foreman does not read it",
    "Only FOREMAN_* settings count; the value has no effect on the daemon.",
    "{instead}",
)
CLIENTS_BYPASS = Kind(
    "clients-bypass",
    Severity.NOTE,
    "OLLAMA_HOST={value} sends the ollama command past foreman, straight to the target",
    "Calls that bypass the queue evict models under running jobs.",
    "export OLLAMA_HOST={url}",
)
PROXY_IN_THE_WAY = Kind(
    "proxy-in-the-way",
    Severity.WARNING,
    "client commands go to {url} through the proxy {proxy}",
    "A proxy may buffer streams, cut long waits, and sees the token where there is no TLS.",
    "export NO_PROXY={host}",
)
PROXY_NOT_USED = Kind(
    "proxy-not-used",
    Severity.NOTE,
    "{variable} is set, and foreman goes to the target {url} without it",
    "Where only the proxy leads out, the target cannot be reached.",
    "Nothing, if the target answers; else make it reachable directly",
)

INSTEAD: Mapping[str, str] = {
    "OLLAMA_HOST": "Set FOREMAN_OLLAMA_URL to say where the target is, FOREMAN_LISTEN where "
    "foreman serves",
    "OLLAMA_ORIGINS": "Set FOREMAN_ALLOWED_ORIGINS",
    "OLLAMA_LOAD_TIMEOUT": "Set FOREMAN_LOAD_TIMEOUT",
    "OLLAMA_MAX_QUEUE": "Set FOREMAN_MAX_WAITING for clients that wait, FOREMAN_MAX_QUEUE for jobs",
    "OLLAMA_API_KEY": "Set FOREMAN_OLLAMA_TOKEN if the target asks for a token",
    "OLLAMA_DEBUG": "Set FOREMAN_LOG_LEVEL=debug",
}
HERE = ("localhost", "127.0.0.1", "0.0.0.0", "::1")  # noqa: S104  nothing is bound
ELSEWHERE = "Set it where `ollama serve` runs, if it was meant for the target"


def settings(context: Context) -> Iterator[Outcome]:
    """Do the settings parse, and are all keys known?"""
    found = context.read_settings
    if isinstance(found, ConfigError):
        for line in str(found).splitlines():
            yield SETTINGS_WRONG(mistake=line)
        return
    given = [key for key, origin in found.sources().items() if origin.where != "default"]
    yield Fine(f"{len(given)} set, the others at their defaults")


def secrets(context: Context) -> Iterator[Outcome]:
    """Can others read the files with tokens, or guess one?"""
    files = [path for path in _setting_files() if path.is_file()]
    for path in files:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o044 and (keys := _secrets_in(path)):
            yield SECRETS_READABLE(path=path, keys=", ".join(keys), mode=f"{mode:04o}")
    for token in context.settings.token:
        secret = token.secret.get_secret_value()
        if len(secret) < SHORT or len(set(secret)) < FEW:
            yield TOKEN_WEAK(name=token.name, length=len(secret), different=len(set(secret)))
    yield Fine(f"looked at {', '.join(map(str, files)) or 'the environment: there is no file'}")


def exposure(context: Context) -> Iterator[Outcome]:
    """Who can reach foreman, and what can be read on the way?"""
    found = context.settings
    if not found.listen.loopback:
        if not found.token:
            yield OPEN_TO_ALL(listen=found.listen)
        yield NO_TLS(listen=found.listen)
    target = urlsplit(found.ollama_url)
    here = Address(target.hostname or "", 0).loopback
    if found.ollama_token and target.scheme == "http" and not here:
        yield TARGET_TOKEN_IN_CLEAR(url=found.ollama_url)
    yield Fine(f"listens on {found.listen}")


def environment(context: Context) -> Iterator[Outcome]:
    """Does the daemon run with these settings, and is something set that it does not read?"""
    process = context.holder
    variables = None if process is None else context.machine.variables(process)
    if process is not None and variables is None:
        yield Unseen(f"the environment of the daemon (process {process}) cannot be read")
    if process is not None and variables is not None:
        differing = _differing(variables, context.settings)
        if differing:
            yield SETTINGS_DIFFER(process=process, keys=", ".join(differing))
    where = "this environment" if variables is None else "the daemon's environment"
    found = os.environ if variables is None else variables
    for variable in sorted(name for name in found if name.startswith("OLLAMA_")):
        instead = INSTEAD.get(variable, ELSEWHERE)
        yield VARIABLE_IGNORED(variable=variable, where=where, instead=instead)
    yield from _bypass(context)
    yield Fine("no variable misleads foreman or its clients")


def proxies(context: Context) -> Iterator[Outcome]:
    """Is a proxy set, and does it matter?"""
    url = urlsplit(context.location.url)
    host = url.hostname or ""
    proxy = getproxies().get(url.scheme)
    if proxy and not context.location.is_here and not proxy_bypass(host):
        yield PROXY_IN_THE_WAY(url=context.location.url, proxy=_without_password(proxy), host=host)
    target = urlsplit(context.settings.ollama_url)
    variable = f"{target.scheme.upper()}_PROXY"
    here = Address(target.hostname or "", 0).loopback
    set_for_target = os.environ.get(variable) or os.environ.get(variable.lower())
    if set_for_target and not here and not proxy_bypass(target.hostname or ""):
        yield PROXY_NOT_USED(variable=variable, url=context.settings.ollama_url)
    yield Fine("no proxy stands between clients, foreman and the target")


def _setting_files() -> Iterator[Path]:
    """The files that `config.load` reads."""
    yield Path(".env")
    toml = os.environ.get("FOREMAN_CONFIG") or _dotenv().get("FOREMAN_CONFIG")
    if toml:
        yield parse_path(toml)


def _dotenv() -> Mapping[str, str | None]:
    if not Path(".env").is_file():
        return {}
    from dotenv import dotenv_values  # pydantic-settings reads the same file with it

    try:
        return dotenv_values(".env")
    except (OSError, ValueError):
        return {}  # the settings cannot be read, which is told


def _secrets_in(path: Path) -> list[str]:
    """The keys of secrets that stand in the file with a value."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise CannotLookError(f"{path} cannot be read: {error.strerror}") from None
    lines = [line.strip().removeprefix("export ").partition("=") for line in text.splitlines()]
    filled = {key.strip().lower().removeprefix(PREFIX.lower()) for key, _, value in lines if value}
    return [PREFIX + name.upper() for name in SECRETS if name in filled]


def _differing(variables: Mapping[str, str], here: Settings) -> list[str]:
    """Settings in the daemon's environment that are not what this command goes by."""
    fields = Settings.model_fields
    given = {
        name: value
        for key, value in variables.items()
        if value
        and (name := key.lower().removeprefix(PREFIX.lower())) in fields
        and key.upper().startswith(PREFIX)
    }
    try:
        theirs = Settings.model_validate({**_open(here), **given})
    except ValueError:  # it runs, so it is this command that is too old or too new
        return sorted(PREFIX + name.upper() for name in given)
    return sorted(
        PREFIX + name.upper() for name in given if getattr(theirs, name) != getattr(here, name)
    )


def _open(here: Settings) -> dict[str, object]:
    """What must stand together: a listener beyond this machine needs a token."""
    return {"insecure_open": here.insecure_open or not here.listen.loopback}


def _bypass(context: Context) -> Iterator[Outcome]:
    value = os.environ.get("OLLAMA_HOST", "").strip()
    if not value:
        return
    target, url = urlsplit(context.settings.ollama_url), urlsplit(_as_url(value))
    try:
        same = (_host(url.hostname), url.port or 11434) == (
            _host(target.hostname),
            target.port or (443 if target.scheme == "https" else 80),
        )
    except ValueError:
        return
    if same:
        yield CLIENTS_BYPASS(value=value, url=context.location.url)


def _as_url(value: str) -> str:
    return value if "://" in value else f"http://{value}"


def _host(name: str | None) -> str:
    """All names of this machine's own address are one."""
    return "127.0.0.1" if name is None or name in HERE else name


def _without_password(proxy: str) -> str:
    scheme, separator, rest = proxy.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"
