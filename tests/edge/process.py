"""The echo app in a process of its own: prints its port, serves until stdin ends, reports.

process.py [FILES before|after]    lower the limit of descriptors to FILES, before or after
                                   the server has started and made its plans
"""

import json
import logging
import resource
import sys
from functools import partial
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).parents[2]))

from actors.listener import EdgeLimits, open_listener, serve
from tests.edge.serving import echo


class Count(logging.Handler):
    """How many records of at least ERROR there were: failures of the app, or of accept."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.errors = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.errors += 1


def limit_files(files: str) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(files), int(files)))


async def main(*limit: str) -> None:
    """Exceptions that leave `serve` end the process with a status that is not 0."""
    files, when = limit or ("", "")
    count = Count()
    logging.getLogger("foreman.edge").addHandler(count)
    logging.getLogger("foreman.edge").propagate = False
    if when == "before":
        limit_files(files)
    limits, stop = EdgeLimits(), trio.Event()
    listener = open_listener("127.0.0.1", 0, limits)
    port = listener.getsockname()[1]
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve, echo, listener, limits, shutdown=stop.wait, grace=5))
        if when == "after":
            limit_files(files)
        tasks = trio.lowlevel.current_statistics().tasks_living
        print(port, flush=True)
        await trio.lowlevel.wait_readable(sys.stdin)
        while trio.lowlevel.current_statistics().tasks_living > tasks:
            await trio.lowlevel.checkpoint()  # the parent has a deadline for this
        stop.set()
    print(json.dumps({"errors": count.errors}))


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
