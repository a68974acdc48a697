"""Logging: structlog's processors behind the standard library's loggers, on file descriptor 2.

Every module logs with `logging.getLogger("foreman.…")`; `extra={"key": value}` becomes fields, and
inside `about(job)` each line carries the job's id, also those of libraries. A line that cannot be
written is lost, never waited for and never an error: logs must not stop the work.

Where the descriptor is the journal's, console lines say their priority as sd-daemon(3) wants it and
leave the time to the journal.
"""

import errno
import json
import logging
import os
import select
import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Literal

from foreman.jobs import JobId

# structlog loads rich, if it is there, for tracebacks in colour: a tenth of a second of every start
# for what foreman does not use. An entry of None means "not there" to the import system.
if "rich" in sys.modules:
    import structlog
else:
    sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        import structlog
    finally:
        del sys.modules["rich"]

Format = Literal["console", "json"]

STDERR = 2
PIECE = 4096  # bytes; a pipe that polls as writable takes this much at once
SHORTEST_SECRET = 6  # characters; blotting out shorter ones would shred every line
CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {10: "\\n"}
PRIORITIES = (  # as syslog(3) numbers them
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
)
DEBUG_PRIORITY = 7
CHATTY = ("asyncio", "hpack", "httpcore", "httpx", "hypercorn")


def configure(
    level: str = "info",
    format: Format = "console",
    secrets: Iterable[str] = (),
) -> None:
    """Send all logs to standard error from here on; calling it again replaces what was set.

    `secrets` are blotted out wherever they turn up, in messages and tracebacks too.
    """
    _occupy_standard_streams()
    hidden = [text for text in secrets if len(text) >= SHORTEST_SECRET]
    journal = format == "console" and _is_journal()
    handler = _Stderr([*hidden, *(json.dumps(text)[1:-1] for text in hidden)], journal=journal)
    handler.setFormatter(_formatter(format, colours=_wants_colours(), times=not journal))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(capture=True)
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)


def about(job: JobId) -> AbstractContextManager[None]:
    """Inside the block, and in the tasks started there, each line carries this job's id."""
    return structlog.contextvars.bound_contextvars(job=job)


class _Stderr(logging.Handler):
    def __init__(self, secrets: Sequence[str], *, journal: bool) -> None:
        super().__init__()
        self._secrets = secrets
        self._journal = journal

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception as error:  # noqa: BLE001  # a wrong logging call costs its own line only
            line = f"{record.pathname}:{record.lineno}: this line cannot be logged: {error!r}"
        for secret in self._secrets:
            line = line.replace(secret, "[secret]")
        if self._journal:  # which takes each line of a traceback for an entry of its own
            priority = f"<{_priority(record.levelno)}>"
            line = "\n".join(priority + each for each in line.splitlines())
        # Straight to the descriptor: what a failed write left in sys.stderr's buffer would fail
        # again when the interpreter ends, and turn exit status 0 into 120.
        with suppress(OSError):
            _write((line + "\n").encode("utf-8", "backslashreplace"))


def _write(data: bytes) -> None:
    """Write what fits now. A reader that has stopped must not stop the event loop."""
    ready = select.poll()
    ready.register(STDERR, select.POLLOUT)
    while data and ready.poll(0):
        data = data[os.write(STDERR, data[:PIECE]) :]


def _is_journal() -> bool:
    """Whether descriptor 2 is the stream that systemd opened to the journal for this process."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    found = os.fstat(STDERR)
    return (device, inode) == (str(found.st_dev), str(found.st_ino))


def _priority(level: int) -> int:
    return next((number for least, number in PRIORITIES if level >= least), DEBUG_PRIORITY)


def _formatter(format: Format, *, colours: bool, times: bool) -> logging.Formatter:
    before: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
    ]
    if times:
        before.append(structlog.processors.TimeStamper(fmt="iso", utc=True))
    remove_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    last: list[structlog.typing.Processor]
    if format == "json":
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        plain = structlog.dev.plain_traceback
        console = structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=plain)
        last = [_one_line, console]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=before, processors=[remove_meta, *last]
    )


def _one_line(
    _logger: object, _method: str, fields: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Show control characters instead of obeying them: clients choose part of what is logged."""
    for name, value in fields.items():
        if isinstance(value, str):
            fields[name] = value.strip().translate(CONTROL)
    return fields


def _wants_colours() -> bool:
    return os.isatty(STDERR) and not os.environ.get("NO_COLOR")


def _occupy_standard_streams() -> None:
    """Open /dev/null in place of a closed stream.

    Otherwise the next file opened, the database perhaps, becomes descriptor 2 and gets the logs.
    """
    for descriptor in range(STDERR + 1):
        try:
            os.fstat(descriptor)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
    if sys.stderr is None:  # so it is when the interpreter found it closed
        sys.stderr = os.fdopen(STDERR, "w", closefd=False)
