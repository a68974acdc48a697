"""Requests reach what was judged, under the name that was asked for, and nothing else."""

import ssl
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address

import httpcore
import httpx
import pytest
import trio
import trio.testing
import trustme

from foreman.guarded_transport import GuardedTransport, resolve
from foreman.hosts import Ip
from foreman.netguard import Blocked, Rule, Rules

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
PUBLIC = "93.184.216.34"


class Names:
    """A resolver by heart. Each question takes the next of a name's answers, the last one stays."""

    def __init__(self, answers: Mapping[str, list[list[str]]]) -> None:
        self._answers = {name: list(each) for name, each in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> list[Ip]:
        await trio.lowlevel.checkpoint()
        self.asked.append(host)
        answers = self._answers.get(host, [[]])
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if not answer:
            raise OSError("no such name")
        return [ip_address(each) for each in answer]


class Network(httpcore.AsyncNetworkBackend):
    """Records who was called; `refusing` hang up at once, `silent` ones never answer."""

    def __init__(
        self,
        refusing: Iterable[str] = (),
        silent: Iterable[str] = (),
        answer: Callable[[], httpcore.AsyncNetworkStream] = lambda: httpcore.AsyncMockStream([OK]),
    ) -> None:
        self._answer = answer
        self._refusing = set(refusing)
        self._silent = set(silent)
        self.called: list[tuple[str, int]] = []

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        await trio.lowlevel.checkpoint()
        self.called.append((host, port))
        if host in self._refusing:
            raise httpcore.ConnectError("refused")
        if host in self._silent:
            with trio.move_on_after(float("inf") if timeout is None else timeout):
                await trio.sleep_forever()
            raise httpcore.ConnectTimeout("silence")
        return self._answer()


class Server:
    """Answers each request on 127.0.0.1 with `answer` and hangs up; keeps the requests' heads."""

    def __init__(self, answer: bytes = OK, tls: ssl.SSLContext | None = None) -> None:
        self._answer = answer
        self._tls = tls
        self.port = 0
        self.heads: list[bytes] = []

    @asynccontextmanager
    async def serve(self) -> AsyncGenerator[str]:
        """Yields the entry of the allow list that opens it."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, self._converse, listeners)
            yield f"127.0.0.1:{self.port}"
            nursery.cancel_scope.cancel("the test is over")

    async def _converse(self, stream: trio.abc.Stream) -> None:
        if self._tls:
            stream = trio.SSLStream(stream, self._tls, server_side=True, https_compatible=True)
        with suppress(trio.BrokenResourceError):  # the client did not like what it met
            await self._answer_one(stream)
            await stream.aclose()

    async def _answer_one(self, stream: trio.abc.Stream) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            piece = await stream.receive_some()
            if not piece:
                return
            head += piece
        self.heads.append(head)
        await stream.send_all(self._answer)


def rules(*allow: str, target: str = "http://127.0.0.1:11434") -> Rules:
    return Rules(own_ports=[8080], target=target, allow=allow)


def client(transport: GuardedTransport, *, redirects: bool = False) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=transport, timeout=None, trust_env=False, follow_redirects=redirects
    )


async def get(transport: GuardedTransport, url: str) -> httpx.Response:
    async with client(transport) as http:
        return await http.get(url)


async def test_a_name_reaches_the_judged_address_and_keeps_its_host() -> None:
    server, names = Server(), Names({"hooks.example": [["127.0.0.1"]]})
    async with server.serve() as entry:
        transport = GuardedTransport(rules(entry), resolve=names)
        response = await get(transport, f"http://hooks.example:{server.port}/path?query")
    assert (response.status_code, response.text) == (200, "ok")
    [head] = server.heads
    assert head.startswith(b"GET /path?query HTTP/1.1\r\n")
    assert f"Host: hooks.example:{server.port}\r\n".encode() in head
    assert names.asked == ["hooks.example"]


async def test_this_machine_is_not_reached_until_it_is_listed() -> None:
    server = Server()
    async with server.serve():
        for host in ("127.0.0.1", "localhost", "hooks.example"):
            transport = GuardedTransport(rules(), resolve=Names({"hooks.example": [["127.0.0.1"]]}))
            with pytest.raises(Blocked) as caught:
                await get(transport, f"http://{host}:{server.port}/")
            assert caught.value.rule is Rule.LOOPBACK
    assert server.heads == []


async def test_the_systems_resolver_is_asked_unless_told_otherwise() -> None:
    assert await resolve("127.1", 80) == [ip_address("127.0.0.1")]
    server = Server()
    async with server.serve() as entry:
        url = f"http://127.0.0.1:{server.port}/"
        assert (await get(GuardedTransport(rules(entry)), url)).text == "ok"


async def test_each_request_is_resolved_once_and_judged_anew() -> None:
    names = Names({"hooks.example": [[PUBLIC], ["127.0.0.1"]]})
    network = Network()
    async with client(GuardedTransport(rules(), resolve=names, network=network)) as http:
        assert (await http.get("http://hooks.example/")).text == "ok"
        with pytest.raises(Blocked, match=r"hooks\.example stands for 127\.0\.0\.1"):
            await http.get("http://hooks.example/")
    assert names.asked == ["hooks.example"] * 2
    assert network.called == [(PUBLIC, 80)]


@pytest.mark.parametrize("hidden", ["127.0.0.1", "::ffff:127.0.0.1", "169.254.169.254"])
async def test_one_forbidden_address_among_good_ones_blocks_them_all(hidden: str) -> None:
    network = Network()
    names = Names({"hooks.example": [[PUBLIC, hidden, "10.0.0.1"]]})
    with pytest.raises(Blocked, match="FOREMAN_WEBHOOK_ALLOW="):
        await get(GuardedTransport(rules(), resolve=names, network=network), "http://hooks.example")
    assert network.called == []


@pytest.mark.parametrize("target", ["http://ollama.lan:11434", "http://10.0.0.9:11434"])
async def test_the_target_is_not_reached_under_another_name(target: str) -> None:
    names = Names({name: [["10.0.0.9"]] for name in ("hooks.example", "ollama.lan", "10.0.0.9")})
    network = Network()
    allowing = rules("0.0.0.0/0", target=target)
    transport = GuardedTransport(allowing, resolve=names, network=network)
    with pytest.raises(Blocked) as caught:
        await get(transport, "http://hooks.example:11434/")
    assert caught.value.rule is Rule.OWN
    assert network.called == []


async def test_without_knowing_where_the_target_is_its_port_is_not_called() -> None:
    network = Network()
    transport = GuardedTransport(
        rules(target="http://ollama.lan:11434"),
        resolve=Names({"hooks.example": [[PUBLIC]]}),
        network=network,
    )
    with pytest.raises(httpx.ConnectError, match="no such name"):
        await get(transport, "http://hooks.example:11434/")
    assert network.called == []


async def test_a_redirect_is_judged_like_any_request() -> None:
    moved = b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n"
    server = Server(moved)
    async with server.serve() as entry:
        async with client(GuardedTransport(rules(entry)), redirects=True) as http:
            with pytest.raises(Blocked, match="a metadata service"):
                await http.get(f"http://127.0.0.1:{server.port}/")


async def test_the_addresses_are_tried_in_order() -> None:
    network = Network(refusing=["10.0.0.1", "10.0.0.2"])
    names = Names({"hooks.lan": [["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]]})
    transport = GuardedTransport(rules(), resolve=names, network=network)
    assert (await get(transport, "http://hooks.lan:9000/")).text == "ok"
    assert network.called == [("10.0.0.1", 9000), ("10.0.0.2", 9000), ("10.0.0.3", 9000)]


async def test_a_silent_address_leaves_the_next_its_share_of_the_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = Network(silent=["10.0.0.1"])
    names = Names({"hooks.lan": [["10.0.0.1", "10.0.0.2"]]})
    transport = GuardedTransport(rules(), resolve=names, network=network)
    assert (await get(transport, "http://hooks.lan/")).text == "ok"
    assert trio.current_time() == 2.5


async def test_connecting_takes_only_so_long(autojump_clock: trio.testing.MockClock) -> None:
    addresses = ["10.0.0.1", "10.0.0.2"]
    transport = GuardedTransport(
        rules(),
        connect_timeout=2.0,
        resolve=Names({"hooks.lan": [addresses]}),
        network=Network(silent=addresses),
    )
    with pytest.raises(httpx.ConnectTimeout, match=r"no connection to hooks\.lan within 2 s"):
        await get(transport, "http://hooks.lan/")
    assert trio.current_time() == 2.0


async def test_a_resolver_that_hangs_counts_as_time_to_connect(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def hang(host: str, port: int) -> list[Ip]:
        await trio.sleep_forever()

    with pytest.raises(httpx.ConnectTimeout):
        await get(GuardedTransport(rules(), resolve=hang), "http://hooks.lan/")
    assert trio.current_time() == 5.0


async def test_a_name_that_nobody_knows_is_an_error_of_the_connection() -> None:
    with pytest.raises(httpx.ConnectError, match=r"nowhere\.example cannot be resolved"):
        await get(GuardedTransport(rules(), resolve=Names({})), "http://nowhere.example/")


async def test_a_server_that_refuses_is_an_error_of_the_connection() -> None:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    with pytest.raises(httpx.ConnectError):
        await get(GuardedTransport(rules("127.0.0.1")), f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize("answer", [OK[:-1], b"HTTP/1.1 200 OK\r\nTransfer-En", b"SSH-2.0-x\r\n"])
async def test_an_answer_that_is_cut_or_no_http_is_an_error_of_the_protocol(answer: bytes) -> None:
    server = Server(answer)
    async with server.serve() as entry:
        with pytest.raises(httpx.RemoteProtocolError):
            await get(GuardedTransport(rules(entry)), f"http://127.0.0.1:{server.port}/")


@pytest.mark.parametrize("limit", [1, 65_536, 100_000])
async def test_an_answer_ends_at_the_limit(limit: int) -> None:
    server = Server(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n" + b"x" * 9_999_999)
    async with server.serve() as entry:
        transport = GuardedTransport(rules(entry), answer_limit=limit)
        url = f"http://127.0.0.1:{server.port}/"
        assert (await get(transport, url)).content == b"x" * limit


async def test_an_answer_may_be_left_unread() -> None:
    server = Server()
    async with server.serve() as entry, client(GuardedTransport(rules(entry))) as http:
        async with http.stream("GET", f"http://127.0.0.1:{server.port}/") as response:
            assert response.status_code == 200


class Dripping(httpcore.AsyncMockStream):
    """An answer of a thousand bytes, one a second."""

    def __init__(self) -> None:
        super().__init__([b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", *[b"x"] * 1000])

    async def read(
        self,
        max_bytes: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
    ) -> bytes:
        await trio.sleep(1)
        return await super().read(max_bytes, timeout)


async def test_what_comes_after_the_limit_is_not_waited_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    names, network = Names({"h.lan": [[PUBLIC]]}), Network(answer=Dripping)
    transport = GuardedTransport(rules(), resolve=names, network=network, answer_limit=3)
    assert (await get(transport, "http://h.lan/")).content == b"xxx"
    assert trio.current_time() == 5  # the head, three bytes, and the read that finds it closed


async def test_a_deadline_of_the_callers_ends_an_answer_that_drips(
    autojump_clock: trio.testing.MockClock,
) -> None:
    names, network = Names({"h.lan": [[PUBLIC]]}), Network(answer=Dripping)
    transport = GuardedTransport(rules(), resolve=names, network=network)
    with pytest.raises(trio.TooSlowError), trio.fail_after(20):
        await get(transport, "http://h.lan/")
    assert trio.current_time() == 20


async def test_no_connection_outlives_its_request() -> None:
    network = Network()
    names = Names({"hooks.lan": [["10.0.0.1"]]})
    async with client(GuardedTransport(rules(), resolve=names, network=network)) as http:
        for _ in range(2):
            await http.get("http://hooks.lan/")
    assert len(network.called) == 2


@pytest.fixture(name="authority")
def _authority() -> trustme.CA:
    return trustme.CA()


def secured(authority: trustme.CA, name: str, asked_for: list[str | None]) -> ssl.SSLContext:
    """A server's side with a certificate for `name`; notes the names that clients ask for."""

    def note(_: ssl.SSLObject | ssl.SSLSocket, asked: str | None, __: ssl.SSLContext) -> None:
        asked_for.append(asked)

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    context.sni_callback = note
    return context


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def test_tls_asks_for_the_name_and_checks_it(authority: trustme.CA) -> None:
    asked_for: list[str | None] = []
    server = Server(tls=secured(authority, "hooks.example", asked_for))
    names = Names({"hooks.example": [["127.0.0.1"]]})
    async with server.serve() as entry:
        transport = GuardedTransport(rules(entry), tls=trusting(authority), resolve=names)
        response = await get(transport, f"https://hooks.example:{server.port}/")
    assert response.text == "ok"
    assert asked_for == ["hooks.example"]


async def test_a_certificate_for_another_name_is_refused(authority: trustme.CA) -> None:
    server = Server(tls=secured(authority, "127.0.0.1", []))
    names = Names({"hooks.example": [["127.0.0.1"]]})
    async with server.serve() as entry:
        transport = GuardedTransport(rules(entry), tls=trusting(authority), resolve=names)
        with pytest.raises(httpx.ConnectError):
            await get(transport, f"https://hooks.example:{server.port}/")
    assert server.heads == []


async def test_a_certificate_that_the_system_does_not_trust_is_refused(
    authority: trustme.CA,
) -> None:
    server = Server(tls=secured(authority, "hooks.example", []))
    names = Names({"hooks.example": [["127.0.0.1"]]})
    async with server.serve() as entry:
        with pytest.raises(httpx.ConnectError):
            await get(
                GuardedTransport(rules(entry), resolve=names),
                f"https://hooks.example:{server.port}/",
            )
    assert server.heads == []
