"""The pulse: what it sees of a loop that is on time, and of one that is not."""

import trio
import trio.testing
from trio.testing import MockClock

from actors import pulse


async def test_a_loop_on_time_has_no_lag(autojump_clock: MockClock) -> None:
    lags: list[float] = []
    stopping = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(pulse.run, lags.append, stopping)
        await trio.sleep(10.5)
        stopping.set()
    assert lags == [0.0] * 10


async def test_a_loop_that_was_held_up_is_seen(mock_clock: MockClock) -> None:
    lags: list[float] = []
    stopping = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(pulse.run, lags.append, stopping)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(pulse.EVERY + 0.3)  # what was due a second from then is 0.3 s late
        await trio.testing.wait_all_tasks_blocked()
        stopping.set()
    [lag] = lags
    assert abs(lag - 0.3) < 1e-9
