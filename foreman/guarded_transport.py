"""The way out for webhooks: an httpx transport that connects only where the rules allow.

A name is resolved once, every answer is judged, and the connection goes to a judged address, so an
answer that changes in between gains nothing. `Host`, SNI and the certificate's name stay those of
the URL. No connection is kept: the next request is judged anew.
"""

import math
import ssl
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from types import TracebackType
from typing import Self, cast

import httpcore
import httpx
import trio

from foreman.hosts import Ip
from foreman.netguard import Rules

Resolver = Callable[[str, int], Awaitable[Sequence[Ip]]]
"""Host and port to addresses, the best first. Raises OSError when there are none."""


async def resolve(host: str, port: int) -> Sequence[Ip]:
    """What the system says a host stands for."""
    answers = await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_STREAM)
    return [ip_address(str(address[0])) for *_, address in answers]


class GuardedTransport(httpx.AsyncBaseTransport):
    """HTTP/1.1 under `rules`; runs on trio.

    Without `tls` certificates are checked against those the system trusts, from TLS 1.2 on, which
    is Python's default.
    `connect_timeout` (seconds) holds where the client sets none. After `answer_limit` bytes an
    answer ends, as if that were all. `network` is what connects to the addresses that passed.
    Requests raise Blocked, or httpx's errors.
    """

    def __init__(
        self,
        rules: Rules,
        *,
        tls: ssl.SSLContext | None = None,
        connect_timeout: float = 5.0,
        answer_limit: int = 64 << 10,
        resolve: Resolver = resolve,
        network: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        self._rules = rules
        self._connect_timeout = connect_timeout
        self._answer_limit = answer_limit
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls or ssl.create_default_context(),
            max_keepalive_connections=0,
            network_backend=_GuardedNetwork(rules, resolve, network or _trio_network()),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._pool.aclose()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send it if it may go there. Raises Blocked, httpx.TransportError."""
        self._rules.check_url(str(request.url))
        with _errors_of_httpx():
            answer = await self._pool.handle_async_request(self._outgoing(request))
        body = _Body(answer, self._answer_limit)
        return httpx.Response(answer.status, headers=answer.headers, stream=body)

    def _outgoing(self, request: httpx.Request) -> httpcore.Request:
        limits = request.extensions.get("timeout", {})
        connect = limits.get("connect") or self._connect_timeout
        return httpcore.Request(
            request.method,
            httpcore.URL(
                scheme=request.url.raw_scheme,
                host=request.url.raw_host,
                port=request.url.port,
                target=request.url.raw_path,
            ),
            headers=request.headers.raw,
            content=request.stream,
            extensions={**request.extensions, "timeout": {**limits, "connect": connect}},
        )


def _trio_network() -> httpcore.AsyncNetworkBackend:
    # httpcore has a stand-in of the same name for where trio is not installed.
    return cast("httpcore.AsyncNetworkBackend", httpcore.TrioBackend())


class _GuardedNetwork(httpcore.AsyncNetworkBackend):
    """Resolves, judges, and has `network` connect to what passed. Opens no socket files."""

    def __init__(
        self, rules: Rules, resolve: Resolver, network: httpcore.AsyncNetworkBackend
    ) -> None:
        self._rules = rules
        self._resolve = resolve
        self._network = network

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            with trio.fail_after(math.inf if timeout is None else timeout) as limit:
                addresses = await self._judged(host, port)
                return await self._first(addresses, port, limit.deadline)
        except trio.TooSlowError:
            raise httpcore.ConnectTimeout(f"no connection to {host} within {timeout:g} s") from None
        except OSError as error:
            raise httpcore.ConnectError(f"{host} cannot be resolved: {error}") from error

    async def _judged(self, host: str, port: int) -> Sequence[Ip]:
        """The host's addresses, each of which passed. Raises Blocked, OSError."""
        addresses = await self._resolve(host, port)
        target = self._rules.target
        theirs = await self._resolve(*target) if port == target.port else ()
        self._rules.check_addresses(host, port, addresses, theirs)
        return addresses

    async def _first(
        self, addresses: Sequence[Ip], port: int, deadline: float
    ) -> httpcore.AsyncNetworkStream:
        """The first that answers; one that keeps silent leaves the others their share of time."""
        for left, address in zip(range(len(addresses), 1, -1), addresses, strict=False):
            share = (deadline - trio.current_time()) / left
            try:
                return await self._network.connect_tcp(str(address), port, share)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await self._network.connect_tcp(str(addresses[-1]), port)


class _Body(httpx.AsyncByteStream):
    """The first `limit` bytes of the answer, with httpcore's errors turned into httpx's."""

    def __init__(self, answer: httpcore.Response, limit: int) -> None:
        self._answer = answer
        self._pieces = answer.aiter_stream()
        self._left = limit

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        with _errors_of_httpx():
            piece = (await anext(self._pieces))[: self._left]
        self._left -= len(piece)
        return piece

    async def aclose(self) -> None:
        await self._answer.aclose()
        # Trio complains of generators left half way; on a closed connection these end by an error.
        with suppress(httpcore.NetworkError, httpcore.ProtocolError):
            async for _ in self._pieces:
                pass


@contextmanager
def _errors_of_httpx() -> Generator[None]:
    """Each error of httpcore has its namesake in httpx."""
    try:
        yield
    except (
        httpcore.TimeoutException,
        httpcore.NetworkError,
        httpcore.ProtocolError,
        httpcore.UnsupportedProtocol,
    ) as error:
        namesake: type[httpx.TransportError] = getattr(httpx, type(error).__name__)
        raise namesake(str(error)) from error
