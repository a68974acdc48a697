"""Every `async def` test below this folder runs twice: under trio and under asyncio.

Neither plugin can do that here: pytest-trio, with `trio_mode = true`, takes each async test for
trio's, also those that anyio's plugin has taken. So before pytest-trio looks, each becomes a plain
function that runs the coroutine by `tests.foreman.llm.loops.run`, once per `backend`.

- A test that asks for `virtual_time` gets a clock that jumps to the next timer: 30 s take none.
  Not with threads or sockets, for which a jumping clock does not wait.
- Async fixtures are trio's alone: open what a test needs by `async with` in the test.
- With hypothesis: a plain `def` test that calls `loops.run` for each example.
"""

import functools
from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any

import pytest

from tests.foreman.llm.loops import BACKENDS, run

HERE = Path(__file__).parent


@pytest.fixture
def virtual_time() -> None:
    """Waiting takes no time in the test that asks for this."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if iscoroutinefunction(metafunc.function):
        if "backend" not in metafunc.fixturenames:
            metafunc.fixturenames.append("backend")
        metafunc.parametrize("backend", BACKENDS)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not isinstance(item, pytest.Function) or HERE not in item.path.parents:
            continue
        if iscoroutinefunction(item.obj):
            item.obj = _plain(item.obj, str(item.callspec.params["backend"]), item.fixturenames)


def _plain(
    test: Callable[..., Awaitable[None]], backend: str, fixtures: list[str]
) -> Callable[..., None]:
    @functools.wraps(test)
    def plain(**given: Any) -> None:
        run(functools.partial(test, **given), backend, virtual="virtual_time" in fixtures)

    return plain
