"""The settings: one typed class, and where each value came from.

Strongest first: arguments of `load`, the environment, `.env` in the working directory, the TOML
file that FOREMAN_CONFIG names, the default. An empty value counts as not set. Only FOREMAN_* keys
are read; one that is not known is refused. In TOML the keys are lower case without the prefix.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from datetime import time
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, PrivateAttr, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from foreman.errors import ConfigError
from foreman.setting_types import (
    AllowList,
    ClientToken,
    Collector,
    CommaList,
    Count,
    DataDir,
    Duration,
    Listen,
    LowerCase,
    ModelName,
    Secret,
    Share,
    Size,
    TimeOfDay,
    Timeout,
    Tokens,
    Url,
    WebhookSecrets,
    default_data_dir,
    parse_path,
)
from foreman.units import Address

__all__ = ["BESIDE", "PREFIX", "Address", "ClientToken", "Origin", "Settings", "load"]

PREFIX = "FOREMAN_"

BESIDE: Mapping[str, str] = {
    "FOREMAN_CONFIG": "Path of a TOML file with settings; keys in lower case without the prefix.",
    "FOREMAN_URL": "Read by the client commands: where the daemon is (http://127.0.0.1:8080).",
}
"""Keys that are foreman's and yet no setting of the daemon."""


class Origin(NamedTuple):
    """A setting as it may be shown, and where it was set."""

    shown: str
    where: str


_MINUTE = 60.0
_DAY = 86400.0
_KIB = 2**10
_MIB = 2**20


class Settings(BaseSettings):
    """Every setting of the daemon. Durations are seconds, sizes bytes.

    Building one reads nothing from outside: `load` does. The text under each setting is its
    description in docs/reference/configuration.md, deploy/.env.example and `foreman config`.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        dotenv_filtering="only_existing",
        enable_decoding=False,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    ollama_url: Url = "http://127.0.0.1:11434"
    """Base URL of the one Ollama server behind foreman."""

    ollama_token: Annotated[SecretStr | None, Secret()] = None
    """Bearer token sent to the target, if it asks for one."""

    listen: Listen = Address("127.0.0.1", 8080)
    """Address and port to serve on; port 0 lets the system choose."""

    token: Tokens = ()
    """Bearer tokens of the clients, as `name:secret`, comma-separated; a client sends the secret. \
Unset, nobody is asked for one. The client commands read it too; where it is set for them alone, \
a bare secret will do."""

    insecure_open: bool = False
    """Serve beyond this machine although no client token is set."""

    allow_admin: bool = False
    """Let clients pull, push, create, copy and delete models."""

    allowed_origins: CommaList = ()
    """Browser origins allowed beside those Ollama allows by itself, comma-separated."""

    data_dir: DataDir = Field(default_factory=default_data_dir, examples=["~/.local/state/foreman"])
    """Folder of the database; made if missing. The default follows XDG_STATE_HOME; on macOS it \
is ~/Library/Application Support/foreman."""

    min_free_disk: Size = 256 * _MIB
    """With less room than this on the disk of the data folder, new work is refused."""

    ballast: Size = 64 * _MIB
    """Size of a file in the data folder that is given up when the disk is full, so that the end \
of what runs can still be written; 64 MiB are some 50,000 jobs."""

    backup_at: TimeOfDay = time(3, 30)
    """When, by the local clock, a backup is made each day; one that was missed is made up for. \
`off` makes none."""

    backup_dir: DataDir | None = None
    """Folder of the backups; unset, `backups` in the data folder. Another disk is better."""

    backup_daily: Count = 7
    """Of so many days the last backup is kept."""

    backup_weekly: Count = 4
    """Of so many weeks the last backup is kept as well."""

    checkpoint: Annotated[Literal["self", "litestream"], LowerCase] = "self"
    """Who moves the write-ahead log into the database: `litestream` where that replicates it."""

    embed_model: ModelName | None = None
    """The embedding model that stays loaded beside the worker model; its calls are never queued."""

    embed_concurrency: Count = 8
    """Embedding calls sent to the target at once."""

    embed_other: Annotated[Literal["queue", "reject", "bypass"], LowerCase] = "queue"
    """What becomes of a call for another embedding model, which would evict the worker model."""

    max_queue: Count = 100_000
    """Durable jobs that may wait at once; above it, 429 with Retry-After."""

    inline_result: Size = 256 * _KIB
    """Results up to this size are kept in the database and shown with the job; larger ones are \
files, to be fetched."""

    retention: Timeout = 30 * _DAY
    """Finished jobs, their results and events are deleted when they are this old; never a job \
that has not ended, or whose webhooks are still due."""

    webhook_secret: WebhookSecrets = ()
    """Signs webhooks: `whsec_` and the base64 of 24 to 64 bytes, comma-separated while rotating; \
the first is the newest. Unset, they go out unsigned."""

    webhook_allow: AllowList = ()
    """Addresses webhooks may reach although they are refused by default, comma-separated: \
`127.0.0.1:9000`, `localhost:9000`, `169.254.7.0/24`, `10.0.0.0/8:443`."""

    webhook_concurrency: Count = 8
    """Webhooks on their way at once, over all endpoints."""

    webhook_timeout: Timeout = 20.0
    """Longest time one webhook attempt may take in all."""

    max_subscribers: Count = 5000
    """Subscriptions to events that may be open at once; above it, 503."""

    events_ping: Timeout = 20.0
    """How often a websocket is pinged; one that does not answer within as long again is closed."""

    poll_interval: Timeout = 30.0
    """How often the target is asked which models it has."""

    max_wait: Timeout = 10 * _MINUTE
    """A lane passed over for this long goes next, whatever is loaded."""

    linger: Duration = 15.0
    """After a client's call, wait at most this long for the next one before a swap; 0 = never."""

    max_attempts: Count = 3
    """Attempts a job has before it fails; an unreachable target charges none."""

    max_waiting: Count = 512
    """Clients that may wait at once; above it, 503 with Retry-After."""

    max_body: Size = 64 * _MIB
    """Largest request body; images arrive inside it as base64."""

    max_output: Size = 64 * _MIB
    """Largest result kept of one job."""

    load_timeout: Timeout = 10 * _MINUTE
    """Longest wait for the target to load a model."""

    first_byte_timeout: Timeout = 10 * _MINUTE
    """Longest silence of the target before its first byte, the model being loaded."""

    gap_timeout: Timeout = 2 * _MINUTE
    """Longest silence of the target between two pieces of an answer."""

    job_timeout: Timeout = 120 * _MINUTE
    """Longest time one attempt may run in all."""

    connect_timeout: Timeout = 5.0
    """Longest wait for a connection to the target."""

    metadata_timeout: Timeout = 10.0
    """Longest wait for the target's answer to a call that is not queued, like /api/show."""

    commit_after: Timeout = 15.0
    """A waiting client keeps its chance of a real status code this long; then 200 goes out."""

    heartbeat: Timeout = 10.0
    """From then on, how often a sign of life goes out."""

    header_timeout: Timeout = 5.0
    """Longest time a client may take to send its request headers."""

    body_timeout: Timeout = 30.0
    """Longest time a client may take to send its request body."""

    write_stall: Timeout = 10.0
    """A client that reads nothing for this long is dropped."""

    max_connections: Count = 10_240
    """Connections served at once, as far as the system's limit of open files allows."""

    max_connections_per_ip: Count = 256
    """Connections served at once from one address."""

    shutdown_grace: Annotated[Timeout, Field(le=10)] = 8.0
    """Time a stop may take in all, at most 10s; a job that still runs is queued again."""

    log_format: Annotated[Literal["console", "json"], LowerCase] = "console"
    """Lines for people, or one JSON object a line. In systemd's journal the former carry their \
priority, and no time of their own."""

    traces: Collector | None = None
    """Base URL of an OTLP/HTTP collector that is told of each request, like \
`http://127.0.0.1:4318`; needs the extra `otel`. Unset, nothing is traced. `OTEL_*` variables are \
never read."""

    traces_share: Share = 1.0
    """Share of the requests that is traced, 0 to 1, where the caller does not decide by sending a \
W3C `traceparent`."""

    log_level: Annotated[Literal["debug", "info", "warning", "error"], LowerCase] = "info"
    """The least severe lines to write."""

    _origins: dict[str, str] = PrivateAttr(default_factory=dict[str, str])

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments only: `load` reads the other sources once and keeps what came from where."""
        return (init_settings,)

    @model_validator(mode="after")
    def _closed_to_strangers(self) -> Self:
        if not (self.listen.loopback or self.token or self.insecure_open):
            raise ValueError(
                f"FOREMAN_LISTEN={self.listen} can be reached from other machines: set "
                "FOREMAN_TOKEN=name:secret, or FOREMAN_INSECURE_OPEN=1 to serve anyone"
            )
        return self

    def sources(self) -> dict[str, Origin]:
        """Key -> value as it may be shown (secrets hidden, unset empty) and where it was set."""
        shown = self.model_dump(mode="json")
        return {
            PREFIX + name.upper(): Origin(_text(shown[name]), self._origins.get(name, "default"))
            for name in type(self).model_fields
        }


def load(**arguments: object) -> Settings:
    """Read every source. Raises ConfigError; its text has a line for each thing that is wrong."""
    layers = [("argument", arguments), *_read_layers()]
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for where, layer in reversed(layers):
        values |= layer
        origins |= dict.fromkeys(layer, where)
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(error, values, origins))) from None
    settings._origins.update(origins)  # pyright: ignore[reportPrivateUsage]
    return settings


def _read_layers() -> list[tuple[str, dict[str, Any]]]:
    """What was set outside, strongest first, by setting name. Unknown keys are refused."""
    environment = EnvSettingsSource(Settings)
    _refuse_unknown("environment", environment.env_vars)
    try:
        dotenv = DotEnvSettingsSource(Settings)
    except (OSError, ValueError) as error:
        raise ConfigError(f".env cannot be read: {error}") from None
    _refuse_unknown(".env", dotenv.env_vars)
    layers = [("environment", environment()), (".env", dotenv())]
    toml = environment.env_vars.get("foreman_config") or dotenv.env_vars.get("foreman_config")
    if toml:
        layers.append((toml, _read_toml(parse_path(toml))))
    return layers


def _read_toml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(f"FOREMAN_CONFIG: there is no file {path}")
    try:
        data = TomlConfigSettingsSource(Settings, path).toml_data
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    for key in sorted(data.keys() - Settings.model_fields.keys()):
        raise ConfigError(_unknown(key, str(path), {name: name for name in Settings.model_fields}))
    return data


def _refuse_unknown(where: str, names: Iterable[str]) -> None:
    """Variables are compared without regard to case, as pydantic-settings reads them."""
    known = _variables().values()
    for name in sorted(names):
        variable = name.upper()
        if variable.startswith(PREFIX) and variable not in known:
            raise ConfigError(unknown(variable, where))


def _variables() -> dict[str, str]:
    """Every key there is as a plain name, and as a variable."""
    variables = (*(PREFIX + name.upper() for name in Settings.model_fields), *BESIDE)
    return {variable.removeprefix(PREFIX).lower(): variable for variable in variables}


def unknown(variable: str, where: str) -> str:
    """What to say of a variable that is none of ours: the nearest that is."""
    return _unknown(variable, where, _variables())


def _unknown(key: str, where: str, known: Mapping[str, str]) -> str:
    """`known` maps plain names to how this source spells them."""
    plain = key.lower().removeprefix(PREFIX.lower())
    near = difflib.get_close_matches(plain, known, n=1, cutoff=0.5)
    hint = f"did you mean {known[near[0]]}?" if near else "`foreman config` lists all settings"
    return f"{key} ({where}) is not a setting; {hint}"


def _explain(
    error: ValidationError, values: Mapping[str, Any], origins: Mapping[str, str]
) -> Iterator[str]:
    """One line per mistake: the key, where it was set, the value unless secret, what is right."""
    for each in error.errors(include_url=False):
        right = str(each.get("ctx", {}).get("error") or each["msg"]).removeprefix("Input ")
        if not each["loc"]:
            yield right
            continue
        name = str(each["loc"][0])
        key = f"{PREFIX}{name.upper()}"
        yield f"{key}{_quoted(name, values.get(name))} ({origins.get(name, 'default')}): {right}"


def _quoted(name: str, value: object) -> str:
    field = Settings.model_fields.get(name)
    secret = field is not None and any(isinstance(mark, Secret) for mark in field.metadata)
    # A URL with a user name in it is refused, and most likely has a password beside that name.
    return "" if secret or (name in ("ollama_url", "traces") and "@" in str(value)) else f"={value}"


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(int(value))
    return "" if value is None else str(value)
