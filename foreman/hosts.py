"""Which address a host in a URL stands for, however it is spelled.

An address can be written in ways that a filter reads differently from the resolver: `127.1`,
`2130706433`, `0x7f.1`, `[::ffff:7f00:1]`, full-width digits, `%31`. So spelling is undone first,
and what is judged is always an address object.
"""

import re
import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from unicodedata import normalize
from urllib.parse import unquote

import idna

Ip = IPv4Address | IPv6Address

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*")
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+")
_NUMBERS = re.compile(rf"(?:{_NUMBER.pattern})(?:\.(?:{_NUMBER.pattern})){{0,3}}")
_DOTS = str.maketrans("。．｡", "...")  # noqa: RUF001 - full stops too, says IDNA

_LOCALHOST = IPv4Address("127.0.0.1")
_LOCALHOST_6 = IPv6Address("::1")
_LOCAL_NAMES: dict[str, Ip] = {
    "localhost": _LOCALHOST,
    "localhost4": _LOCALHOST,
    "localhost.localdomain": _LOCALHOST,
    "localhost6": _LOCALHOST_6,
    "ip6-localhost": _LOCALHOST_6,
    "ip6-loopback": _LOCALHOST_6,
}

# Translated (NAT64, SIIT) and IPv4-compatible: the last four bytes are an IPv4 address.
_EMBEDDING = tuple(map(IPv6Network, ("64:ff9b::/96", "::ffff:0:0:0/96", "::/96")))


def plain(host: str) -> str:
    """The host as a resolver would come to see it: decoded, folded, without its last dots."""
    unescaped = unquote(host.removeprefix("[").removesuffix("]"))
    return normalize("NFKC", unescaped).translate(_DOTS).lower().rstrip(".")


def known(host: str) -> Ip | None:
    """The address that a `plain` host is without asking anyone: a literal, or a local name."""
    if ":" in host:
        return _ipv6(host)
    if _NUMBERS.fullmatch(host):
        return _ipv4(host)
    return _LOCALHOST if host.endswith(".localhost") else _LOCAL_NAMES.get(host)


def is_name(host: str) -> bool:
    """Whether a `plain` host is a name that may be looked up; one that ends in a number is none."""
    if not _NAME.fullmatch(host) or _NUMBER.fullmatch(host.rpartition(".")[2]):
        return False
    try:
        return "xn--" not in host or bool(idna.decode(host))
    except UnicodeError:
        return False


def ascii_name(host: str) -> str:
    """How a name in another script is written in ASCII; the name itself if it cannot be."""
    try:
        return idna.encode(host, uts46=True).decode()
    except UnicodeError:
        return host


def forms(address: Ip) -> tuple[Ip, ...]:
    """Every address that a packet to this one may end at, the address itself first.

    A mapped address is its IPv4 address and nothing else. The zone is left out.
    """
    if isinstance(address, IPv4Address):
        return (address,)
    bare = IPv6Address(int(address))
    if bare.ipv4_mapped:
        return (bare.ipv4_mapped,)
    inner = _embedded(bare)
    return (bare,) if inner is None else (bare, inner)


def _embedded(address: IPv6Address) -> IPv4Address | None:
    if address.sixtofour:
        return address.sixtofour
    if address.teredo:
        return address.teredo[1]
    if int(address) > 1 and any(address in network for network in _EMBEDDING):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def _ipv4(host: str) -> IPv4Address | None:
    """One to four numbers, each decimal, octal or hexadecimal: what every resolver accepts."""
    try:
        return IPv4Address(socket.inet_aton(host))
    except (OSError, ValueError):
        return None


def _ipv6(host: str) -> IPv6Address | None:
    try:
        return IPv6Address(host)
    except ValueError:
        return None
