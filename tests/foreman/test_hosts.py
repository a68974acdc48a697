"""One address behind each spelling, and one spelling of each name."""

from ipaddress import ip_address

import pytest

from foreman.hosts import ascii_name, forms, is_name, known, plain


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("Hooks.Example", "hooks.example"),
        ("hooks.example..", "hooks.example"),
        ("[::1]", "::1"),
        ("%6c%6F", "lo"),
        ("①②⑦。0．0｡1", "127.0.0.1"),  # noqa: RUF001 - spelled to deceive
    ],
)
def test_spelling_is_undone(host: str, expected: str) -> None:
    assert plain(host) == expected


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("10.1", "10.0.0.1"),
        ("0xa.0.1", "10.0.0.1"),
        ("012.0.0.1", "10.0.0.1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("localhost", "127.0.0.1"),
        ("any.localhost", "127.0.0.1"),
        ("localhost6", "::1"),
    ],
)
def test_some_hosts_are_an_address_without_asking(host: str, address: str) -> None:
    assert known(host) == ip_address(address)


@pytest.mark.parametrize("host", ["hooks.example", "10.0.0.256", "1.2.3.4.5", "1::2::3", "a:b", ""])
def test_other_hosts_are_not(host: str) -> None:
    assert known(host) is None


@pytest.mark.parametrize("host", ["a", "a_b.lan", "4ever.example", "xn--bcher-kva.example", "0xg"])
def test_a_name_may_be_looked_up(host: str) -> None:
    assert is_name(host)


@pytest.mark.parametrize(
    "host", ["", "-a", "a-", "a..b", "a b", "a.1", "a.0xf", "A", "bücher", "xn--a", "a" * 64, "a\n"]
)
def test_what_is_no_name_may_not(host: str) -> None:
    assert not is_name(host)


def test_a_name_in_another_script_has_a_spelling_in_ascii() -> None:
    assert ascii_name("bücher.example") == "xn--bcher-kva.example"
    assert ascii_name("a..b") == "a..b"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.0.0.1", ["10.0.0.1"]),
        ("fd00::1", ["fd00::1"]),
        ("fe80::1%eth0", ["fe80::1"]),
        ("::", ["::"]),
        ("::1", ["::1"]),
        ("::ffff:10.0.0.1", ["10.0.0.1"]),
        ("::10.0.0.1", ["::a00:1", "10.0.0.1"]),
        ("64:ff9b::10.0.0.1", ["64:ff9b::a00:1", "10.0.0.1"]),
        ("::ffff:0:10.0.0.1", ["::ffff:0:a00:1", "10.0.0.1"]),
        ("2002:a00:1::5", ["2002:a00:1::5", "10.0.0.1"]),
        ("2001:0:102:304::f5ff:fffe", ["2001:0:102:304::f5ff:fffe", "10.0.0.1"]),
    ],
)
def test_an_address_brings_along_the_one_inside_it(address: str, expected: list[str]) -> None:
    assert list(forms(ip_address(address))) == list(map(ip_address, expected))
