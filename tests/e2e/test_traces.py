"""Traces of a daemon in a process of its own, as a collector gets them."""

import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from foreman import __version__
from foreman.embedded.script import Cut, ModelScript, Script, Status
from foreman.tracing import context_of_job
from tests.e2e.processes import Upstream, until, upstream
from tests.e2e.receiver import SECRET, receiver
from tests.e2e.targets import free_port
from tests.fakes.collector import Collector, Seen, collector
from tests.fakes.daemon import Process, connected, spawned

PROMPT = "the-secret-prompt"
ANSWER = "the-secret-answer"
TOKEN = "the-secret-token"
CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
MODELS = (
    ModelScript(name="small:latest", text=ANSWER),
    ModelScript(name="embedder:latest", capabilities=("embedding",)),
)
CALL = ("POST", list[Any]())  # of the target: nothing is known of what it does


def body(model: str = "small", **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": PROMPT}], **fields}


@dataclass
class Stage:
    """A daemon between its target and its collector."""

    foreman: Process
    target: Upstream
    collector: Collector
    client: httpx.AsyncClient

    async def stops(self) -> None:
        """End it; by then all traces are out."""
        self.foreman.process.send_signal(signal.SIGTERM)
        assert await self.foreman.process.wait() == 0

    async def waits(self, count: int) -> None:
        async def that_many() -> bool:
            return len((await self.client.get("/queue")).json()["calls"]) == count

        await until(that_many)

    async def ended(self, job: str) -> dict[str, Any]:
        document: dict[str, Any] = {"state": ""}
        while document["state"] not in ("done", "failed"):
            document = (await self.client.get(f"/jobs/{job}/wait")).json()
        return document


@asynccontextmanager
async def stage(
    folder: Path, script: Script | None = None, /, **settings: str
) -> AsyncGenerator[Stage]:
    async with upstream(script or Script(models=MODELS)) as target, collector() as traces:
        wanted = {"traces": traces.url, "token": f"laptop:{TOKEN}"} | settings
        async with spawned(folder, target.url, **wanted) as foreman:
            async with connected(foreman.url) as client:
                client.headers["authorization"] = f"Bearer {TOKEN}"
                yield Stage(foreman, target, traces, client)
        assert not any(word.encode() in b"".join(traces.bodies) for word in (PROMPT, ANSWER, TOKEN))


def of_job(traces: Collector, job: str) -> Seen:
    """The root of a durable job's trace."""
    trace_id, span_id = context_of_job(job)
    [root] = [e for e in traces.spans if e.context == (f"{trace_id:032x}", f"{span_id:016x}")]
    return root


async def test_a_chat_that_waits_behind_another(tmp_path: Path) -> None:
    async with stage(tmp_path) as at, trio.open_nursery() as nursery:
        answers = list[httpx.Response]()

        async def ask(**headers: str) -> None:
            answers.append(await at.client.post("/api/chat", json=body(), headers=headers))

        at.target.engine.tokens.close()
        nursery.start_soon(ask)
        await at.target.engine.tokens.holds()
        nursery.start_soon(lambda: ask(traceparent=f"00-{CALLER[0]}-{CALLER[1]}-01"))
        await at.waits(1)
        at.target.engine.tokens.open()
        await until(lambda: len(answers) == 2)
        await at.stops()
        traces = at.collector
        first, second = traces.named("POST /api/chat")
        model = "small:latest"
        assert traces.tree(first) == (
            "POST /api/chat",
            [("queue", []), (f"load {model}", [CALL]), (f"chat {model}", [CALL])],
        )
        assert traces.tree(second) == ("POST /api/chat", [("queue", []), (f"chat {model}", [CALL])])
        assert (traces.size(first), traces.size(second)) == (6, 4)
        assert first.parent == ""
        assert (second.trace, second.parent) == CALLER
        assert second.kind == "server"
        job = second.attributes["foreman.job.id"]
        assert second.attributes == {
            "http.request.method": "POST",
            "http.route": "/api/chat",
            "http.response.status_code": 200,
            "foreman.client": "laptop",
            "foreman.job.id": job,
        }
        queue = traces.child(second, "queue")
        assert queue.kind == "internal"
        assert queue.attributes == {
            "gen_ai.request.model": model,
            "foreman.job.id": job,
            "foreman.lane": "small:latest",
            "foreman.class": "interactive",
            "foreman.queue.position": 1,
            "foreman.rule": "interactive",
        }
        load = traces.child(first, f"load {model}")
        seconds = load.attributes.pop("foreman.load.seconds")
        assert seconds == pytest.approx((load.ended - load.began) / 1e9, abs=0.1)
        assert load.attributes == {
            "gen_ai.request.model": model,
            "foreman.job.id": first.attributes["foreman.job.id"],
            "foreman.model.resident": False,
        }
        chat = traces.child(second, f"chat {model}")
        assert (chat.kind, chat.events) == ("client", ("first_token",))
        tokens = {"gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"}
        assert all(chat.attributes.pop(name) > 0 for name in tokens)
        assert chat.attributes == {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "ollama",
            "gen_ai.request.model": model,
            "foreman.job.id": job,
            "foreman.attempt": 1,
            "foreman.model.resident": True,
        }
        call = traces.child(chat, "POST")
        url = httpx.URL(at.target.url)
        assert call.kind == "client"
        assert call.attributes == {
            "http.request.method": "POST",
            "http.response.status_code": 200,
            "url.full": f"{at.target.url}/api/chat",
            "server.address": url.host,
            "server.port": url.port,
        }
        last = dict(at.target.target.oracle.requests[-1].headers)
        assert last[b"traceparent"].decode() == f"00-{call.trace}-{call.id}-01"
        assert queue.began >= first.began
        assert queue.ended <= chat.began <= call.began <= call.ended <= chat.ended <= second.ended
        assert not any(each.failed for each in traces.spans)


async def test_a_durable_job_has_a_trace_of_its_own_that_survives_a_restart(tmp_path: Path) -> None:
    async with receiver() as hook:
        settings = {"webhook_secret": SECRET, "webhook_allow": "127.0.0.1"}
        async with stage(tmp_path, **settings) as at:
            at.target.engine.tokens.close()
            wanted = {
                "request": body(),
                "webhook": {"url": f"{hook.url}?key={TOKEN}", "events": ["job.done"]},
            }
            job = (await at.client.post("/jobs", json=wanted)).json()["id"]
            await at.target.engine.tokens.holds()
            await at.stops()
            submitted = at.collector.one("POST /jobs")
            assert submitted.attributes["foreman.job.id"] == job
            [cut] = [e for e in at.collector.spans if e.name == "chat small:latest"]
            assert cut.error == "shutdown"
            async with spawned(
                tmp_path, at.target.url, traces=f"{at.collector.url}/v1/traces", **settings
            ) as again:
                at.target.engine.tokens.open()
                await until(lambda: len(hook.messages) == 1)
                again.process.send_signal(signal.SIGTERM)
                assert await again.process.wait() == 0
            traces = at.collector
            root = of_job(traces, job)
            assert submitted.links == (root.context,)
            assert traces.tree(root) == (
                "job small:latest",
                [
                    ("queue", []),
                    ("load small:latest", [CALL]),
                    ("chat small:latest", [CALL]),
                    ("queue", []),
                    ("load small:latest", [CALL]),
                    ("chat small:latest", [CALL]),
                    ("POST", []),
                ],
            )
            assert traces.size(root) == 12
            assert (root.kind, root.parent, root.error) == ("consumer", "", None)
            assert root.attributes == {
                "foreman.job.id": job,
                "foreman.attempts": 1,
                "gen_ai.request.model": "small:latest",
            }
            parts = traces.children(root)
            assert root.began <= parts[0].began
            assert parts[2].ended <= parts[3].began + 1_000_000  # rows know microseconds
            assert parts[3].attributes["foreman.rule"] == "batch"
            message = parts[-1]
            assert message.kind == "client"
            assert message.attributes == {
                "http.request.method": "POST",
                "http.response.status_code": 200,
                "server.address": "127.0.0.1",
                "foreman.job.id": job,
                "foreman.webhook.id": hook.messages[0].id,
            }


async def test_the_jobs_of_a_bulk_are_linked(tmp_path: Path) -> None:
    async with stage(tmp_path) as at:
        line = httpx.Response(200, json={"request": body()}).content
        answer = await at.client.post("/jobs/bulk", content=b"\n".join([line, b"{", line]))
        said = [httpx.Response(200, content=each).json() for each in answer.content.splitlines()]
        jobs = [each["job"]["id"] for each in said if each.get("job")]
        for job in jobs:
            await at.ended(job)
        await at.stops()
        assert len(jobs) == 2
        roots = tuple(of_job(at.collector, job).context for job in jobs)
        assert at.collector.one("POST /jobs/bulk").links == roots


async def test_an_embedding_beside_the_queue(tmp_path: Path) -> None:
    async with stage(tmp_path) as at:
        wanted = {"model": "embedder", "input": PROMPT}
        assert (await at.client.post("/api/embed", json=wanted)).status_code == 200
        await at.stops()
        root = at.collector.one("POST /api/embed")
        assert at.collector.tree(root) == ("POST /api/embed", [("embeddings embedder", [CALL])])
        assert at.collector.child(root, "embeddings embedder").attributes == {
            "gen_ai.operation.name": "embeddings",
            "gen_ai.provider.name": "ollama",
            "gen_ai.request.model": "embedder",
        }


async def test_a_client_that_hangs_up_while_it_waits_and_one_that_is_answered(
    tmp_path: Path,
) -> None:
    async with stage(tmp_path) as at:
        async with trio.open_nursery() as clients:
            at.target.engine.tokens.close()
            clients.start_soon(lambda: at.client.post("/api/chat", json=body()))
            await at.target.engine.tokens.holds()
            wanted = {"model": "small", "prompt": PROMPT}
            clients.start_soon(lambda: at.client.post("/api/generate", json=wanted))
            await at.waits(1)
            clients.cancel_scope.cancel("they hang up")
        await until(lambda: at.target.target.oracle.cancelled == 1)
        await at.stops()
        traces = at.collector
        running, waiting = traces.one("POST /api/chat"), traces.one("POST /api/generate")
        assert "http.response.status_code" not in waiting.attributes
        assert [running.error, waiting.error] == ["cancelled", "cancelled"]
        assert traces.tree(waiting) == ("POST /api/generate", [("queue", [])])
        assert traces.child(waiting, "queue").error == "cancelled"
        chat = traces.child(running, "chat small:latest")
        assert [chat.error, traces.child(chat, "POST").error] == ["cancelled", "cancelled"]


async def test_a_target_that_fails(tmp_path: Path) -> None:
    faults = (Status(status=500, text=PROMPT, paths=("/api/chat",), skip=1, first=1),)
    async with stage(tmp_path, Script(models=MODELS, faults=faults)) as at:
        assert (await at.client.post("/api/chat", json=body())).status_code == 500
        unknown = await at.client.post("/api/chat", json=body("nobody"))
        assert unknown.status_code == 404
        await at.client.get(f"/{PROMPT}")
        await at.stops()
        traces = at.collector
        failed, refused = traces.named("POST /api/chat")
        assert failed.error == "500"
        chat = traces.child(failed, "chat small:latest")
        assert [chat.error, traces.child(chat, "POST").error] == ["target_error", "500"]
        assert not traces.child(failed, "load small:latest").failed
        assert (traces.tree(refused), refused.error) == (("POST /api/chat", []), None)
        assert refused.attributes["http.response.status_code"] == 404
        nowhere = traces.one("GET")
        assert nowhere.attributes == {
            "http.request.method": "GET",
            "http.response.status_code": 404,
        }


async def test_a_target_that_goes_away_and_comes_back(tmp_path: Path) -> None:
    faults = (Cut(paths=("/api/chat",), first=1),)
    async with stage(tmp_path, Script(models=MODELS, faults=faults)) as at:
        assert (await at.client.post("/api/chat", json=body())).status_code == 200
        await at.stops()
        traces = at.collector
        root = traces.one("POST /api/chat")
        assert traces.tree(root)[1] == [
            ("queue", []),
            ("load small:latest", [CALL]),
            ("queue", []),
            ("load small:latest", [CALL]),
            ("chat small:latest", [CALL]),
        ]
        errors = [each.error for each in traces.children(root)]
        assert errors == [None, "target_lost", None, None, None]


async def test_who_calls_says_whether_to_trace_and_else_a_share_is(tmp_path: Path) -> None:
    async with stage(tmp_path, traces_share="0") as at:
        for flags in ("00", "01"):
            headers = {"traceparent": f"00-{CALLER[0]}-{CALLER[1]}-{flags}", "tracestate": "a=b"}
            await at.client.get("/api/tags", headers=headers)
            sent = dict(at.target.target.oracle.requests[-1].headers)
            assert sent[b"tracestate"] == b"a=b"
            mine = sent[b"traceparent"].decode() == headers["traceparent"]
            assert mine == (flags == "00")  # it is passed on as it came
        await at.client.get("/api/tags")
        assert b"traceparent" not in dict(at.target.target.oracle.requests[-1].headers)
        await at.stops()
        root = at.collector.one("GET /api/tags")
        assert (root.trace, root.parent) == CALLER
        assert at.collector.tree(root) == ("GET /api/tags", [("GET", [])])
        assert len(at.collector.spans) == 2


async def test_the_variables_of_opentelemetry_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with collector() as other:
        variables = {
            "SDK_DISABLED": "true",
            "SERVICE_NAME": "stranger",
            "RESOURCE_ATTRIBUTES": "stranger=1",
            "TRACES_EXPORTER": "none",
            "TRACES_SAMPLER": "always_off",
            "EXPORTER_OTLP_ENDPOINT": other.url,
            "EXPORTER_OTLP_TRACES_ENDPOINT": f"{other.url}/v1/traces",
            "EXPORTER_OTLP_HEADERS": "stranger=1",
            "EXPORTER_OTLP_COMPRESSION": "gzip",
        }
        for name, value in variables.items():
            monkeypatch.setenv(f"OTEL_{name}", value)
        monkeypatch.setenv("HTTP_PROXY", other.url)
        async with stage(tmp_path) as at:
            await at.client.get("/api/version")
            await at.client.get("/healthz")  # a probe is no news
            await at.stops()
            [root] = [each for each in at.collector.spans if not each.parent]
            assert root.name == "GET /api/version"
            assert at.collector.resources == [
                {"service.name": "foreman", "service.version": __version__}
            ]
            [(path, headers)] = at.collector.heads
            assert path == b"/v1/traces"
            assert headers["content-type"] == "application/x-protobuf"
            assert not {"stranger", "content-encoding", "traceparent"} & headers.keys()
        assert not other.heads


async def test_without_a_collector_everything_else_works(tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{await free_port()}"
    async with stage(tmp_path, traces=nobody) as at:
        assert (await at.client.post("/api/chat", json=body())).status_code == 200
        await at.stops()
        assert not at.collector.heads


async def test_a_stop_does_not_wait_for_a_collector_that_hangs(tmp_path: Path) -> None:
    async with stage(tmp_path) as at:
        at.collector.gate.close()
        assert (await at.client.post("/api/chat", json=body())).status_code == 200
        await at.collector.gate.holds()
        with trio.fail_after(10):
            await at.stops()
        assert not at.collector.bodies
