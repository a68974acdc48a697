"""The listening socket, what it admits, how it stops."""

import errno
import socket
from contextlib import AsyncExitStack
from email.utils import parsedate_to_datetime

import pytest
import trio
import trio.testing

from actors.connection import ClientStream
from actors.exchange import Message, Receive, Send
from actors.listener import LOOPBACK, EdgeLimits, _Clients, open_listener, origin_of
from tests.edge.serving import Edge, echo, read_head, read_to_end, respond, running

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LAST_GET = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def test_an_address_in_use_is_named_in_the_error() -> None:
    with open_listener("127.0.0.1", 0, EdgeLimits()) as first:
        port = first.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}: ") as error:
            open_listener("127.0.0.1", port, EdgeLimits())
    assert error.value.errno == errno.EADDRINUSE


def test_an_unknown_host_is_named_in_the_error() -> None:
    with pytest.raises(OSError, match=r"cannot listen on no\.such\.invalid:1: "):
        open_listener("no.such.invalid", 1, EdgeLimits())


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_an_ipv6_host_is_listened_on(host: str) -> None:
    with open_listener(host, 0, EdgeLimits()) as listener:
        assert listener.getsockname()[0] == "::1"


def test_localhost_means_the_ipv4_loopback() -> None:
    with open_listener("localhost", 0, EdgeLimits()) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"


def test_accepted_sockets_give_up_on_peers_that_vanished() -> None:
    with open_listener("127.0.0.1", 0, EdgeLimits()) as listener:
        listener.setblocking(True)
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                option = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
                assert option == 30_000


@pytest.mark.parametrize(
    ("address", "origin"),
    [
        ("127.0.0.1", LOOPBACK),
        ("127.8.9.1", LOOPBACK),
        ("::1", LOOPBACK),
        ("::ffff:127.0.0.1", LOOPBACK),
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_a_connection_counts_against_its_origin(address: str, origin: str) -> None:
    assert origin_of(address) == origin


async def test_an_answer_carries_a_date_and_does_not_name_the_server() -> None:
    async with running(echo) as edge:
        head = await edge.ask(LAST_GET)
    lines = head.lower().split(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    fields = dict(line.split(b": ", 1) for line in lines)
    assert fields.keys() == {b"date", b"content-length", b"connection"}
    assert parsedate_to_datetime(fields[b"date"].decode()).tzinfo


async def test_a_small_answer_is_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[bytes] = []
    send = ClientStream.send_nowait

    def counted(stream: ClientStream, data: bytes) -> int:
        writes.append(data)
        return send(stream, data)

    async with running(echo) as edge, await edge.connect() as stream:
        await stream.send_all(GET)
        monkeypatch.setattr(ClientStream, "send_nowait", counted)
        await read_head(stream)
    assert len(writes) == 1


async def test_an_empty_piece_of_a_body_sends_the_head_at_once() -> None:
    async def waits(_scope: Message, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass

    async with running(waits) as edge, await edge.connect() as stream:
        await stream.send_all(GET)
        assert (await read_head(stream)).startswith(b"HTTP/1.1 200 ")


async def test_a_client_that_expects_100_continue_gets_it() -> None:
    async with running(echo) as edge, await edge.connect() as stream:
        head = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        await stream.send_all(head)
        assert (await read_head(stream)).startswith(b"HTTP/1.1 100 ")
        await stream.send_all(b"hello")
        assert (await read_head(stream)).endswith(b"\r\n\r\n5")


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with running(echo) as edge:
        posts = b"".join(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % n + b"x" * n
            for n in (1, 2, 3)
        )
        answers = await edge.ask(posts + LAST_GET)
    assert [part[:1] for part in answers.split(b"\r\n\r\n")[1:]] == [b"1", b"2", b"3", b"0"]


async def test_a_connection_ends_with_its_last_allowed_request() -> None:
    async with running(echo, EdgeLimits(requests_per_connection=2)) as edge:
        assert (await edge.ask(GET * 3)).count(b"HTTP/1.1 200 ") == 2


async def test_an_app_that_fails_is_a_500_and_the_server_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fails(scope: Message, receive: Receive, send: Send) -> None:
        if scope["path"] == "/bad":
            raise RuntimeError("a bug")
        await echo(scope, receive, send)

    async with running(fails) as edge:
        assert (await edge.ask(b"GET /bad HTTP/1.1\r\nHost: a\r\n\r\n")).startswith(
            b"HTTP/1.1 500 "
        )
        assert (await edge.ask(LAST_GET)).startswith(b"HTTP/1.1 200 ")
    assert [record.name for record in caplog.records] == ["foreman.edge"]


async def test_clients_beyond_the_limit_wait_for_room() -> None:
    async with (
        running(echo, EdgeLimits(max_connections=1)) as edge,
        await edge.connect() as first,
        await edge.connect() as second,
    ):
        await first.send_all(GET)
        await read_head(first)
        await second.send_all(LAST_GET)
        await trio.testing.wait_all_tasks_blocked()
        await first.aclose()
        assert (await read_to_end(second)).startswith(b"HTTP/1.1 200 ")


async def test_an_address_has_so_many_connections_and_the_next_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("actors.listener.origin_of", lambda _address: "192.0.2.1")
    async with running(echo, EdgeLimits(per_ip=2)) as edge, AsyncExitStack() as stack:
        held = [await stack.enter_async_context(await edge.connect()) for _ in range(2)]
        for stream in held:
            await stream.send_all(GET)
            await read_head(stream)
        assert await edge.ask(LAST_GET) == b""
        await held[0].aclose()
        while not await edge.ask(LAST_GET):
            pass


async def test_idle_connections_do_not_hold_a_shutdown_up() -> None:
    async with (
        running(echo, grace=60) as edge,
        await edge.connect() as idle,
        await edge.connect() as silent,
    ):
        await idle.send_all(GET)
        await read_head(idle)
        edge.stop.set()
        with trio.fail_after(30):  # far below the grace
            await edge.stopped.wait()
        assert await read_to_end(silent) == b""
        with pytest.raises(OSError, match="failed"):
            await edge.connect()


async def test_a_request_under_way_is_answered_before_the_shutdown_ends() -> None:
    begun, finish = trio.Event(), trio.Event()

    async def slow(_scope: Message, _receive: Receive, send: Send) -> None:
        begun.set()
        await finish.wait()
        await respond(send, b"done")

    async with running(slow) as edge, await edge.connect() as stream:
        await stream.send_all(GET)
        await begun.wait()
        edge.stop.set()
        await trio.testing.wait_all_tasks_blocked()
        finish.set()
        with trio.fail_after(1):
            await edge.stopped.wait()
        assert (await read_to_end(stream)).endswith(b"done")


@pytest.mark.parametrize("limits", [EdgeLimits(write_stall=0.2), EdgeLimits()])
async def test_a_client_that_stops_reading_does_not_hold_a_shutdown_up(limits: EdgeLimits) -> None:
    """The first is cut by its stalled write, the second by the end of the grace."""
    async with running(_endless, limits, grace=0.5) as edge, await _stalled(edge):
        edge.stop.set()
        with trio.fail_after(5):
            await edge.stopped.wait()


async def _endless(_scope: Message, receive: Receive, send: Send) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_send_for_ever, send)
        while (await receive())["type"] != "http.disconnect":
            pass
        nursery.cancel_scope.cancel()


async def _send_for_ever(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while True:
        await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})


async def _stalled(edge: Edge) -> trio.SocketStream:
    """A client that took the head of an endless answer, and then nothing."""
    stream = await edge.connect()
    await stream.send_all(GET)
    await read_head(stream)
    await trio.testing.wait_all_tasks_blocked(0.01)
    return stream


async def test_a_client_that_was_let_in_just_before_the_end_is_answered_once() -> None:
    clients = _Clients(echo, EdgeLimits(), lambda change: None)
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener, await trio.testing.open_stream_to_socket_listener(listener) as client:
        accepted = await listener.accept()
        clients.drain()
        async with trio.open_nursery() as nursery:
            await clients.room.acquire()
            nursery.start_soon(clients.serve, accepted)
            await client.send_all(GET)
            assert b"\r\nconnection: close\r\n" in await read_head(client)
            assert await read_to_end(client) == b""
