import anyio
import pytest
import sniffio

from tests.foreman.llm.loops import BACKENDS, run

seen: set[str] = set()


async def test_an_async_test_runs_under_the_backend_it_is_told(backend: str) -> None:
    assert sniffio.current_async_library() == backend


async def test_one_that_asks_for_no_backend_runs_all_the_same() -> None:
    seen.add(sniffio.current_async_library())


def test_and_under_both() -> None:
    assert seen == set(BACKENDS)


async def test_virtual_time_passes_when_nothing_else_can(virtual_time: None) -> None:
    start = anyio.current_time()
    with anyio.move_on_after(30) as scope:
        await anyio.sleep(3600)

    assert scope.cancelled_caught
    assert anyio.current_time() - start == pytest.approx(30)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_hung_test_fails(backend: str) -> None:
    with pytest.raises(TimeoutError):
        run(anyio.sleep_forever, backend, virtual=True)
