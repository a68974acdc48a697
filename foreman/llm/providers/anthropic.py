"""Anthropic through the official SDK (extra `anthropic`), with prompt caching.

    anthropic://sk-ant-...@          the vendor's own address
    anthropic://key@box/             a server that speaks the same
    anthropic://key@?cache=off       without the markers
    anthropic://key@?version=2026-10-21

The API's version is 2023-06-01 unless told otherwise: the later one refuses temperature, top_p and
top_k, which are left out then.
"""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import msgspec

from foreman.llm.capabilities import Capabilities, ImageLimits
from foreman.llm.dsn import DSN, Secret
from foreman.llm.errors import Closed, SpecError
from foreman.llm.framing import ServerSentEvents
from foreman.llm.model import Listed, Stream, whole
from foreman.llm.providers import anthropic_request, anthropic_response
from foreman.llm.providers.answering import Answer
from foreman.llm.providers.sdk import TIMEOUT, Vendor, http_client, unsent
from foreman.llm.request import Request
from foreman.llm.response import Response

HOME = "https://api.anthropic.com"
VERSION = "2023-06-01"  # the last that takes a temperature

_PAGE = 1000
_SWITCH = {"on": True, "off": False}
_IMAGES = ImageLimits(edge=8000, size=5 * 2**20 * 3 // 4)  # 5 MiB in base64
_MODEL = Capabilities(context=200_000, images=_IMAGES, seed=False, prompt_cache=True)
_WITHOUT_SAMPLING = {"temperature": False, "top_p": False, "top_k": False}


def from_dsn(dsn: DSN) -> "AnthropicProvider":
    """Its provider. Raises SpecError without a key where one is needed, and for unknown options."""
    for option in dsn.options.keys() - {"cache", "version"}:
        raise SpecError(f"provider {dsn.name!r}: no option {option!r} among: cache, version")
    cache = _SWITCH.get(dsn.options.get("cache", "on"))
    if cache is None:
        raise SpecError(f"provider {dsn.name!r}: cache is on or off")
    version = dsn.options.get("version", VERSION)
    return AnthropicProvider(
        dsn.name, token=dsn.token, url=dsn.url or HOME, cache=cache, version=version
    )


class AnthropicProvider:
    """One account, or one server. `capabilities` tells what models can do, by name.

    `cache`: the tools and the system's words are marked for the prompt cache, where they are long
    enough. Keep both the same from request to request, and put what changes behind them.
    """

    def __init__(
        self,
        name: str = "anthropic",
        *,
        token: Secret | None = None,
        url: str = HOME,
        cache: bool = True,
        version: str = VERSION,
        capabilities: Mapping[str, Capabilities] | None = None,
    ) -> None:
        self.is_home = url == HOME
        if token is None and self.is_home:
            raise SpecError(f"provider {name!r}: Anthropic needs a key, as in anthropic://KEY@")
        self.name = name
        self.cache = cache
        self.vendor = Vendor(anthropic, anthropic_response.refusal, token)
        self._token = token
        self._url = url
        self._version = version
        self._capabilities = dict(capabilities or {})
        self._client: anthropic.AsyncAnthropic | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"AnthropicProvider({self.name!r}, {self._url!r})"

    def client(self) -> anthropic.AsyncAnthropic:
        """The SDK's, made on first use. Raises Closed."""
        if self._closed:
            raise Closed(f"{self.name} is closed")
        if self._client is None:
            key = self._token.reveal() if self._token else "none"
            self._client = anthropic.AsyncAnthropic(
                api_key=key,
                base_url=self._url,
                max_retries=0,
                timeout=TIMEOUT,
                http_client=http_client(self._url),
                default_headers=self._headers(key),
            )
        return self._client

    def _headers(self, key: str) -> dict[str, Any]:
        """The key goes where every version, and every server that speaks the same, looks for it.

        What the SDK finds for Anthropic in the environment is for no other server.
        """
        names = [] if self.is_home else unsent("ANTHROPIC_CUSTOM_HEADERS")
        left_out = dict.fromkeys([*names, "Authorization"], anthropic.omit)
        return {**left_out, "x-api-key": key, "anthropic-version": self._version}

    def model(self, name: str) -> "AnthropicModel":
        return AnthropicModel(self, name)

    def able(self, model: str) -> Capabilities:
        """What the model can do, as far as anybody knows."""
        able = self._capabilities.get(model, _MODEL)
        able = msgspec.structs.replace(able, prompt_cache=self.cache)
        if self._version != VERSION:
            able = msgspec.structs.replace(able, **_WITHOUT_SAMPLING)
        return able

    async def models(self) -> tuple[Listed, ...] | None:
        found: list[Listed] = []
        last: str | None = None
        while True:
            after: dict[str, Any] = {"after_id": last} if last else {}
            call: Any = self.client().models.with_streaming_response.list(limit=_PAGE, **after)
            page = anthropic_response.page(
                await self.vendor.whole(call, self.name), target=self.name
            )
            for each in page.data:
                context = each.max_input_tokens or _MODEL.context
                told = msgspec.structs.replace(_MODEL, context=context, max_output=each.max_tokens)
                self._capabilities.setdefault(each.id, told)
                found.append(Listed(each.id, self.able(each.id)))
            last = page.last_id if page.has_more else None
            if last is None:
                return tuple(found)

    async def aclose(self) -> None:
        self._closed = True
        client, self._client = self._client, None
        if client is not None:
            await client.close()


class AnthropicModel:
    """One model of an account."""

    def __init__(self, provider: AnthropicProvider, model: str) -> None:
        self._provider = provider
        self._model = model
        self.name = f"{provider.name}/{model}"

    @property
    def capabilities(self) -> Capabilities:
        return self._provider.able(self._model)

    async def complete(self, request: Request) -> Response:
        """As a stream: the vendor's networks drop connections that are silent for minutes."""
        return await whole(self.stream(request))

    def stream(self, request: Request) -> Stream:
        return self._stream(request)

    @asynccontextmanager
    async def _stream(self, request: Request) -> AsyncGenerator[Answer]:
        read = anthropic_response.Reader(self.name).read
        call = self._call(request)
        async with self._provider.vendor.answer(
            call, ServerSentEvents(), read, self.name
        ) as answer:
            yield answer

    def _call(self, request: Request) -> Any:
        """One of the SDK's streaming-response calls: its types know no other server's fields."""
        able = self.capabilities
        options = able.adapt(request.options)
        body = anthropic_request.body(request, options, able, cached=self._provider.cache)
        named = {name: body.pop(name) for name in ("messages", "max_tokens")}
        create: Any = self._provider.client().messages.with_streaming_response.create
        return create(
            model=self._model,
            **named,
            stream=True,
            extra_body=body,
            extra_headers={"Idempotency-Key": request.id},
        )
