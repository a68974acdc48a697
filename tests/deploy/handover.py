"""`handover.py DESCRIPTOR COMMAND...`: becomes COMMAND, with the descriptor as its third.

As systemd does it: LISTEN_PID is the process's own number, so only the process itself can set it.
"""

import os
import sys


def main() -> None:
    descriptor, *command = sys.argv[1:]
    os.dup2(int(descriptor), 3)
    os.environ |= {
        "LISTEN_PID": str(os.getpid()),
        "LISTEN_FDS": "1",
        "LISTEN_FDNAMES": "http",
    }
    os.execv(command[0], command)  # noqa: S606  this process becomes it


if __name__ == "__main__":
    main()
