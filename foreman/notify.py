"""What the daemon tells the service manager that started it: sd_notify(3), in a few lines.

systemd names a datagram socket in NOTIFY_SOCKET; without it nobody listens and nothing is said.
A message that cannot be sent is lost: no service manager is a reason to stop working.
"""

import logging
import os
import socket
from collections.abc import MutableMapping
from dataclasses import dataclass

log = logging.getLogger("foreman.notify")

SEND_TIMEOUT = 1.0  # seconds; systemd empties its queue at once unless the machine stands still


@dataclass(frozen=True, slots=True)
class Notifier:
    """Tells one service manager how the daemon is. `address` is a socket's, None = nobody's.

    `watchdog` is how often (s) it wants a sign of life, None = never.
    """

    address: str | None = None
    watchdog: float | None = None

    def ready(self, status: str) -> None:
        """The daemon serves."""
        self._send("READY=1", f"STATUS={status}")

    def stopping(self, status: str) -> None:
        """The daemon has begun to stop."""
        self._send("STOPPING=1", f"STATUS={status}")

    def alive(self) -> None:
        """The sign of life that `watchdog` asks for."""
        self._send("WATCHDOG=1")

    def _send(self, *fields: str) -> None:
        if self.address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(SEND_TIMEOUT)
                sender.sendto("\n".join(fields).encode(), self.address)
        except OSError as error:
            log.warning("the service manager was not told %s: %s", fields[0], error)


NOBODY = Notifier()


def from_environment(environ: MutableMapping[str, str] = os.environ) -> Notifier:
    """The notifier for this process; the variables are taken out, they are not for its children."""
    named = environ.pop("NOTIFY_SOCKET", "")
    period = environ.pop("WATCHDOG_USEC", "")
    meant = environ.pop("WATCHDOG_PID", "") or str(os.getpid())
    if not named.startswith(("/", "@")):  # unset, or a kind of socket that is not of this machine
        return NOBODY
    address = "\0" + named[1:] if named.startswith("@") else named
    watched = period.isascii() and period.isdigit() and int(period) > 0
    if not watched or meant != str(os.getpid()):
        return Notifier(address)
    return Notifier(address, int(period) / 1e6)
