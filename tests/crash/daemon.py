"""The real daemon, to be killed: forks one for each line of its input, so that a kill is cheap.

A line is JSON: the environment, and the point at which the daemon kills itself (see `points`).
Said on standard output: `pid N`, `serving`, `at POINT` where it kills itself, and `ended STATUS` as
of os.waitpid. The daemon's log goes to standard error.
"""

import json
import os
import random
import sys

from actors.daemon import run_daemon
from foreman.api import own  # noqa: F401  (the slow imports once, and not in every child)
from tests.crash.points import Trap, install


def main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            _become_daemon(order["environment"], order["point"], order["nth"])
        os.write(1, f"pid {child}\n".encode())
        _, status = os.waitpid(child, 0)
        os.write(1, f"ended {status}\n".encode())


def _become_daemon(environment: dict[str, str], point: str, nth: int) -> None:
    os.environ |= environment
    random.seed()
    install(Trap(point, nth))
    code = run_daemon()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
