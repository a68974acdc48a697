"""An Ollama server, by its native API. Whoever speaks that can be reached: a foreman, too.

ollama://box                     http://box:11434
ollama+https://token@box/path    for a server behind a proxy
ollama://box?keep_alive=1h       a field for each request
"""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

import httpx
import msgspec

from foreman.llm.capabilities import Capabilities
from foreman.llm.dsn import DSN, Secret
from foreman.llm.errors import InvalidResponse, SpecError, StreamBroken
from foreman.llm.framing import Lines
from foreman.llm.model import Listed, Stream
from foreman.llm.providers import http, ollama_request, ollama_response, wording
from foreman.llm.providers.answering import Answer
from foreman.llm.request import Request
from foreman.llm.response import Response

HOME = "http://127.0.0.1:11434"
OPTIONS = frozenset({"keep_alive"})


def from_dsn(dsn: DSN) -> "OllamaProvider":
    """Its provider. Raises SpecError for an option that it does not know."""
    for option in dsn.options.keys() - OPTIONS:
        raise SpecError(f"provider {dsn.name!r}: no option {option!r} among: keep_alive")
    return OllamaProvider(dsn.name, url=dsn.url, token=dsn.token, fields=dsn.options)


class OllamaProvider:
    """One server. `fields` go into each request's body, under those of the request's options.

    `capabilities` tells what models can do, by name; `models()` learns it from the server.
    """

    def __init__(
        self,
        name: str = "ollama",
        *,
        url: str = HOME,
        token: Secret | None = None,
        fields: Mapping[str, object] | None = None,
        capabilities: Mapping[str, Capabilities] | None = None,
    ) -> None:
        self.name = name
        self.connection = http.Connection(name, url, token)
        self.fields = dict(fields or {})
        self.capabilities = dict(capabilities or {})

    def __repr__(self) -> str:
        return f"OllamaProvider({self.name!r}, {self.connection.url!r})"

    def model(self, name: str) -> "OllamaModel":
        return OllamaModel(self, name)

    async def models(self) -> tuple[Listed, ...] | None:
        """From /api/tags, without those that only embed."""
        request = self.connection.client().build_request("GET", "/api/tags")
        async with self.connection.open(request, self.name) as response:
            await accept(response, self.name, self.connection)
            found = ollama_response.listed(await http.read(response, self.name), target=self.name)
        self.capabilities = {each.name: each.capabilities for each in found} | self.capabilities
        return found

    async def aclose(self) -> None:
        await self.connection.aclose()


class OllamaModel:
    """One model of a server."""

    def __init__(self, provider: OllamaProvider, model: str) -> None:
        self._provider = provider
        self._model = model
        self.name = f"{provider.name}/{model}"

    @property
    def capabilities(self) -> Capabilities:
        return self._provider.capabilities.get(self._model, Capabilities())

    async def complete(self, request: Request) -> Response:
        reader = ollama_response.Reader(self.name)
        async with self._asked(request, stream=False) as response:
            content = await http.read(response, self.name)
        for event in reader.read(content):
            if event.response is not None:
                return event.response
        raise StreamBroken("the answer is not complete", target=self.name)

    def stream(self, request: Request) -> Stream:
        return self._stream(request)

    @asynccontextmanager
    async def _stream(self, request: Request) -> AsyncGenerator[Answer]:
        reader = ollama_response.Reader(self.name)
        async with self._asked(request, stream=True) as response:
            answer = Answer(
                response.aiter_raw(),
                Lines(),
                reader.read,
                target=self.name,
                errors=httpx.HTTPError,
                timeouts=httpx.TimeoutException,
            )
            async with answer.until_left():
                yield answer

    @asynccontextmanager
    async def _asked(self, request: Request, *, stream: bool) -> AsyncGenerator[httpx.Response]:
        """A 2xx answer's head."""
        connection = self._provider.connection
        options = self.capabilities.adapt(request.options)
        own = ollama_request.body(self._model, request, options, target=self.name)
        posted = connection.client().build_request(
            "POST",
            "/api/chat",
            content=msgspec.json.encode({**self._provider.fields, **own, "stream": stream}),
            headers={"content-type": "application/json", "idempotency-key": request.id},
        )
        async with connection.open(posted, self.name) as response:
            await accept(response, self.name, connection)
            yield response


async def accept(response: httpx.Response, target: str, connection: http.Connection) -> None:
    """Raises what a status other than 2xx stands for, in the server's own words."""
    if response.is_success:
        return
    if response.is_redirect:
        raise InvalidResponse(f"status {response.status_code}: it is elsewhere", target=target)
    text = connection.hidden(ollama_response.error_text(await http.read(response, target)))
    later = wording.retry_after(response.headers)
    raise ollama_response.refusal(response.status_code, text, target=target, retry_after=later)
