"""What stands around a model and is a model itself: it counts, records, or refuses."""

from collections.abc import AsyncIterator, Callable
from typing import Protocol, runtime_checkable

from foreman.llm.capabilities import Capabilities
from foreman.llm.model import Model
from foreman.llm.response import Event


@runtime_checkable
class _HasTargets(Protocol):
    @property
    def targets(self) -> tuple[str, ...]: ...


class Wrapper:
    """What is the model's own, whatever is done around it."""

    def __init__(self, model: Model) -> None:
        self._model = model

    @property
    def name(self) -> str:
        return self._model.name

    @property
    def capabilities(self) -> Capabilities:
        return self._model.capabilities

    @property
    def targets(self) -> tuple[str, ...]:
        """Whom it may ask, as `provider/model`."""
        return self._model.targets if isinstance(self._model, _HasTargets) else (self.name,)


class Tap:
    """Passes a stream's events on, after `see` has seen each. `error`: what ended them early.

    With it a wrapper knows what came of the model from what its caller's block has raised.
    """

    def __init__(self, events: AsyncIterator[Event], see: Callable[[Event], None]) -> None:
        self._events = events
        self._see = see
        self.error: BaseException | None = None

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        try:
            event = await anext(self._events)
        except StopAsyncIteration:
            raise
        except BaseException as error:
            self.error = error
            raise
        self._see(event)
        return event
