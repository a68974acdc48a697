"""FOREMAN_WEBHOOK_ALLOW: where webhooks may go although the defaults would refuse it."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

from foreman import hosts
from foreman.hosts import Ip

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Allowed:
    """One entry of FOREMAN_WEBHOOK_ALLOW: a range, on one port or all of them; or a name's port."""

    where: Network | str
    port: int | None

    @property
    def by_name(self) -> bool:
        """Whether it trusts a name, whatever that stands for."""
        return isinstance(self.where, str)

    def covers(self, host: str, port: int, address: Ip) -> bool:
        """Whether it speaks of this address on this port, reached under the name `host`."""
        if self.port not in (None, port):
            return False
        return self.where == host if isinstance(self.where, str) else address in self.where


_ENTRIES = (
    re.compile(r"\[([^\[\]]+)\](?::([0-9]{1,5}))?"),
    re.compile(r"([^\[\]]+/[0-9]{1,3})(?::([0-9]{1,5}))?"),
    re.compile(r"([0-9a-fA-F:.]*:[0-9a-fA-F:.]*:[0-9a-fA-F:.]*)()"),  # IPv6 without a port
    re.compile(r"([^:/\[\]]+)(?::([0-9]{1,5}))?"),
)
_RIGHT = (
    "write an address or a range like 10.0.0.0/8, with a port 127.0.0.1:9000 or [::1]:9000, "
    "or a name with its port like hooks.lan:9000"
)


def parse_allow(text: str) -> Allowed:
    """One entry of FOREMAN_WEBHOOK_ALLOW. Raises ValueError that says what would be right."""
    match = next(filter(None, (form.fullmatch(text.strip()) for form in _ENTRIES)), None)
    if match is None:
        raise ValueError(f"{text}: {_RIGHT}")
    port = int(match[2]) if match[2] else None
    if port is not None and not 0 < port < 65536:
        raise ValueError(f"{text}: a port is from 1 to 65535")
    network = _network(match[1])
    if network is not None:
        return Allowed(network, port)
    name = hosts.plain(match[1])
    if not hosts.is_name(name):
        raise ValueError(f"{text}: {_RIGHT}")
    if port is None:
        raise ValueError(f"{text}: a name needs a port, like {name}:9000")
    return Allowed(name, port)


def _network(text: str) -> Network | None:
    """The range, None if it is none. Raises ValueError for one that could never match."""
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        return None
    if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped:
        raise ValueError(f"{text}: write IPv4 addresses as such, like 10.0.0.0/8")
    address, slash, _ = text.partition("/")
    if slash and network.network_address != ip_network(address).network_address:
        raise ValueError(f"{text}: write {network} for the range, or {address} for the address")
    return network
