"""A model whose provider is made when it is first needed, not when its name is read."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager

from foreman.llm.capabilities import Capabilities
from foreman.llm.errors import LLMError, SpecError, Unauthorized
from foreman.llm.model import Model
from foreman.llm.request import Request
from foreman.llm.response import Event, Response


class Deferred:
    """Stands for the model that `make` gives; what `make` raises is raised by the calls.

    A provider that refuses its DSN, as without a key, is Unauthorized: a call of one target failed.
    """

    def __init__(self, name: str, make: Callable[[], Model]) -> None:
        self.name = name
        self._make = make

    def resolve(self) -> Model:
        """The model itself. Raises LLMError."""
        try:
            return self._make()
        except SpecError as error:
            raise Unauthorized(str(error), target=self.name) from error

    @property
    def capabilities(self) -> Capabilities:
        """The model's; nothing is known of one that cannot be made, and its call will say so."""
        try:
            return self.resolve().capabilities
        except LLMError:
            return Capabilities()

    async def complete(self, request: Request) -> Response:
        return await self.resolve().complete(request)

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncGenerator[AsyncIterator[Event]]:
        async with self.resolve().stream(request) as events:
            yield events
