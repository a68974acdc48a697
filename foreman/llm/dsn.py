"""Where a provider is and what opens it, in one line: `scheme://token@host:port/path?option=value`.

    foreman://token@box              http://box:8080
    ollama+https://box/ollama        https://box:11434/ollama
    openai://sk-...@host/v1          https://host/v1
    anthropic://                     the vendor's own address

The token is percent-decoded; `${NAME}` in any part stands for an environment variable, taken as it
is. Nothing that an error or a repr says has a token in it.
"""

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote

import msgspec

from foreman.llm.errors import SpecError

HOME = "127.0.0.1"
PORTS = {"foreman": 8080, "ollama": 11434}  # they speak http unless told otherwise
VENDORS = frozenset({"openai", "anthropic"})  # they have an address of their own

_FORM = re.compile(
    r"(?P<scheme>[a-z][a-z0-9.-]*)(?:\+(?P<transport>https?))?://"
    r"(?P<authority>[^/?#]*)(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?",
    re.IGNORECASE,
)
_HOST = re.compile(
    r"(?P<host>\[[0-9a-f:.%]+\]|[^\[\]:\s]*)(?::(?P<port>[0-9]{1,5}))?", re.IGNORECASE
)
_VARIABLE = re.compile(r"\$\{(?P<name>[^}]*)(?P<closed>\})?")


class Secret:
    """Text that no repr, log or error shows.

    >>> token = Secret("cashuABCDEFG")
    >>> print(token, repr(token), token.hint)
    [REDACTED] Secret([REDACTED]) cashuA...***
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself, for the header it goes into."""
        return self._text

    @property
    def hint(self) -> str:
        """Its first six characters, for a listing; nothing of one shorter than ten."""
        return f"{self._text[:6]}...***" if len(self._text) >= 10 else "[REDACTED]"

    def __str__(self) -> str:
        return "[REDACTED]"

    def __repr__(self) -> str:
        return "Secret([REDACTED])"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


class DSN(msgspec.Struct, frozen=True):
    """What a factory makes a provider of.

    `name` is the provider's, `url` its base without a trailing slash, "" for the vendor's own;
    `options` are the query's. `token` is all there is: nobody looks for another one.

    >>> DSN.parse("m1", "foreman://s3cret@box")
    DSN('m1', 'foreman', 'http://box:8080', token=[REDACTED])
    """

    name: str
    scheme: str
    url: str = ""
    token: Secret | None = None
    options: Mapping[str, str] = msgspec.field(default_factory=dict[str, str])

    def __repr__(self) -> str:
        parts = [repr(part) for part in (self.name, self.scheme, self.url)]
        parts += [f"token={self.token}"] if self.token else []
        parts += [f"{option}=..." for option in self.options]  # some people put keys there
        return f"DSN({', '.join(parts)})"

    @classmethod
    def parse(cls, name: str, text: str, environ: Mapping[str, str] | None = None) -> "DSN":
        """From its one line. Raises SpecError, which says what is wrong and shows none of it."""
        form = _FORM.fullmatch(text.strip())
        if form is None:
            raise SpecError(f"provider {name!r}: write scheme://token@host:port")
        if "@" in f"{form['path']}{form['query']}":  # else half a token would be the host
            raise SpecError(f"provider {name!r}: write %2F for / and %3F for ? in its token")
        user, at, place = form["authority"].rpartition("@")
        token = expand(user, name, environ or {}, decode=True)
        path = expand(form["path"] or "", name, environ or {}).rstrip("/")
        scheme = form["scheme"].lower()
        if scheme in VENDORS and place and not (at or path or {".", ":"} & {*place}):
            raise SpecError(f"provider {name!r}: write an @ behind its token")
        origin = _origin(scheme, form["transport"], expand(place, name, environ or {}), name)
        if path and not origin:
            raise SpecError(f"provider {name!r}: a path needs a host")
        options = dict(parse_qsl(expand(form["query"] or "", name, environ or {})))
        return cls(name, scheme, origin + path, Secret(token) if token else None, options)

    @classmethod
    def home(cls, scheme: str) -> "DSN":
        """The DSN of a provider nobody described: on this machine, or where its vendor has it."""
        return cls(scheme, scheme, f"http://{HOME}:{PORTS[scheme]}" if scheme in PORTS else "")


def _origin(scheme: str, transport: str | None, place: str, name: str) -> str:
    found = _HOST.fullmatch(place)
    if found is None or int(found["port"] or 0) > 65535:
        raise SpecError(f"provider {name!r}: write the host as box, box:8080 or [::1]:8080")
    host, port = found["host"], found["port"]
    if not host:
        if port or scheme not in VENDORS:
            raise SpecError(f"provider {name!r}: there is no host in its address")
        return ""
    default = PORTS.get(scheme)
    port = port or (str(default) if default else "")
    transport = (transport or ("http" if default else "https")).lower()
    return f"{transport}://{host.lower()}{':' if port else ''}{port}"


def expand(text: str, name: str, environ: Mapping[str, str], *, decode: bool = False) -> str:
    """The text with each `${NAME}` replaced; a plain `$NAME` is left alone.

    `decode`: what is not a variable's is percent-decoded. Raises SpecError, which names the
    variable and the provider `name`.

    >>> expand("a${V}b%40$W", "m1", {"V": "%40"}, decode=True)
    'a%40b@$W'
    """
    literal = unquote if decode else str
    pieces: list[str] = []
    end = 0
    for found in _VARIABLE.finditer(text):
        variable = found["name"]
        if not found["closed"]:
            raise SpecError(f"provider {name!r}: a ${{ is never closed")
        if not variable:
            raise SpecError(f"provider {name!r}: ${{}} names no variable")
        if variable not in environ:
            raise SpecError(f"provider {name!r}: the variable {variable} is not set")
        pieces += [literal(text[end : found.start()]), environ[variable]]
        end = found.end()
    return "".join([*pieces, literal(text[end:])])
