"""How a command reaches the daemon: FOREMAN_URL and FOREMAN_TOKEN, over HTTP.

urllib, because httpx takes longer to import than the whole command does to run.

ForemanError
  Unreachable      there is no daemon where FOREMAN_URL points
    Lost           there was one: the connection broke after the request had gone out
      Silent       nothing came for as long as was allowed
  Refused          the daemon answered, but not with what was asked for
"""

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage, HTTPResponse, IncompleteRead
from typing import Any, TypeVar, cast
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener

import msgspec

from foreman.client.location import Location, locate
from foreman.errors import ForemanError

PATIENCE = 10.0  # seconds for each step of a request
JSON = "application/json"
NDJSON = "application/x-ndjson"

T = TypeVar("T")


class Unreachable(ForemanError):
    """There is no daemon where FOREMAN_URL points."""


class Lost(Unreachable):
    """The connection broke after the request had gone out: it may have been carried out."""


class Silent(Lost):
    """Nothing came for as long as was allowed."""


class Refused(ForemanError):
    """The daemon answered, but not with what was asked for.

    `status` is HTTP's (0: a 2xx that is not foreman's), `code` the problem's own, if it has one.
    """

    def __init__(self, text: str, status: int = 0, code: str = "") -> None:
        super().__init__(text)
        self.status = status
        self.code = code


@dataclass(frozen=True)
class Answer:
    """A 2xx answer whose body is still to come. Reading raises Lost and Silent."""

    url: str
    response: HTTPResponse

    @property
    def status(self) -> int:
        return self.response.status

    @property
    def headers(self) -> HTTPMessage:
        return self.response.headers

    def read(self) -> bytes:
        with _reading(self.url):
            return self.response.read()

    def pieces(self) -> Iterator[bytes]:
        """The body as it arrives."""
        while True:
            with _reading(self.url):
                piece = self.response.read1(65536)
            if not piece:
                return
            yield piece

    def lines(self) -> Iterator[bytes]:
        """Each line as soon as it is whole, stripped; empty ones are left out."""
        rest = b""
        for piece in self.pieces():
            *whole, rest = (rest + piece).split(b"\n")
            yield from filter(None, map(bytes.strip, whole))
        if rest.strip():
            yield rest.strip()


@dataclass(frozen=True)
class Daemon(Location):
    """Where it is, and what can be asked of it. Every method raises Unreachable and Refused."""

    def get(self, path: str, parameters: Mapping[str, str] | None = None) -> bytes:
        """The body of a 2xx answer."""
        with self.open("GET", path, parameters) as answer:
            return answer.read()

    def post(
        self,
        path: str,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        patience: float | None = None,
    ) -> bytes:
        """The body of a 2xx answer."""
        with self.open("POST", path, body=body, headers=headers, patience=patience) as answer:
            return answer.read()

    @contextmanager
    def open(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str] | None = None,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        patience: float | None = None,
    ) -> Generator[Answer]:
        """A 2xx answer, to read as it comes. `patience` is in seconds, for each step of it."""
        query = f"?{urlencode(parameters)}" if parameters else ""
        request = Request(  # noqa: S310  an http(s) URL: parse_url saw to it
            self.url + path + query,
            data=body,
            headers=({"Content-Type": JSON} if body is not None else {}) | dict(headers or {}),
            method=method,
        )
        if self.secret:  # not to be sent on to wherever a redirect leads
            request.add_unredirected_header("Authorization", f"Bearer {self.secret}")
        with self._opened(request, patience or PATIENCE) as response:
            yield Answer(self.url, response)

    def _opened(self, request: Request, patience: float) -> HTTPResponse:
        opener = build_opener(ProxyHandler({})) if self.is_here else build_opener()
        try:
            with _reading(self.url):
                return cast("HTTPResponse", opener.open(request, timeout=patience))
        except HTTPError as error:
            with error:
                raise _refusal(error) from None
        except (URLError, ValueError) as error:
            cause = error.reason if isinstance(error, URLError) else error
            raise Unreachable(
                f"no answer from {self.url}: {cause}. Is `foreman serve` running there? "
                "FOREMAN_URL says where to look"
            ) from None


@contextmanager
def _reading(url: str) -> Generator[None]:
    """Our words for a connection that breaks. URLError means that none was made, and passes."""
    try:
        yield
    except URLError:
        raise
    except TimeoutError:
        raise Silent(f"no answer from {url}: nothing came for too long") from None
    except (OSError, IncompleteRead) as error:
        cause = str(error) or type(error).__name__
        raise Lost(f"the connection to {url} broke: {cause}") from None
    except HTTPException as error:
        raise Unreachable(f"what answers at {url} does not speak HTTP: {error}") from None


def decode(body: bytes, kind: type[T]) -> T:
    """Raises Refused when the body is not what a daemon of this version sends."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Refused(f"the answer is not foreman's: {error}") from None


def read() -> Daemon:
    """From FOREMAN_URL and FOREMAN_TOKEN, as the client library reads them. Raises ConfigError."""
    location = locate()
    return Daemon(location.url, location.secret)


def _refusal(error: HTTPError) -> Refused:
    """From a problem+json body, or one in Ollama's or OpenAI's shape; else the status alone."""
    try:
        problem: Any = msgspec.json.decode(error.read())
    except (OSError, HTTPException, ValueError):
        problem = None
    hint = "; set FOREMAN_TOKEN" if error.code == 401 else ""
    match problem:
        case {"detail": text, "field": field}:
            detail = f"{text} (at {field})"
        case {"detail": text} | {"error": {"message": text}} | {"error": text}:
            detail = str(text)
        case _:
            detail = f"{error.url} answered {error.code}; is that foreman?"
    return Refused(detail + hint, error.code, _code(problem))


def _code(problem: Any) -> str:
    match problem:
        case {"code": str(code)}:
            return code
        case _:
            return ""
