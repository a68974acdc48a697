"""The listening socket and the connections behind it: the server that ingress runs.

Hypercorn's own server on trio dies of one malformed websocket handshake and waits for ever on a
client that stops reading; see `actors.connection` for what is done about it.
"""

import logging
import resource
import socket
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ipaddress import IPv6Network, ip_address
from time import time
from typing import Any
from wsgiref.handlers import format_date_time

import trio
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext

from actors.connection import ClientStream, Connection, Patience
from actors.exchange import ASGIApp

log = logging.getLogger("foreman.edge")

ACCEPT_PAUSE = 0.1  # s; out of descriptors, there is nothing to do but wait for some to close
RESERVED_FILES = 64  # descriptors kept from clients: the database, the target, webhooks, logs
KEEPALIVE = 30  # s of silence before the kernel asks whether the peer is still there
VANISHED = 30  # s without an acknowledgement: the peer's machine is gone or asleep
LOOPBACK = "loopback"


@dataclass(frozen=True, slots=True)
class EdgeLimits:
    """What one client may cost. Sizes in bytes, times in seconds."""

    header_bytes: int = 16384
    """A request line and its fields; beyond it 431. Ollama's clients send under 1 KiB."""
    header_timeout: float = 5.0
    """From the first byte, or the connection, to the end of the head, however it drips."""
    keep_alive: float = 120.0
    """Idle between requests. Longer than clients pool (Go 90, nginx 60): they hang up, not we,
    so no request meets a connection that is just being closed."""
    write_stall: float = 10.0
    """How long a client may leave what it was sent unread: 64 KiB of it, or what there is."""
    requests_per_connection: int = 1000
    """Then the client reconnects; what leaks in a connection ends with it."""
    max_connections: int = 10_240
    """Beyond it, clients wait in the backlog. Never more than descriptors allow."""
    per_ip: int = 256
    """Connections from one address (one /64 for IPv6), beyond it closed at once. Loopback is
    exempt: a proxy on this machine speaks for everybody."""
    backlog: int = 1024
    """Handshakes that wait to be accepted: a reconnect storm after a restart."""
    websocket_message_bytes: int = 1024
    """Event streams only listen; a client has nothing long to say."""
    websocket_ping: float = 20.0
    """Keeps middleboxes from forgetting a quiet websocket, and tells who is still there: one that
    has been silent for twice as long is closed."""


def open_listener(host: str, port: int, limits: EdgeLimits) -> socket.socket:
    """A socket that listens on `host` (a name, IPv4 or IPv6) and `port` (0: any free one).

    Accepted sockets inherit its options. Raises OSError that names the address.
    """
    host = host.strip("[]")
    try:
        family, address = _resolve(host, port)
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            _set_options(listener)
            listener.bind(address)
            listener.listen(limits.backlog)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        why = error.strerror or str(error)
        raise OSError(error.errno, f"cannot listen on {_display(host, port)}: {why}") from error
    return listener


def adopt_listener(listener: socket.socket) -> socket.socket:
    """A socket that listens already, with the options of one that `open_listener` opened.

    Its backlog is left to whoever opened it.
    """
    _set_options(listener)
    return listener


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    # `localhost` often means ::1 first, while clients are configured with 127.0.0.1.
    family, *_, address = min(found, key=lambda info: info[0] != socket.AF_INET)
    return family, address


def _set_options(listener: socket.socket) -> None:
    listener.setblocking(False)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a token waits for no other
    if hasattr(socket, "TCP_KEEPIDLE"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE // 3)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, VANISHED * 1000)


def _display(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def serve(
    app: ASGIApp,
    sock: socket.socket,
    limits: EdgeLimits,
    *,
    shutdown: Callable[[], Awaitable[object]],
    grace: float,
    connected: Callable[[int], None] = lambda change: None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` (ASGI 3, without lifespan) on `sock` until `shutdown` returns; closes `sock`.

    Then nobody is let in any more; each connection ends with its next answer, which says so, or
    when it has been idle for a moment; and all of them after `grace` seconds.
    """
    listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
    clients = _Clients(app, limits, connected)
    async with trio.open_nursery() as connections:
        async with listener, trio.open_nursery() as entrance:
            entrance.start_soon(_let_in, listener, clients, connections)
            task_status.started()
            await shutdown()
            entrance.cancel_scope.cancel()
        clients.drain()
        connections.cancel_scope.deadline = trio.current_time() + grace


async def _let_in(
    listener: trio.SocketListener, clients: "_Clients", connections: trio.Nursery
) -> None:
    while True:
        await clients.room.acquire()
        connections.start_soon(clients.serve, await _accept(listener))


async def _accept(listener: trio.SocketListener) -> trio.SocketStream:
    """The next client, however long the machine cannot take one in."""
    failing = False
    while True:
        try:
            return await listener.accept()
        except OSError as error:  # no descriptor or memory left, or a firewall's veto
            if not failing:
                log.error("accepting no connections for now: %s", error)
            failing = True
            await trio.sleep(ACCEPT_PAUSE)


class _Clients:
    """The open connections, and how many each address holds."""

    def __init__(self, app: ASGIApp, limits: EdgeLimits, connected: Callable[[int], None]) -> None:
        self._connected = connected
        self.room = trio.Semaphore(min(limits.max_connections, _files_for_clients()))
        self._app = app
        self._limits = limits
        self._config = _HypercornConfig(limits)
        self._context = WorkerContext(None)
        self._patience = Patience(
            limits.header_timeout,
            limits.keep_alive,
            limits.write_stall,
            silence=2 * limits.websocket_ping,
        )
        self._open: set[Connection] = set()
        self._held: Counter[str] = Counter()
        self._draining = False

    async def serve(self, stream: trio.SocketStream) -> None:
        """One connection, from accept to close; gives its place in `room` back."""
        try:
            await self._admit(stream, origin_of(stream.socket.getpeername()[0]))
        except OSError:
            log.debug("a client left before it was let in")
        finally:
            stream.socket.close()
            self.room.release()

    async def _admit(self, stream: trio.SocketStream, origin: str) -> None:
        if origin != LOOPBACK and self._held[origin] >= self._limits.per_ip:
            return
        client = ClientStream(stream)
        connection = Connection(self._app, self._config, self._context, self._patience, client)
        self._open.add(connection)
        if self._draining:  # it was let in just before
            connection.drain()
        self._held[origin] += 1
        self._connected(1)
        try:
            await connection.run()
        finally:
            self._connected(-1)
            self._open.remove(connection)
            self._held -= Counter((origin,))  # drops the key at zero

    def drain(self) -> None:
        """From here on every answer is the last of its connection."""
        self._draining = True
        for connection in self._open:
            connection.drain()


class _HypercornConfig(Config):
    """Hypercorn's settings. Its logs are off (errorlog None): foreman writes its own."""

    def __init__(self, limits: EdgeLimits) -> None:
        self.errorlog = None
        self.h11_max_incomplete_size = limits.header_bytes
        self.keep_alive_max_requests = limits.requests_per_connection
        self.websocket_max_message_size = limits.websocket_message_bytes
        self.websocket_ping_interval = limits.websocket_ping
        self._date = (0, b"")

    def response_headers(self, protocol: str) -> list[tuple[bytes, bytes]]:
        """`Date` alone, as Ollama; formatted once a second."""
        now = int(time())
        if now != self._date[0]:
            self._date = (now, format_date_time(now).encode("ascii"))
        return [(b"date", self._date[1])]


def _files_for_clients() -> int:
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if allowed == resource.RLIM_INFINITY else max(1, allowed - RESERVED_FILES)


def origin_of(address: str) -> str:
    """Whom a connection counts against: an address, an IPv6 network of /64, or LOOPBACK."""
    ip = ip_address(address.partition("%")[0])
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if ip.is_loopback:
        return LOOPBACK
    return str(IPv6Network((ip, 64), strict=False) if ip.version == 6 else ip)
