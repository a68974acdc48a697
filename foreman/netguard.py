"""Where a webhook may go: the rules against server-side request forgery.

    1  foreman's own listener and the target                 never
    2  what FOREMAN_WEBHOOK_ALLOW lists                      yes
    3  metadata, link-local and other reserved addresses     no
    4  this machine                                          no
    5  everything else, private networks among it            yes

A URL is judged when it is submitted and again before each attempt, the addresses behind its name
when they are connected to. Classified by tables, since `ipaddress` calls many of these "global".
"""

import errno
import re
import socket
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_network
from urllib.parse import urlsplit

from foreman import hosts
from foreman.allow_list import Network, parse_allow
from foreman.errors import ForemanError
from foreman.hosts import Ip
from foreman.units import Address

_DEFAULT_PORTS = {"http": 80, "https": 443}

# Ports where something listens that a POST could harm: those browsers refuse, and databases and
# control planes that were made for trusted networks.
_OTHER_PROTOCOLS = frozenset(
    {0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95}
    | {101, 102, 103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179}
    | {389, 427, 445, 465, 512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587}
    | {601, 636, 989, 990, 993, 995, 1433, 1521, 1719, 1720, 1723, 2049, 2375, 2376, 2379, 3306}
    | {3389, 3659, 4045, 4190, 5060, 5061, 5432, 5672, 6000, 6379, 6566, 6665, 6666, 6667, 6668}
    | {6669, 6679, 6697, 10080, 10250, 11211, 27017}
)

_LOOPBACK: tuple[Network, ...] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))

# The first range that holds an address gives the reason.
_RESERVED: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(network), reason)
    for reason, networks in (
        (
            "a metadata service of a cloud",
            "169.254.169.254/32 100.100.100.200/32 168.63.129.16/32 fd00:ec2::/32 fd20:ce::254/128",
        ),
        ("link-local", "169.254.0.0/16 fe80::/10 fec0::/10"),
        ("an unspecified address", "0.0.0.0/8 ::/128"),
        ("a multicast address", "224.0.0.0/4 ff00::/8"),
        ("a broadcast address", "255.255.255.255/32"),
        (
            "reserved",
            "240.0.0.0/4 192.0.0.0/24 192.88.99.0/24 198.18.0.0/15 100::/64 2001:2::/48 5f00::/16",
        ),
        (
            "reserved for documentation",
            "192.0.2.0/24 198.51.100.0/24 203.0.113.0/24 2001:db8::/32 3fff::/20",
        ),
        (
            "an IPv4 address inside an IPv6 one",
            "::/96 ::ffff:0:0:0/96 64:ff9b::/96 64:ff9b:1::/48 2001::/32 2002::/16",
        ),
    )
    for network in networks.split()
)


class Rule(StrEnum):
    """What a webhook was refused for."""

    URL = "url"  # it is not the URL of a web server, or spelled to deceive
    PORT = "port"
    OWN = "own"  # foreman's own listener, or the target
    RESERVED = "reserved"
    LOOPBACK = "loopback"


class Blocked(ForemanError):
    """A webhook may not go there. The text says why, and how to allow it where that can be done."""

    def __init__(self, rule: Rule, text: str) -> None:
        super().__init__(text)
        self.rule = rule


def is_local(address: Ip) -> bool:
    """Whether this machine answers to the address: only then can a socket be bound to it."""
    if address.is_unspecified or any(address in network for network in _LOOPBACK):
        return True
    family = socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError as error:
        # Anything else (out of descriptors, a zone is missing) leaves it open: then it counts as.
        return error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
    return True


class Rules:
    """The policy of one daemon.

    `own_ports` are those it really listens on (not 0), `target` is the target's base URL, `allow`
    the entries of FOREMAN_WEBHOOK_ALLOW. Raises ValueError for an entry that says nothing.
    """

    def __init__(
        self,
        *,
        own_ports: Iterable[int],
        target: str,
        allow: Iterable[str] = (),
        is_local: Callable[[Ip], bool] = is_local,
    ) -> None:
        parts = urlsplit(target)
        self.target = Address(
            hosts.plain(parts.hostname or ""), parts.port or _DEFAULT_PORTS[parts.scheme]
        )
        self._own_ports = frozenset(own_ports)
        self._allow = tuple(map(parse_allow, allow))
        self._is_local = is_local

    def check_url(self, url: str) -> None:
        """Judge a URL as it stands, asking nobody: a name is judged once it is resolved.

        Raises Blocked.
        """
        spelled, port = _origin(url)
        host = hosts.plain(spelled)
        address = hosts.known(host)
        if port in _OTHER_PROTOCOLS:
            raise Blocked(Rule.PORT, f"port {port} belongs to another protocol than HTTP")
        if address is not None:
            self.check_addresses(host, port, [address])
        elif Address(host, port) == self.target:
            raise _own(host, "the target")
        _check_spelling(spelled, host, address)

    def check_addresses(
        self, host: str, port: int, addresses: Iterable[Ip], target: Iterable[Ip] = ()
    ) -> None:
        """Judge what a host resolved to: every address has to pass. Raises Blocked.

        `target` is what the target's name stands for at this moment.
        """
        name, theirs = hosts.plain(host), frozenset(self._target_addresses(target))
        for address in addresses:
            for form in hosts.forms(address):
                self._refuse_own(name, port, form, theirs)
            for form in hosts.forms(address):
                self._refuse_unlisted(name, port, form)

    def _refuse_own(self, host: str, port: int, address: Ip, target: frozenset[Ip]) -> None:
        """A listener on one address of this machine counts as one on all of them.

        Whoever listens on 0.0.0.0 is met at each, and the target may do so whatever its URL says.
        """
        if port in self._own_ports and self._is_local(address):
            raise _own(host, "foreman's own listener")
        if port != self.target.port:
            return
        if address in target or (self._is_local(address) and any(map(self._is_local, target))):
            raise _own(host, "the target")

    def _target_addresses(self, resolved: Iterable[Ip]) -> Iterator[Ip]:
        configured = hosts.known(self.target.host)
        for address in resolved if configured is None else (configured, *resolved):
            yield from hosts.forms(address)

    def _refuse_unlisted(self, host: str, port: int, address: Ip) -> None:
        rule, reason = _classify(address)
        if rule is None or self._is_allowed(rule, host, port, address):
            return
        stands_for = "" if hosts.known(host) == address else f" stands for {address}, which"
        by_name = rule is Rule.LOOPBACK and hosts.is_name(host)
        entry = Address(host if by_name else str(address), port)
        hint = f"FOREMAN_WEBHOOK_ALLOW={entry} would allow it"
        raise Blocked(rule, f"{host}{stands_for} is {reason}; {hint}")

    def _is_allowed(self, rule: Rule, host: str, port: int, address: Ip) -> bool:
        """A name may be this machine's; only a range opens what is reserved."""
        return any(
            each.covers(host, port, address)
            for each in self._allow
            if rule is Rule.LOOPBACK or not each.by_name
        )


def _classify(address: Ip) -> tuple[Rule | None, str]:
    """What forbids the address by default, and in what words."""
    if any(address in network for network in _LOOPBACK):
        return Rule.LOOPBACK, "this machine"
    for network, reason in _RESERVED:
        if address in network:
            return Rule.RESERVED, reason
    return None, ""


def _own(host: str, what: str) -> Blocked:
    return Blocked(Rule.OWN, f"{host} leads to {what}, where no webhook may go")


_UNREADABLE = re.compile(r"[\x00-\x20\x7f\\]")
_AUTHORITY = re.compile(r"(\[[^\[\]]+\]|[^\[\]:]+)(?::([0-9]{0,5}))?")
_RIGHT = "write a URL like https://hooks.example/foreman"


def _origin(url: str) -> tuple[str, int]:
    """The host as it was spelled, and the port. Raises Blocked unless it is an HTTP URL."""
    if _UNREADABLE.search(url):
        raise Blocked(Rule.URL, f"there is a space, backslash or control character in it; {_RIGHT}")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise Blocked(Rule.URL, f"its host cannot be read; {_RIGHT}") from None
    if parts.scheme not in _DEFAULT_PORTS or not parts.netloc:
        raise Blocked(Rule.URL, f"it has no http or https scheme, or no host; {_RIGHT}")
    if "@" in parts.netloc:
        raise Blocked(Rule.URL, "there is a user name in it; the ledger would show the password")
    authority = _AUTHORITY.fullmatch(parts.netloc)
    port = int(authority[2] or _DEFAULT_PORTS[parts.scheme]) if authority else 65536
    if authority is None or port > 65535:
        raise Blocked(Rule.URL, f"its host or port cannot be read; {_RIGHT}")
    return authority[1].lower(), port


def _check_spelling(spelled: str, host: str, address: Ip | None) -> None:
    """Refuse what one program may read differently from the next."""
    if hosts.is_name(host):
        right, spelled = host, spelled.rstrip(".")
    elif address is not None:
        right = f"[{host}]" if ":" in host else str(address)
    else:
        name = hosts.ascii_name(host)
        hint = f"; write {name}" if hosts.is_name(name) else ""
        raise Blocked(Rule.URL, f"{spelled} is neither an address nor the name of a host{hint}")
    if spelled != right:
        raise Blocked(Rule.URL, f"{spelled} is an odd spelling; write {right}")
