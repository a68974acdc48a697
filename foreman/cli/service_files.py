"""The files of a service: units for systemd, a property list for launchd. This is their one place.

`foreman install-service` writes them for the installation it belongs to. deploy/systemd and
deploy/launchd hold copies for /opt/foreman, to be read: `python -m foreman.cli.service_files`
makes them, and a test compares.
"""

import plistlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

NAME = "foreman"
SERVICE, SOCKET = f"{NAME}.service", f"{NAME}.socket"
LABEL = "io.github.foreman-ollama"
ENVIRONMENT = Path(NAME, f"{NAME}.env")  # below /etc, or below a user's configuration
EXAMPLE_COMMAND = ("/opt/foreman/bin/foreman", "serve")
MADE = (
    "# Made by `python -m foreman.cli.service_files`; edit foreman/cli/service_files.py instead.\n"
)

_UNIT = """\
[Unit]
Description=foreman, the queue in front of Ollama
# Also the order of a shutdown: stopped before Ollama, foreman puts the running job back.
After=network.target ollama.service
# Where foreman.socket is not installed this is ignored, and foreman opens its port itself.
Wants=foreman.socket
After=foreman.socket
# Ten starts in a minute, then it stays down and `systemctl status` says so.
StartLimitIntervalSec=60
StartLimitBurst=10

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
# Settings: `foreman config` lists them all. The file need not exist.
EnvironmentFile=-%E/foreman/foreman.env
{place}
Restart=always
RestartSec=1
# 4: the settings are wrong. Starting again will not mend them.
RestartPreventExitStatus=4
# A database is migrated and recovered before READY=1.
TimeoutStartSec=300
# A stop takes FOREMAN_SHUTDOWN_GRACE at most: 8 s for all tiers together, never above 10 s.
TimeoutStopSec=30
# Fed only after a round trip through the thread that writes to the disk.
WatchdogSec=30
LimitCORE=0
UMask=0077

# What it cannot do, although it does not try to.
NoNewPrivileges=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
MemoryMax=1G
TasksMax=64
{sandbox}
[Install]
WantedBy={target}
"""

_SYSTEM_PLACE = """\
DynamicUser=yes
StateDirectory=foreman
StateDirectoryMode=0700
Environment=FOREMAN_DATA_DIR=%S/foreman
WorkingDirectory=%S/foreman
LimitNOFILE=65536
OOMScoreAdjust=-100"""

_SYSTEM_SANDBOX = """\
CapabilityBoundingSet=
AmbientCapabilities=
KeyringMode=private
PrivateDevices=yes
PrivateTmp=yes
PrivateUsers=yes
ProcSubset=pid
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProtectSystem=strict
RemoveIPC=yes
# Link-local addresses, where clouds keep their metadata: a second wall behind foreman's own.
IPAddressDeny=169.254.0.0/16 fe80::/10
"""

_SOCKET = """\
[Unit]
Description=foreman's port, open while foreman restarts

[Socket]
ListenStream=127.0.0.1:8080
FileDescriptorName=http
# Clients that wait while nobody accepts.
Backlog=1024
NoDelay=yes
KeepAlive=yes
KeepAliveTimeSec=30
KeepAliveIntervalSec=10

[Install]
WantedBy=sockets.target
"""

_ENVIRONMENT = """\
# foreman's settings for the service; `foreman config` and docs/reference/configuration.md tell all.
# Restart the service after a change.

# The Ollama server that foreman stands in front of.
#FOREMAN_OLLAMA_URL=http://127.0.0.1:11434

# Where to serve. With foreman.socket its ListenStream= decides, and this is not looked at.
#FOREMAN_LISTEN=127.0.0.1:8080

# Clients as name:secret, comma-separated. Needed to listen beyond this machine.
#FOREMAN_TOKEN=laptop:change-me

# The embedding model that stays loaded.
#FOREMAN_EMBED_MODEL=nomic-embed-text

# Signs webhooks: whsec_ and 24 to 64 bytes in base64.
#FOREMAN_WEBHOOK_SECRET=
"""

_EXAMPLES = {
    "foreman.service.d/ollama.conf": """\
# Ollama runs on this machine as ollama.service: start it first, and with foreman. foreman serves
# without it too, and its jobs wait until it is there.
[Unit]
Wants=ollama.service
After=ollama.service
""",
    "foreman.service.d/lan.conf": """\
# Serve the network, without foreman.socket. Put FOREMAN_TOKEN=name:secret into
# /etc/foreman/foreman.env (mode 0600): without a token foreman refuses to start here.
[Service]
Environment=FOREMAN_LISTEN=0.0.0.0:8080
""",
    "foreman.socket.d/lan.conf": """\
# Serve the network through foreman.socket. The empty line takes back the address of the unit.
# Put FOREMAN_TOKEN=name:secret into /etc/foreman/foreman.env (mode 0600): foreman looks at the
# address of the socket it is handed, and without a token it refuses to serve this one.
[Socket]
ListenStream=
ListenStream=0.0.0.0:8080
""",
}


def service(command: Sequence[str], *, user: bool) -> str:
    """The text of foreman.service that runs `command`: for the system, or for one user's manager.

    A user's manager cannot change what a process sees of the system: there the sandbox is what the
    kernel lets a process do without.
    """
    return _UNIT.format(
        command=" ".join(map(_quoted, command)),
        place="WorkingDirectory=/" if user else _SYSTEM_PLACE,
        sandbox="" if user else _SYSTEM_SANDBOX,
        target="default.target" if user else "multi-user.target",
    )


def socket() -> str:
    """The text of foreman.socket."""
    return _SOCKET


def environment() -> str:
    """A file of settings in which nothing is set yet."""
    return _ENVIRONMENT


def launchd(command: Sequence[str], log: str) -> str:
    """The property list of the launchd job that runs `command` and logs to the file `log`."""
    job = {
        "Label": LABEL,
        "ProgramArguments": list(command),
        "RunAtLoad": True,
        "KeepAlive": True,
        "ThrottleInterval": 5,  # seconds between two starts, also with settings that are wrong
        "ExitTimeOut": 30,  # seconds; a stop takes at most 10
        "ProcessType": "Interactive",  # no throttling: somebody waits for its answers
        "WorkingDirectory": "/",
        "Umask": 0o077,
        "StandardErrorPath": log,
        "SoftResourceLimits": {"NumberOfFiles": 65536},
    }
    return plistlib.dumps(job, sort_keys=False).decode()


def copies() -> Iterator[tuple[Path, str]]:
    """Path in the repository -> the text of the copy that is kept there."""
    systemd = Path("deploy/systemd")
    yield systemd / SERVICE, MADE + service(EXAMPLE_COMMAND, user=False)
    yield systemd / SOCKET, MADE + socket()
    yield systemd / f"{NAME}.env", MADE + environment()
    yield systemd / "user" / SERVICE, MADE + service(EXAMPLE_COMMAND, user=True)
    for path, text in _EXAMPLES.items():
        yield systemd / "examples" / path, MADE + text
    log = "/usr/local/var/log/foreman.log"
    yield Path("deploy/launchd") / f"{LABEL}.plist", launchd(EXAMPLE_COMMAND, log)


def write(folder: Path) -> None:
    """Write all copies below `folder`."""
    for path, text in copies():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")


def _quoted(word: str) -> str:
    """A word of ExecStart=, with nothing in it that systemd would expand."""
    plain = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{plain}"' if plain != word or " " in plain else plain


if __name__ == "__main__":
    write(Path(*sys.argv[1:2]))
