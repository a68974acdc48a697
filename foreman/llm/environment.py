"""Providers that the environment describes: `LLM_M1=foreman://token@box` is a provider `m1`.

Other programs name settings LLM_* too, so a value counts as a DSN only when its scheme is known.
"""

import logging
import re
from collections.abc import Collection, Iterator, Mapping

from foreman.llm.dsn import DSN, PORTS, VENDORS, Secret
from foreman.llm.errors import SpecError

PREFIX = "LLM_"
BUILT_IN = VENDORS | PORTS.keys()

_SCHEME = re.compile(r"\s*([a-zA-Z][a-zA-Z0-9.-]*)(?:\+[a-zA-Z]+)?://")
_log = logging.getLogger("foreman.llm")


def variable(name: str) -> str:
    """Where a provider of this name is looked for.

    >>> variable("my-box")
    'LLM_MY_BOX'
    """
    return PREFIX + re.sub(r"[- ]", "_", name).upper()


def scan(environ: Mapping[str, str], schemes: Collection[str]) -> Iterator[DSN]:
    """Every DSN there is. One that cannot be read is passed over, with a line in the log."""
    for key in sorted(environ):
        scheme = _SCHEME.match(environ[key])
        if not key.startswith(PREFIX) or key == PREFIX or scheme is None:
            continue
        try:
            yield _read(key.removeprefix(PREFIX).lower(), key, environ, schemes)
        except SpecError as error:
            _log.warning("%s", error)


def find(name: str, environ: Mapping[str, str], schemes: Collection[str]) -> DSN | None:
    """The DSN of this provider; None without one. Raises SpecError that names the variable.

    Without a DSN, a scheme's own name is a provider too: on this machine, or the vendor's own.
    """
    key = variable(name)
    if name == name.lower() and key in environ:
        return _read(name, key, environ, schemes)
    return _with_key(DSN.home(name), environ) if name in BUILT_IN and name in schemes else None


def _read(name: str, key: str, environ: Mapping[str, str], schemes: Collection[str]) -> DSN:
    scheme = _SCHEME.match(environ[key])
    known = ", ".join(sorted(schemes))
    if scheme is None:
        raise SpecError(f"{key}: write scheme://token@host:port; the schemes are {known}")
    if scheme[1].lower() not in schemes:
        raise SpecError(f"{key}: no scheme {scheme[1]!r} among: {known}")
    try:
        return _with_key(DSN.parse(name, environ[key], environ), environ)
    except SpecError as error:
        raise SpecError(f"{key}: {error}") from None


def _with_key(dsn: DSN, environ: Mapping[str, str]) -> DSN:
    """A token of its own first, then LLM_<NAME>_API_KEY, then the vendor's usual variable.

    The last is for the vendor's own address alone: no other host is to see that key.
    """
    keys = [f"{variable(dsn.name)}_API_KEY"]
    if dsn.scheme in VENDORS and not dsn.url:
        keys.append(f"{dsn.scheme.upper()}_API_KEY")
    found = next((environ[key] for key in keys if environ.get(key)), None)
    if dsn.token is not None or found is None:
        return dsn
    return DSN(dsn.name, dsn.scheme, dsn.url, Secret(found), dsn.options)
