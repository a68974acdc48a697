"""What FOREMAN_WEBHOOK_ALLOW accepts, and what it says of the rest."""

from ipaddress import ip_address

import pytest

from foreman.allow_list import parse_allow


@pytest.mark.parametrize(
    ("entry", "address", "port"),
    [
        ("127.0.0.1", "127.0.0.1", 1),
        ("127.0.0.1:9000", "127.0.0.1", 9000),
        ("127.0.0.0/8", "127.9.9.9", 9000),
        (" 127.0.0.0/8:9000 ", "127.9.9.9", 9000),
        ("::1", "::1", 9000),
        ("[::1]", "::1", 9000),
        ("[::1]:9000", "::1", 9000),
        ("fd00::/8", "fd12::1", 9000),
        ("fd00::/8:9000", "fd12::1", 9000),
        ("[fd00::/8]:9000", "fd12::1", 9000),
        ("Hooks.LAN.:9000", "10.0.0.1", 9000),
    ],
)
def test_an_entry_covers_its_addresses(entry: str, address: str, port: int) -> None:
    assert parse_allow(entry).covers("hooks.lan", port, ip_address(address))


@pytest.mark.parametrize(
    ("entry", "host", "address", "port"),
    [
        ("127.0.0.1:9000", "hooks.lan", "127.0.0.1", 9001),
        ("127.0.0.0/8", "hooks.lan", "126.255.255.255", 9000),
        ("127.0.0.0/8", "hooks.lan", "::1", 9000),
        ("hooks.lan:9000", "hooks.lan", "127.0.0.1", 80),
        ("hooks.lan:9000", "more.hooks.lan", "127.0.0.1", 9000),
    ],
)
def test_an_entry_covers_nothing_else(entry: str, host: str, address: str, port: int) -> None:
    assert not parse_allow(entry).covers(host, port, ip_address(address))


@pytest.mark.parametrize(
    ("entry", "advice"),
    [
        ("", "write an address or a range"),
        ("http://hooks.lan:9000", "write an address or a range"),
        ("hooks.lan:9000/path", "write an address or a range"),
        ("10.0.0.0/33", "write an address or a range"),
        ("10.0.0.0/8/8", "write an address or a range"),
        ("127.1:9000", "write an address or a range"),
        ("[::1", "write an address or a range"),
        ("*.lan:80", "write an address or a range"),
        ("hooks.lan", "a name needs a port, like hooks.lan:9000"),
        ("127.0.0.1:0", "from 1 to 65535"),
        ("127.0.0.1:65536", "from 1 to 65535"),
        ("10.0.0.1/8", "write 10.0.0.0/8 for the range, or 10.0.0.1 for the address"),
        ("fd00::1/8:9000", "write fd00::/8 for the range"),
        ("::ffff:10.0.0.0/104", "write IPv4 addresses as such"),
    ],
)
def test_a_bad_entry_is_refused_with_what_would_be_right(entry: str, advice: str) -> None:
    with pytest.raises(ValueError, match=advice) as refusal:
        parse_allow(entry)
    assert str(refusal.value).startswith((f"{entry}:", f"{entry.rpartition(':')[0]}:"))
