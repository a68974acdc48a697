"""OpenAI, and whoever speaks its chat completions, through the official SDK (extra `openai`).

openai://sk-...@                 the vendor's own address
openai://key@box:8000/v1         a server that speaks the same
"""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import openai

from foreman.llm.capabilities import Capabilities
from foreman.llm.dsn import DSN, Secret
from foreman.llm.errors import Closed, SpecError, StreamBroken
from foreman.llm.framing import ServerSentEvents
from foreman.llm.model import Listed, Stream
from foreman.llm.providers import openai_request, openai_response
from foreman.llm.providers.answering import Answer
from foreman.llm.providers.sdk import TIMEOUT, Vendor, http_client, unsent
from foreman.llm.request import Request
from foreman.llm.response import Response

HOME = "https://api.openai.com/v1"

_WINDOWS = (
    ("gpt-3.5-turbo", 16385),
    ("gpt-4o", 128000),
    ("gpt-4-turbo", 128000),
    ("gpt-4.1", 1047576),
    ("gpt-4.5", 128000),
    ("gpt-4", 8192),
)  # the first that fits
_REASONING = ("gpt-5", "o1", "o3", "o4")


def from_dsn(dsn: DSN) -> "OpenAIProvider":
    """Its provider. Raises SpecError without a key where one is needed, and for any option."""
    for option in dsn.options:
        raise SpecError(f"provider {dsn.name!r}: there are no options, and so no {option!r}")
    return OpenAIProvider(dsn.name, token=dsn.token, url=dsn.url or HOME)


class OpenAIProvider:
    """One account, or one server. `capabilities` tells what models can do, by name."""

    def __init__(
        self,
        name: str = "openai",
        *,
        token: Secret | None = None,
        url: str = HOME,
        capabilities: Mapping[str, Capabilities] | None = None,
    ) -> None:
        self.is_home = url == HOME
        if token is None and self.is_home:
            raise SpecError(f"provider {name!r}: OpenAI needs a key, as in openai://KEY@")
        self.name = name
        self.vendor = Vendor(openai, openai_response.refusal, token)
        self._token = token
        self._url = url
        self._capabilities = dict(capabilities or {})
        self._client: openai.AsyncOpenAI | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"OpenAIProvider({self.name!r}, {self._url!r})"

    def client(self) -> openai.AsyncOpenAI:
        """The SDK's, made on first use. Raises Closed."""
        if self._closed:
            raise Closed(f"{self.name} is closed")
        if self._client is None:
            key = self._token.reveal() if self._token else "none"
            self._client = openai.AsyncOpenAI(
                api_key=key,
                base_url=self._url,
                max_retries=0,
                timeout=TIMEOUT,
                http_client=http_client(self._url),
                default_headers={} if self.is_home else _not_for_others(key),
            )
        return self._client

    def model(self, name: str) -> "OpenAIModel":
        return OpenAIModel(self, name)

    def able(self, model: str) -> Capabilities:
        """What the model can do, as far as anybody knows."""
        default = _known(model) if self.is_home else Capabilities(top_k=False)
        return self._capabilities.get(model, default)

    async def models(self) -> tuple[Listed, ...] | None:
        """All that the account may use; the vendor does not say which of them can chat."""
        call: Any = self.client().models.with_streaming_response.list()
        content = await self.vendor.whole(call, self.name)
        names = openai_response.listed(content, target=self.name)
        return tuple(Listed(name, self.able(name)) for name in names)

    async def aclose(self) -> None:
        self._closed = True
        client, self._client = self._client, None
        if client is not None:
            await client.close()


class OpenAIModel:
    """One model of an account."""

    def __init__(self, provider: OpenAIProvider, model: str) -> None:
        self._provider = provider
        self._model = model
        self.name = f"{provider.name}/{model}"

    @property
    def capabilities(self) -> Capabilities:
        return self._provider.able(self._model)

    async def complete(self, request: Request) -> Response:
        reader = openai_response.Reader(self.name)
        call = self._call(request, stream=False)
        content = await self._provider.vendor.whole(call, self.name)
        for event in reader.whole(content):
            if event.response is not None:
                return event.response
        raise StreamBroken("the answer is not complete", target=self.name)

    def stream(self, request: Request) -> Stream:
        return self._stream(request)

    @asynccontextmanager
    async def _stream(self, request: Request) -> AsyncGenerator[Answer]:
        read = openai_response.Reader(self.name).read
        call = self._call(request, stream=True)
        async with self._provider.vendor.answer(
            call, ServerSentEvents(), read, self.name
        ) as answer:
            yield answer

    def _call(self, request: Request, *, stream: bool) -> Any:
        """One of the SDK's streaming-response calls: its types know no other server's fields."""
        options = self.capabilities.adapt(request.options)
        limit = "max_completion_tokens" if self._provider.is_home else "max_tokens"
        body = openai_request.body(request, options, limit_name=limit)
        if stream:
            body = {"stream_options": {"include_usage": True}, **body}
        messages: Any = body.pop("messages")
        create: Any = self._provider.client().chat.completions.with_streaming_response.create
        return create(
            model=self._model,
            messages=messages,
            stream=stream,
            extra_body=body,
            extra_headers={"Idempotency-Key": request.id},
        )


def _known(model: str) -> Capabilities:
    """What is known of OpenAI's own models; the windows of the newer ones are not."""
    reasons = model.startswith(_REASONING)
    return Capabilities(
        context=next((size for name, size in _WINDOWS if model.startswith(name)), None),
        thinking=reasons,
        temperature=not reasons,
        top_p=not reasons,
        stop=not reasons,
        top_k=False,
    )


def _not_for_others(key: str) -> dict[str, Any]:
    """Keeps from a server that is not OpenAI's what the SDK finds for OpenAI in the environment."""
    names = [*unsent("OPENAI_CUSTOM_HEADERS"), "OpenAI-Organization", "OpenAI-Project"]
    return {**dict.fromkeys(names, openai.omit), "Authorization": f"Bearer {key}"}
