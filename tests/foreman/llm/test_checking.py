import anyio
import pytest

from foreman.llm.checking import check
from foreman.llm.errors import Unauthorized
from foreman.llm.model import Listed
from foreman.llm.providers.fake import FakeProvider
from foreman.llm.registry import Registry


class Odd(FakeProvider):
    """Says something else when it is asked for its models."""

    def __init__(self, name: str, says: Exception | float | None) -> None:
        super().__init__(name)
        self._says = says

    async def models(self) -> tuple[Listed, ...] | None:
        if isinstance(self._says, Exception):
            raise self._says
        if self._says is not None:
            await anyio.sleep(self._says)
        return None


async def test_all_are_tried_at_once_and_told_of_in_order(virtual_time: None) -> None:
    registry = Registry(environ={})
    registry.register(Odd("slow", 60.0))
    registry.register(Odd("locked", Unauthorized("who are you?", target="locked")))
    registry.register(Odd("silent", None))
    began = anyio.current_time()

    findings = await check(registry, ["slow", "locked", "silent", "nobody", "slow"], patience=5.0)

    assert anyio.current_time() - began == pytest.approx(5.0)
    assert [each.name for each in findings] == ["slow", "locked", "silent", "nobody"]
    slow, locked, silent, nobody = [each.problem for each in findings]
    assert (slow, locked, silent) == ("no answer within 5 s", "locked: who are you?", "")
    assert "LLM_NOBODY is not set" in nobody
