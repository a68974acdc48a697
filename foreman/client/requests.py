"""What goes out: Ollama's request bodies, and jobs around them."""

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict
from urllib.parse import quote
from uuid import uuid4

import msgspec

from foreman.client.answers import Message
from foreman.client.transport import Request
from foreman.client.values import Job, Progress
from foreman.jobs import JobClass, State

JobOrId = Job | str
Messages = Sequence[Message | Mapping[str, Any]]
Image = str | bytes | Path
"""Base64 text, the bytes themselves, or the file they are in."""


class ModelParameters(TypedDict, total=False):
    """What chat, generate and embed have in common. `keep_alive`: seconds, or like "5m"."""

    options: Mapping[str, Any]
    keep_alive: float | str


class TextParameters(ModelParameters, total=False):
    """What chat and generate have in common. `format`: "json", or a JSON schema."""

    format: Literal["json"] | Mapping[str, Any]
    think: bool | Literal["low", "medium", "high"]
    logprobs: bool
    top_logprobs: int


class ChatParameters(TextParameters, total=False):
    """Ollama's parameters of a chat beside model, messages and stream."""

    tools: Sequence[Mapping[str, Any]]


class GenerateParameters(TextParameters, total=False):
    """Ollama's parameters of a completion beside model, prompt and stream."""

    suffix: str
    system: str
    template: str
    context: Sequence[int]
    raw: bool
    images: Sequence[Image]


class EmbedParameters(ModelParameters, total=False):
    """Ollama's parameters of an embedding beside model and input."""

    truncate: bool
    dimensions: int


class JobParameters(TypedDict, total=False):
    """How a job is to be treated.

    `priority` -100..100, larger first; `webhook` a URL, or `{"url", "events"}`; `artifacts`
    "fetch" keeps the result out of the job itself; `expires_in` seconds in which it must start.
    """

    priority: int
    labels: Mapping[str, str]
    webhook: str | Mapping[str, Any]
    artifacts: Literal["inline", "fetch"]
    expires_in: float


class MapParameters(JobParameters, total=False):
    """How a map goes, beside how its jobs are treated.

    `endpoint` is "/api/chat" unless given, `window` 1000: inputs that are under way at most.
    `ordered`: outcomes come in the order of the inputs. `progress` is told after each step.
    """

    endpoint: str
    window: int
    ordered: bool
    progress: Callable[[Progress], object]


class JobFilter(TypedDict, total=False):
    """Which jobs, or events of which jobs. `label` is written `name:value`."""

    state: State | str
    job_class: JobClass | str
    model: str
    label: str


def _encodable(value: Any) -> Any:
    """A file as Base64 text, as bytes are; what else JSON lacks is the caller's error."""
    if isinstance(value, Path):
        return b64encode(value.read_bytes()).decode()
    raise TypeError(f"JSON cannot express a value of type {type(value).__name__}")


encode = msgspec.json.Encoder(enc_hook=_encodable).encode


def post(path: str, body: Mapping[str, Any]) -> Request:
    """A POST of this JSON object. Raises TypeError for what JSON cannot express."""
    return Request("POST", path, body=encode(body), headers={"content-type": "application/json"})


def chat(model: str, messages: Messages, how: ChatParameters, *, stream: bool) -> Request:
    """POST /api/chat."""
    return post("/api/chat", {"model": model, "messages": messages, "stream": stream, **how})


def generate(model: str, prompt: str, how: GenerateParameters, *, stream: bool) -> Request:
    """POST /api/generate."""
    return post("/api/generate", {"model": model, "prompt": prompt, "stream": stream, **how})


def embed(model: str, texts: str | Sequence[str], how: EmbedParameters) -> Request:
    """POST /api/embed."""
    return post("/api/embed", {"model": model, "input": texts, **how})


def submission(endpoint: str, request: Mapping[str, Any], how: JobParameters) -> dict[str, Any]:
    """The body of POST /jobs, or a line of POST /jobs/bulk."""
    body = {"endpoint": endpoint, "request": request, **how}
    if isinstance(webhook := how.get("webhook"), str):
        body["webhook"] = {"url": webhook}
    return body


def submit(
    endpoint: str, request: Mapping[str, Any], how: JobParameters, key: str | None
) -> Request:
    """POST /jobs under an Idempotency-Key, so that sending it twice makes one job."""
    asked = post("/jobs", submission(endpoint, request, how))
    headers = {**asked.headers, "idempotency-key": key or new_key()}
    return Request("POST", asked.path, body=asked.body, headers=headers)


def new_key() -> str:
    """An idempotency key that nobody else has."""
    return uuid4().hex


def job_path(job: JobOrId, rest: str = "") -> str:
    """The path of a job's own routes."""
    return f"/jobs/{quote(job.id if isinstance(job, Job) else job, safe='')}{rest}"


def query(filters: JobFilter, **more: str) -> dict[str, str]:
    """The filters as parameters of GET /jobs and of the event routes."""
    asked = {
        "class" if name == "job_class" else name: str(value) for name, value in filters.items()
    }
    return {**asked, **more}
