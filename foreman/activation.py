"""The listening socket that a service manager hands over: sd_listen_fds(3).

systemd opens the socket and keeps it while the daemon restarts, so that a client which comes
meanwhile waits instead of being refused.
"""

import os
import socket
from collections.abc import MutableMapping

from foreman.errors import ConfigError
from foreman.units import Address

FIRST = 3  # the number of the first descriptor that is handed over
HINT = "foreman serves one TCP socket: in foreman.socket write one ListenStream=host:port"


def inherited(environ: MutableMapping[str, str] = os.environ) -> socket.socket | None:
    """The socket that was handed to this process, None if there is none.

    The variables are taken out: they are not for the children. Raises ConfigError when what was
    handed over is not one listening TCP socket.
    """
    meant = environ.pop("LISTEN_PID", "")
    count = environ.pop("LISTEN_FDS", "")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    if meant != str(os.getpid()) or count in ("", "0"):
        return None
    if count != "1":
        raise ConfigError(f"{count} sockets were handed over ({', '.join(names)}); {HINT}")
    return _checked(names[0] or "unnamed")


def address_of(listener: socket.socket) -> Address:
    """Where it really listens, whatever a setting says."""
    host, port = listener.getsockname()[:2]
    return Address(host, port)


def _checked(name: str) -> socket.socket:
    try:
        handed = socket.socket(fileno=FIRST)
    except OSError as error:
        raise ConfigError(
            f"descriptor {FIRST} ({name}), which LISTEN_FDS speaks of, is no socket: "
            f"{error.strerror}; {HINT}"
        ) from None
    wrong = _wrong_with(handed)
    if wrong:
        handed.close()
        raise ConfigError(f"the socket that was handed over ({name}) {wrong}; {HINT}")
    handed.set_inheritable(False)
    return handed


def _wrong_with(handed: socket.socket) -> str:
    if handed.family not in (socket.AF_INET, socket.AF_INET6):
        return "is not a TCP socket"
    if handed.type != socket.SOCK_STREAM:
        return "is no stream"
    if not handed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return "does not listen (Accept=yes in foreman.socket?)"
    return ""
