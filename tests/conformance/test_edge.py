"""C54-C57, C68, C69: browsers, hosts, encodings, and clients that ask before they send."""

import h11
import pytest

from foreman.embedded.script import Script, Status
from tests.conformance.answers import assert_same, chat
from tests.conftest import StartDaemon
from tests.fakes import http

PAGE = "http://localhost:3000"
EVIL = {"Origin": "https://evil.example"}
# What another server would add by itself; foreman answers for its own origins only.
OPEN_TO_ALL = {"Access-Control-Allow-Origin": "*", "Vary": "Origin"}


@pytest.mark.parametrize("origin", [PAGE, "app://obsidian.md", "http://127.0.0.1"])
async def test_c54_a_preflight_from_an_allowed_page_is_granted(
    daemon: StartDaemon, origin: str
) -> None:
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    async with daemon() as foreman:
        answer = await foreman.client.options("/api/chat", headers=headers)
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers["access-control-allow-origin"] == origin
        assert answer.headers["access-control-max-age"] == "43200"
        assert "POST" in answer.headers["access-control-allow-methods"].split(",")
        allowed = answer.headers["access-control-allow-headers"].lower().split(",")
        assert {"authorization", "content-type", "x-stainless-timeout"} <= set(allowed)
        assert "access-control-allow-credentials" not in answer.headers
        direct = await foreman.direct.options("/api/chat", headers=headers)
        assert sorted(allowed) == sorted(
            direct.headers["access-control-allow-headers"].lower().split(",")
        )


@pytest.mark.parametrize("method", ["GET", "OPTIONS", "POST"])
async def test_c55_a_foreign_page_is_refused_with_nothing(daemon: StartDaemon, method: str) -> None:
    async with daemon() as foreman:
        answer = await assert_same(foreman, method, "/api/tags", headers=EVIL)
        assert (answer.status_code, answer.content) == (403, b"")
        assert "access-control-allow-origin" not in answer.headers


async def test_c56_a_pages_request_goes_on_without_its_origin(daemon: StartDaemon) -> None:
    headers = {"Origin": PAGE, "Referer": f"{PAGE}/chat", "Sec-Fetch-Mode": "cors"}
    fault = Status(status=200, body="{}", headers=OPEN_TO_ALL, paths=("/api/show",))
    async with daemon(script=Script(faults=(fault,))) as foreman:
        for path, body in (("/api/show", {"model": "small"}), ("/api/chat", chat())):
            answer = await foreman.client.post(path, json=body, headers=headers)
            assert answer.status_code == 200
            assert answer.headers.get_list("access-control-allow-origin") == [PAGE]
            assert answer.headers.get_list("vary") == ["Origin"]
            assert "X-Foreman-Job" in answer.headers["access-control-expose-headers"]
            sent = {name.lower() for name, _ in foreman.oracle.requests[-1].headers}
            assert sent.isdisjoint({b"origin", b"referer", b"sec-fetch-mode"})


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example", 403),
        ("evil.example:11434", 403),
        ("localhost.evil.example", 403),
        ("localhost:8080", 200),
        ("box.local", 200),
        ("192.168.1.7:11434", 200),
        ("[::1]", 200),
    ],
)
async def test_c57_on_loopback_only_local_hosts_are_served(
    daemon: StartDaemon, host: str, status: int
) -> None:
    async with daemon() as foreman:
        answer = await assert_same(foreman, "GET", "/api/version", headers={"Host": host})
        assert answer.status_code == status
        assert answer.content or status == 403


async def test_c68_nothing_is_compressed_whatever_the_client_accepts(daemon: StartDaemon) -> None:
    headers = {"Accept-Encoding": "gzip, deflate, br, zstd"}
    async with daemon() as foreman:
        for path, body in (("/api/chat", chat()), ("/v1/chat/completions", chat(stream=True))):
            answer = await foreman.client.post(path, json=body, headers=headers)
            assert "content-encoding" not in answer.headers
        assert "content-encoding" not in (await foreman.client.get("/api/tags")).headers
        assert (b"Accept-Encoding", b"identity") in foreman.oracle.requests[-1].headers


async def test_c69_who_asks_before_sending_is_told_to_go_on(daemon: StartDaemon) -> None:
    body = b'{"model":"small","stream":false,"messages":[{"role":"user","content":"%s"}]}'
    body %= b"x" * (1 << 20)
    wire = h11.Connection(h11.CLIENT)
    headers = [
        ("Host", "localhost"),
        ("Content-Length", str(len(body))),
        ("Expect", "100-continue"),
    ]
    async with daemon() as foreman, await http.connect(foreman.url) as stream:
        head = h11.Request(method="POST", target="/api/chat", headers=headers)
        await http.send(stream, wire, [head])
        informational = await http.next_event(stream, wire)
        assert isinstance(informational, h11.InformationalResponse)
        assert informational.status_code == 100
        await http.send(stream, wire, [h11.Data(body), h11.EndOfMessage()])
        answer = await http.next_event(stream, wire)
        assert isinstance(answer, h11.Response)
        assert answer.status_code == 200
        sent = foreman.oracle.requests[-1]
        assert sent.body == body
        assert b"expect" not in {name.lower() for name, _ in sent.headers}
