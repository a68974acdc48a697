"""An Ollama server as a command sees it: asked one thing at a time, without an event loop.

Like the daemon it uses no proxy and follows no redirect. Raises TargetUnreachable, TargetLost and
TargetRefused.
"""

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
import msgspec

from foreman import names
from foreman.errors import TargetError, TargetLost, TargetUnreachable

SILENCE = 10.0  # seconds for an answer that needs no model
LOADING = 1800.0  # seconds for one that may have to load one
JOB = "x-foreman-job"

T = TypeVar("T")


class TargetRefused(TargetError):
    """It answered, but not with what was asked for. `status` is HTTP's; 0: it was not JSON."""

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


class Entry(msgspec.Struct, frozen=True):
    """One model in /api/tags or /api/ps; sizes in bytes, each route has some of the fields."""

    name: str
    digest: str = ""
    size: int = 0
    size_vram: int = 0
    capabilities: tuple[str, ...] | None = None
    remote_model: str | None = None


class _Entries(msgspec.Struct, frozen=True):
    models: tuple[Entry, ...] | None = None


class _Show(msgspec.Struct, frozen=True):
    capabilities: tuple[str, ...] | None = None


class _Vectors(msgspec.Struct, frozen=True):
    embeddings: tuple[tuple[float, ...], ...] = ()


class _Record(msgspec.Struct, frozen=True):
    """What is read of a line of a streamed chat; durations in nanoseconds."""

    done: bool = False
    error: str = ""
    load_duration: int = 0
    prompt_eval_count: int = 0
    prompt_eval_duration: int = 0
    eval_count: int = 0
    eval_duration: int = 0


@dataclass(frozen=True, slots=True)
class Timing:
    """How one chat went: seconds and tokens.

    `first` and `total` are by this end's clock. The others are what the server says of itself;
    `prompt` and `output` are the seconds in which those tokens were read and written.
    """

    first: float
    total: float
    load: float
    prompt_tokens: int
    prompt: float
    output_tokens: int
    output: float
    job: str | None = None


class Probe:
    """One server at `url`; use it as a context manager. `connect_timeout` is in seconds."""

    def __init__(self, url: str, token: str | None = None, connect_timeout: float = 5.0) -> None:
        self.url = url
        self._client = httpx.Client(
            base_url=url,
            headers={"authorization": f"Bearer {token}"} if token else {},
            timeout=httpx.Timeout(SILENCE, connect=connect_timeout),
            trust_env=False,
            verify=url.startswith("https:"),  # to read all certificates takes 30 ms
        )
        self._connect_timeout = connect_timeout

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections; what still runs over one is cancelled."""
        self._client.close()

    def ask(self, path: str) -> httpx.Response:
        """What a GET answers, whatever its status."""
        with self._translated():
            return self._client.get(path)

    def get(self, path: str) -> Any:
        """The JSON that a GET answers."""
        return _json(self.ask(path))

    def version(self) -> str:
        """What /api/version says."""
        match self.get("/api/version"):
            case {"version": str(version)}:
                return version
            case _:
                raise TargetRefused("/api/version answered something else than a version")

    def installed(self) -> tuple[Entry, ...]:
        """/api/tags."""
        return _entries(self.get("/api/tags"))

    def loaded(self) -> tuple[Entry, ...]:
        """/api/ps."""
        return _entries(self.get("/api/ps"))

    def capabilities(self, model: str) -> tuple[str, ...] | None:
        """What /api/show says the model can do; None where the server is too old to say."""
        return _read(self._post("/api/show", {"model": model}), _Show).capabilities

    def load(self, model: str) -> None:
        """Return when it is loaded, to stay as long as the server keeps a model by default."""
        self._post("/api/generate", {"model": model, "stream": False}, LOADING)

    def unload(self, model: str) -> None:
        """Have it unloaded as soon as nothing runs on it."""
        self._post("/api/generate", {"model": model, "keep_alive": 0, "stream": False})

    def embed(self, model: str, texts: list[str], keep_alive: int | None = None) -> float:
        """How many seconds these texts took. `keep_alive` in seconds, negative: for ever."""
        kept = {} if keep_alive is None else {"keep_alive": keep_alive}
        began = time.perf_counter()
        answer = self._post("/api/embed", {"model": model, "input": texts, **kept}, LOADING)
        seconds = time.perf_counter() - began
        vectors = _read(answer, _Vectors).embeddings
        if len(vectors) != len(texts) or not all(vectors):
            raise TargetRefused(f"{len(vectors)} vectors came back for {len(texts)} texts")
        return seconds

    def chat(self, model: str, text: str, tokens: int) -> Timing:
        """Ask, and read the answer of at most `tokens` tokens to its end."""
        options = {"num_predict": tokens, "temperature": 0}
        messages = [{"role": "user", "content": text}]
        body = {"model": model, "messages": messages, "options": options}
        began = time.perf_counter()
        first = 0.0
        for job, record in self._records("/api/chat", body):
            first = first or time.perf_counter() - began
            if record.error:
                raise TargetRefused(record.error)
            if record.done:
                return _timing(first, time.perf_counter() - began, record, job)
        raise TargetLost("the answer ended without its last record")

    def _records(self, path: str, body: object) -> Iterator[tuple[str | None, _Record]]:
        sending = self._client.stream("POST", path, json=body, timeout=self._limits(LOADING))
        with self._translated(), sending as answer:
            if answer.status_code != 200:
                answer.read()
                _json(answer)
            for line in answer.iter_lines():
                if line.strip():
                    yield answer.headers.get(JOB), _decode(line.encode(), _Record)

    def _post(self, path: str, body: object, silence: float = SILENCE) -> Any:
        with self._translated():
            answer = self._client.post(path, json=body, timeout=self._limits(silence))
        return _json(answer)

    def _limits(self, silence: float) -> httpx.Timeout:
        return httpx.Timeout(silence, connect=self._connect_timeout)

    @contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol) as error:
            raise TargetUnreachable(str(error) or type(error).__name__) from None
        except httpx.TimeoutException:
            raise TargetLost("no answer in time") from None
        except httpx.HTTPError as error:
            raise TargetLost(str(error) or type(error).__name__) from None


def _entries(body: Any) -> tuple[Entry, ...]:
    """Those that can be asked for by their name."""
    return tuple(each for each in _read(body, _Entries).models or () if _is_name(each.name))


def _is_name(text: str) -> bool:
    try:
        names.parse(text)
    except names.InvalidName:
        return False
    return True


def _timing(first: float, total: float, last: _Record, job: str | None) -> Timing:
    return Timing(
        first=first,
        total=total,
        load=last.load_duration / 1e9,
        prompt_tokens=last.prompt_eval_count,
        prompt=last.prompt_eval_duration / 1e9,
        output_tokens=last.eval_count,
        output=last.eval_duration / 1e9,
        job=job,
    )


def _json(answer: httpx.Response) -> Any:
    """The decoded body of a 200. Raises TargetRefused, with the server's own words."""
    try:
        body: Any = msgspec.json.decode(answer.content)
    except msgspec.DecodeError:
        body = None
    if answer.status_code == 200 and body is not None:
        return body
    path = answer.request.url.path
    match body:
        case {"error": {"message": str(text)}} | {"error": str(text)} | {"detail": str(text)}:
            pass
        case _:
            text = "no JSON" if answer.status_code == 200 else answer.text[:80].strip()
    status = 0 if answer.status_code == 200 else answer.status_code
    raise TargetRefused(f"{path} answered {answer.status_code}: {text}", status)


def _read(body: Any, kind: type[T]) -> T:
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        raise TargetRefused(f"its answer has another shape: {error}") from None


def _decode(line: bytes, kind: type[_Record]) -> _Record:
    try:
        return msgspec.json.decode(line, type=kind)
    except msgspec.MsgspecError as error:
        raise TargetRefused(f"its answer has another shape: {error}") from None
