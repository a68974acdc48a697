"""The demo's second part: jobs for later, watched over a websocket and announced by webhook."""

import base64
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

import hypercorn.trio
import trio
from hypercorn.config import Config
from quart import request
from quart_trio import QuartTrio
from standardwebhooks import Webhook, WebhookVerificationError

from foreman.client.aio import AsyncClient
from foreman.client.values import Event, Job

PROMPTS = ("Write one line about the sea.", "Write one line about the night train.")
TOKENS = 24  # of each answer at most
ALL_EVENTS = ["*"]

Say = Callable[[str], None]


@dataclass(slots=True)
class Receiver:
    """A webhook receiver as anybody would write one: it verifies, notes, and answers 204."""

    secret: str = field(
        default_factory=lambda: "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    )
    url: str = ""
    heard: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])  # job, event
    changed: trio.Event = field(default_factory=trio.Event)
    say: Say = print

    @property
    def address(self) -> str:
        """Host and port, as FOREMAN_WEBHOOK_ALLOW wants them."""
        return self.url.removeprefix("http://").partition("/")[0]

    async def serve(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Listen on a free port of this machine until cancelled."""
        app = QuartTrio("receiver")

        @app.post("/hook")
        async def hook() -> tuple[str, int]:
            try:
                body = await request.get_data()
                told = Webhook(self.secret).verify(body, dict(request.headers))
            except WebhookVerificationError:
                return "", 401
            self._note(told["data"]["job"], told["type"])
            return "", 204

        async with trio.open_nursery() as nursery:
            config = Config()
            config.bind = ["127.0.0.1:0"]
            config.loglevel = "ERROR"
            serve = vars(hypercorn.trio)["serve"]  # whose type speaks of WSGI apps that have none
            [at] = await nursery.start(serve, app, config)
            self.url = f"{at}/hook"
            task_status.started()

    def _note(self, job: str, event: str) -> None:
        self.heard.append((job, event))
        self.say(line("webhook", job, f"{event}, signature verified"))
        self.changed.set()
        self.changed = trio.Event()

    async def has_heard(self, events: list[tuple[str, str]]) -> None:
        """Return once each of these has arrived."""
        while not set(events) <= set(self.heard):
            await self.changed.wait()


async def submit_and_watch(url: str, model: str, receiver: Receiver) -> None:
    """Submit the jobs, tell what the websocket and the receiver hear, and show the answers."""
    receiver.say("Two jobs for later; a websocket and a webhook tell how they fare:")
    seen: list[tuple[str, str]] = []
    async with AsyncClient(url) as client, client.watch() as events:
        jobs = [await _submit(client, model, prompt, receiver.url) for prompt in PROMPTS]
        left = {job.id for job in jobs}
        async for event in events:
            receiver.say(line("websocket", event.job, _described(event)))
            seen.append((event.job, event.type))
            left -= {event.job} if event.ended else set()
            if not left:
                break
        await receiver.has_heard(seen)
        for job, prompt in zip(jobs, PROMPTS, strict=True):
            answer = await client.result(job)
            receiver.say(f"[{job.id[-4:]}] {prompt}\n    {' '.join(answer.response.split())}")


async def _submit(client: AsyncClient, model: str, prompt: str, hook: str) -> Job:
    asked = {"model": model, "prompt": prompt, "options": {"num_predict": TOKENS}}
    return await client.submit(
        "/api/generate", asked, webhook={"url": hook, "events": ALL_EVENTS}, labels={"demo": "yes"}
    )


def _described(event: Event) -> str:
    extra = "" if event.tokens_out is None else f", {event.tokens_out} tokens"
    return f"{event.type} (seq {event.seq}){extra}"


def line(source: str, job: str, text: str) -> str:
    """One thing that was heard; the end of a job's id is enough to tell two apart."""
    return f"  {source:<9}  job ...{job[-4:]}  {text}"
