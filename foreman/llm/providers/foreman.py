"""A foreman, by its durable jobs: each call has a place in the queue, and survives a restart.

    foreman://token@box              http://box:8080
    foreman://token@box?priority=5   -100..100, larger first

A job runs behind the clients that wait for an answer in person. For a call among those, without a
place that could be shown or left, take the same address as `ollama://token@box:8080`.
"""

from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Self

from foreman.client.requests import JobParameters
from foreman.llm.capabilities import Capabilities
from foreman.llm.dsn import DSN, Secret
from foreman.llm.errors import SpecError
from foreman.llm.model import Listed, Stream, whole
from foreman.llm.providers import http, ollama_request, ollama_response
from foreman.llm.providers.foreman_jobs import Foreman, Submission, submitted
from foreman.llm.providers.foreman_transport import translated
from foreman.llm.providers.ollama import accept
from foreman.llm.request import Request
from foreman.llm.response import Event, Place, Response

HOME = "http://127.0.0.1:8080"
VENDORS = ("ollama", "foreman")  # whose fields of the options go into the body


def from_dsn(dsn: DSN) -> "ForemanProvider":
    """Its provider. Raises SpecError for an option that it does not know."""
    for option in dsn.options.keys() - {"priority"}:
        raise SpecError(f"provider {dsn.name!r}: no option {option!r} among: priority")
    try:
        priority = int(dsn.options.get("priority", "0"))
    except ValueError:
        raise SpecError(f"provider {dsn.name!r}: priority is a number from -100 to 100") from None
    return ForemanProvider(dsn.name, url=dsn.url, token=dsn.token, priority=priority)


class ForemanProvider:
    """One foreman. `capabilities` tells what models can do, by name; `models()` learns it."""

    def __init__(
        self,
        name: str = "foreman",
        *,
        url: str = HOME,
        token: Secret | None = None,
        priority: int = 0,
        capabilities: Mapping[str, Capabilities] | None = None,
    ) -> None:
        self.name = name
        self.connection = http.Connection(name, url, token)
        self.foreman = Foreman(self.connection)
        self.how = JobParameters(priority=priority) if priority else JobParameters()
        self.capabilities = dict(capabilities or {})

    def __repr__(self) -> str:
        return f"ForemanProvider({self.name!r}, {self.connection.url!r})"

    def model(self, name: str) -> "ForemanModel":
        return ForemanModel(self, name)

    async def models(self) -> tuple[Listed, ...] | None:
        """As Ollama has them, without those that only embed."""
        request = self.connection.client().build_request("GET", "/api/tags")
        async with self.connection.open(request, self.name) as response:
            await accept(response, self.name, self.connection)
            found = ollama_response.listed(await http.read(response, self.name), target=self.name)
        self.capabilities = {each.name: each.capabilities for each in found} | self.capabilities
        return found

    async def aclose(self) -> None:
        await self.connection.aclose()


class ForemanModel:
    """One model of a foreman; it can also be asked how long it would take: see `waiting`."""

    def __init__(self, provider: ForemanProvider, model: str) -> None:
        self._provider = provider
        self._model = model
        self.name = f"{provider.name}/{model}"

    @property
    def capabilities(self) -> Capabilities:
        return self._provider.capabilities.get(self._model, Capabilities())

    async def complete(self, request: Request) -> Response:
        return await whole(self.stream(request))

    def stream(self, request: Request) -> Stream:
        return self._stream(request)

    @asynccontextmanager
    async def _stream(self, request: Request) -> AsyncGenerator["_Followed"]:
        async with self.submit(request) as submission:
            yield _Followed(submission)

    async def estimate(self, request: Request) -> Place:
        """Where the request would stand if it were sent now. Raises CallError."""
        with translated(self._provider.connection, self.name):
            return await self._provider.foreman.estimate(self._model)

    def submit(self, request: Request) -> AbstractAsyncContextManager[Submission]:
        """The request in the queue; leaving the block takes it out unless it is over."""
        return self._submit(request)

    @asynccontextmanager
    async def _submit(self, request: Request) -> AsyncGenerator[Submission]:
        options = self.capabilities.adapt(request.options)
        asked = ollama_request.body(
            self._model, request, options, target=self.name, vendors=VENDORS
        ) | {"stream": True}
        foreman, how = self._provider.foreman, self._provider.how
        async with submitted(foreman, request.id, asked, how, self.name) as submission:
            yield submission


class _Followed:
    """A submission's places, then its answer."""

    def __init__(self, submission: Submission) -> None:
        self._places = submission.places()
        self._answer = submission.events()
        self._queued = True

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if self._queued:
            place = await anext(self._places, None)
            if place is not None:
                return Event(place=place)
            self._queued = False
        return await anext(self._answer)
