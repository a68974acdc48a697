"""Both clients over real sockets; the server does, connection by connection, as it is told."""

import base64
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha1
from typing import Any

import msgspec
import pytest
import trio

import foreman
from foreman import AsyncClient, Client, JobFailed, Refused, Resync, Unreachable
from tests.fakes.clients import Connect
from tests.fakes.transport import Says, event, job, refuses, says, streams
from tests.fakes.upstream import Asked, upstream

Step = Says | Callable[[Asked], Awaitable[None]]

CHAT = {"model": "m", "message": {"role": "assistant", "content": "Hi"}, "done": True}
MESSAGES = [{"role": "user", "content": "Hi"}]
RESYNC = {"type": "resync", "reason": "expired", "after": 3, "first_seq": 10, "last_seq": 40}


@dataclass
class Server:
    url: str = ""
    asked: list[Asked] = field(default_factory=list[Asked])
    left: int = 0  # connections that the client closed

    @property
    def paths(self) -> list[str]:
        return [each.path for each in self.asked]


@asynccontextmanager
async def serving(*steps: Step) -> AsyncGenerator[Server]:
    """One step for each connection; afterwards nobody listens."""
    server, rest = Server(), list(steps)

    async def handle(asked: Asked) -> None:
        server.asked.append(asked)
        step = rest.pop(0)
        if not isinstance(step, Says):
            await step(asked)
        elif b"Sec-WebSocket-Key" in asked.head and step.status == 200:
            await as_messages(asked, step)
        else:
            await as_http(asked, step)

    async with upstream(handle) as server.url:
        yield server


async def as_http(asked: Asked, step: Says) -> None:
    head = f"HTTP/1.1 {step.status} x\r\nconnection: close\r\ncontent-length: {len(step.body)}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in step.headers.items())
    await asked.stream.send_all(head.encode() + b"\r\n" + step.body[: step.cut])


async def as_messages(asked: Asked, step: Says) -> None:
    """The same lines through a websocket; a cut is a connection that ends without a close frame."""
    await accept(asked)
    for line in step.body[: step.cut].splitlines(keepends=True):
        if line.endswith(b"\n"):
            await asked.stream.send_all(frame(0x1, line.strip()))
    if step.cut is None:
        await asked.stream.send_all(frame(0x8, (1000).to_bytes(2, "big")))
        await asked.stream.receive_some()


async def accept(asked: Asked) -> None:
    headers = dict(line.split(b": ", 1) for line in asked.head.split(b"\r\n")[1:])
    key = next(value for name, value in headers.items() if name.lower() == b"sec-websocket-key")
    digest = sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", usedforsecurity=False).digest()
    await asked.stream.send_all(
        b"HTTP/1.1 101 x\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: "
        + base64.b64encode(digest)
        + b"\r\n\r\n"
    )


def frame(kind: int, payload: bytes) -> bytes:
    size = len(payload)
    length = bytes([size]) if size < 126 else bytes([126]) + size.to_bytes(2, "big")
    return bytes([0x80 | kind]) + length + payload


async def test_a_chat_is_answered(client: Connect) -> None:
    async with serving(says(CHAT)) as server, client(server.url) as driver:
        answer = await driver.call("chat", "m", MESSAGES, options={"seed": 1})
        assert answer.message.content == "Hi"
    [asked] = server.asked
    assert (asked.method, asked.path) == ("POST", "/api/chat")
    assert b"accept-encoding: identity" in asked.head.lower()


async def test_a_chat_is_streamed(client: Connect) -> None:
    parts = streams({**CHAT, "done": False}, CHAT)
    async with serving(parts) as server, client(server.url) as driver:
        pieces = await driver.collect("chat", "m", MESSAGES, stream=True)
    assert [piece.done for piece in pieces] == [False, True]


async def test_generate_and_embed_are_answered(client: Connect) -> None:
    vectors = {"model": "m", "embeddings": [[0.5]]}
    async with serving(says({"response": "x"}), says(vectors)) as server:
        async with client(server.url) as driver:
            assert (await driver.call("generate", "m", "p")).response == "x"
            assert (await driver.call("embed", "m", "p")).embeddings == [[0.5]]


async def test_a_token_is_sent(client: Connect) -> None:
    async with serving(says(CHAT)) as server, client(server.url, token="me:s3cret") as driver:
        await driver.call("chat", "m", MESSAGES)
    assert b"authorization: Bearer s3cret" in server.asked[0].head.replace(b"Auth", b"auth")


async def test_a_token_is_sent_with_subscriptions(client: Connect) -> None:
    async with serving(streams(event(1, "done"))) as server:
        async with client(server.url, token="s3cret") as driver:
            await driver.collect("watch", "J1")
    assert b"authorization: Bearer s3cret" in server.asked[0].head.replace(b"Auth", b"auth")


async def test_a_submission_whose_answer_was_lost_is_repeated_under_the_same_key(
    client: Connect,
) -> None:
    view = job(state="queued")
    answers = (Says(b'{"id', cut=2, status=202), says(view, 200))
    async with serving(*answers) as server, client(server.url) as driver:
        assert (await driver.call("submit", "/api/chat", {"model": "m"})).id == "J1"
    keys = {
        line
        for asked in server.asked
        for line in asked.head.lower().split(b"\r\n")
        if line.startswith(b"idempotency-key: ")
    }
    assert len(server.asked) == 2
    assert len(keys) == 1


async def test_watching_goes_on_after_a_broken_connection(client: Connect) -> None:
    first, second = streams(event(1), event(2), broken=True), streams(event(3, "done"))
    async with serving(first, second) as server, client(server.url) as driver:
        events = await driver.collect("watch", "J1")
    assert [each.seq for each in events] == [1, 2, 3]
    assert server.paths == ["/jobs/J1/events?after=0", "/jobs/J1/events?after=2"]


async def test_watching_everything_begins_where_the_log_ends(client: Connect) -> None:
    async with serving(streams(RESYNC), streams(event(41), broken=True)) as server:
        async with client(server.url) as driver:
            events = await driver.collect("watch", count=1, model="m")
    assert [each.seq for each in events] == [41]
    assert server.paths[1] == "/events?model=m&after=40"


async def test_a_resync_is_raised_by_itself(client: Connect) -> None:
    async with serving(streams(RESYNC)) as server, client(server.url) as driver:
        with pytest.raises(Resync) as caught:
            await driver.collect("watch", after=3)
    assert caught.value.last_seq == 40


async def test_a_refused_subscription_is_a_refusal(client: Connect) -> None:
    async with serving(refuses(404, "not_found", "no job J1")) as server:
        async with client(server.url) as driver:
            with pytest.raises(Refused, match="no job J1") as caught:
                await driver.collect("watch", "J1")
    assert caught.value.status == 404


async def test_a_failed_jobs_output_is_raised_by_itself(client: Connect) -> None:
    view = job(state="failed", error={"code": "expired", "message": "late"})
    async with serving(refuses(409, "job_failed"), says(view)) as server:
        async with client(server.url) as driver:
            with pytest.raises(JobFailed, match="expired: late"):
                await driver.collect("output", "J1")


@pytest.mark.parametrize("method", ["output", "watch"])
async def test_whoever_stops_reading_hangs_up(client: Connect, method: str) -> None:
    gone = trio.Event()

    async def endless(asked: Asked) -> None:
        if b"Sec-WebSocket-Key" in asked.head:
            await accept(asked)
            await asked.stream.send_all(frame(1, msgspec.json.encode(event(1))))
        else:
            head = b"HTTP/1.1 200 x\r\nx-foreman-attempt: 1\r\ncontent-length: 9999\r\n\r\n"
            await asked.stream.send_all(head + msgspec.json.encode(event(1)) + b"\n")
        while await asked.stream.receive_some():
            pass
        gone.set()

    async with serving(endless) as server, client(server.url) as driver:
        assert len(await driver.collect(method, "J1", count=1)) == 1
        with trio.fail_after(5):
            await gone.wait()


async def test_nobody_there_is_unreachable(client: Connect) -> None:
    with trio.socket.socket() as unused:
        await unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        async with client(url, patience=0) as driver:
            with pytest.raises(Unreachable, match=r"Is `foreman serve` running there\?"):
                await driver.call("get", "J1")
            with pytest.raises(Unreachable):
                await driver.collect("watch", "J1")


async def test_a_proxy_is_not_used_for_this_machine(
    client: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with serving(says(job())) as server, client(server.url, patience=0) as driver:
        assert (await driver.call("get", "J1")).id == "J1"


async def test_a_map_and_a_list_go_through_both(client: Connect) -> None:
    accepted = {"line": 1, "status": 202, "job": {"id": "J1", "state": "queued"}}
    steps = (
        streams({**RESYNC, "reason": "ahead"}),
        streams(accepted),
        streams(event(41, "done"), broken=True),
        says(job(result=CHAT)),
        says({"jobs": [job()], "next": None}),
    )
    async with serving(*steps) as server, client(server.url) as driver:
        [outcome] = await driver.collect("map", [{"model": "m", "messages": MESSAGES}])
        assert outcome.result().message.content == "Hi"
        [listed] = await driver.collect("jobs", label="map:x")
        assert listed.id == outcome.job.id


async def test_the_callers_deadline_ends_a_wait_of_the_trio_client() -> None:
    async def silent(asked: Asked) -> None:
        await asked.stream.receive_some()

    async with serving(silent) as server, AsyncClient(server.url) as client:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.wait, "J1")
                while not server.asked:
                    await trio.lowlevel.checkpoint()
                scope.cancel("it took too long")
        assert scope.cancelled_caught


def test_the_blocking_client_is_a_generator_that_can_be_closed_unused() -> None:
    with Client("http://127.0.0.1:1", patience=0) as client:
        client.output("J1").close()


def test_every_public_name_is_there() -> None:
    for name in foreman.__all__:
        assert getattr(foreman, name) is not None
    with pytest.raises(AttributeError):
        foreman.nothing  # noqa: B018  to look it up is what is tested
    assert not hasattr(foreman, "httpx")


def test_both_clients_have_the_same_methods() -> None:
    def methods(kind: type[Any]) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert methods(Client) - {"close"} == methods(AsyncClient) - {"aclose"}
