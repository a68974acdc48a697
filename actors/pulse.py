"""The pulse: how late the event loop comes to what is due, looked at once a second.

Inbox:  none.
Owns:   nothing.
Crash:  a look is left out.

A stall shorter than a second may pass unseen between two looks; the longer, the surer it is seen.
"""

from collections.abc import Callable

import trio

EVERY = 1.0  # seconds


async def run(
    lagged: Callable[[float], None],
    stopping: trio.Event,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Tell `lagged`, in seconds, until `stopping` is set."""
    task_status.started()
    while not stopping.is_set():
        due = trio.current_time() + EVERY
        with trio.move_on_at(due) as waited:
            await stopping.wait()
        if waited.cancelled_caught:
            lagged(trio.current_time() - due)
