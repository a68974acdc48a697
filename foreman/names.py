"""Ollama's rules for model names: which spellings mean the same model, and which mean none.

A name is `[host/][namespace/]model[:tag]`, with a source suffix (`:cloud`, `:local` or a tag that
ends in `-cloud`) that says where the model runs. Only spellings are judged here; whether a model
is installed is the inventory's business.
"""

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

Source = Literal["cloud", "local"]

DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"

_CLOUD_TAG = "-cloud"
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}")
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")

_REMEMBERED = 1024  # spellings; a target rarely has more than a few hundred models
_MEMORABLE = 700  # characters; every name without spaces around it or a URL scheme is shorter


class InvalidName(ValueError):
    """The target would refuse this spelling; `text` is the error it would answer with."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


@dataclass(frozen=True, slots=True)
class Name:
    """One model name with its defaults filled in, spelled as it was sent.

    `tag` is the tag without the source suffix; `source` is None where the name leaves it open.
    """

    host: str
    namespace: str
    model: str
    tag: str
    source: Source | None = None

    @property
    def key(self) -> str:
        """Equal for two names if and only if the target takes them for the same model."""
        return f"{self.host}/{self.namespace}/{self.model}:{self._stored_tag}".casefold()

    @property
    def display(self) -> str:
        """The form of /api/tags: the defaults left out, but for the tag."""
        if self.host.casefold() != DEFAULT_HOST:
            path = f"{self.host}/{self.namespace}/{self.model}"
        elif self.namespace.casefold() != DEFAULT_NAMESPACE:
            path = f"{self.namespace}/{self.model}"
        else:
            path = self.model
        return f"{path}:{self._stored_tag}"

    @property
    def _stored_tag(self) -> str:
        """The tag under which the target stores it: a cloud model is a stub of its own."""
        if self.source != "cloud":
            return self.tag
        return "cloud" if self.tag.casefold() == DEFAULT_TAG else self.tag + _CLOUD_TAG


def key(name: str) -> str:
    """`host/namespace/model:tag` in lower case: what to compare and to group by.

    Raises InvalidName.
    """
    return parse(name).key


def display(name: str) -> str:
    """`model:tag`, with the namespace and the host where they are not the defaults.

    Raises InvalidName.
    """
    return parse(name).display


def parse(name: str) -> Name:
    """The parts of a name. Raises InvalidName."""
    name = name.strip()
    # A URL scheme of any length is cut off and valid: such a name must not stay in memory.
    return _parse(name) if len(name) <= _MEMORABLE else _parse.__wrapped__(name)


@lru_cache(maxsize=_REMEMBERED)
def _parse(name: str) -> Name:
    if not name:
        raise InvalidName("model is required")
    base, source = _split_source(name)
    if source and _split_source(base)[1]:
        quoted = json.dumps(name, ensure_ascii=False)
        raise InvalidName(f"use either :local or :cloud, not both: {quoted}")
    host, namespace, model, tag = _split_parts(base)
    parts = ((_HOST, host), (_NAMESPACE, namespace), (_PART, model), (_PART, tag))
    if not all(pattern.fullmatch(part) for pattern, part in parts):
        raise InvalidName("invalid model name")
    return Name(host, namespace, model, tag, source)


def _split_source(name: str) -> tuple[str, Source | None]:
    base, colon, suffix = name.rpartition(":")
    suffix = suffix.strip()
    match suffix.lower() if colon else "":
        case "cloud":
            return base, "cloud"
        case "local":
            return base, "local"
        case folded if folded.endswith(_CLOUD_TAG) and "/" not in suffix:
            return f"{base}:{suffix[: -len(_CLOUD_TAG)]}", "cloud"
        case _:
            return name, None


def _split_parts(base: str) -> tuple[str, str, str, str]:
    """Host, namespace, model and tag; a part that is promised by its separator may be empty."""
    tag = DEFAULT_TAG
    if base.rfind(":") > base.rfind("/"):
        base, _, tag = base.rpartition(":")
    rest, slash, model = base.rpartition("/")
    if not slash:
        return DEFAULT_HOST, DEFAULT_NAMESPACE, model, tag
    host, slash, namespace = rest.rpartition("/")
    if not slash:
        return DEFAULT_HOST, namespace, model, tag
    scheme, separator, address = host.partition("://")
    # Ollama takes an empty address after a scheme for no host at all, not for a missing part.
    return (address or DEFAULT_HOST) if separator else scheme, namespace, model, tag
