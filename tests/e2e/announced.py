"""`foreman serve`, which says its URL on standard output, whatever becomes of its log.

With `--childless` it leaves with exit status 88 as soon as it starts another process. What trio
runs to find a library is over by then: that is while it is imported, with nothing open yet.
"""

import os
import sys
from socket import socket
from typing import Any

import trio

from actors import system
from actors.__main__ import main
from foreman.database import Database

CHILDREN = ("os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.system", "pty.", "subprocess.")


def _announce_on_stdout() -> None:
    announce = system._announce

    def announced(listener: socket, database: Database, task_status: trio.TaskStatus[str]) -> None:
        announce(listener, database, task_status)
        os.write(1, b"http://127.0.0.1:%d\n" % listener.getsockname()[1])

    system._announce = announced


def _stay_childless(event: str, arguments: tuple[Any, ...]) -> None:
    if event.startswith(CHILDREN):
        os.write(2, f"{event} {arguments}\n".encode())
        os._exit(88)


if __name__ == "__main__":
    _announce_on_stdout()
    if "--childless" in sys.argv:
        sys.addaudithook(_stay_childless)
    sys.argv = ["foreman", "serve"]
    main()
