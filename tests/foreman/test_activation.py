"""What a process makes of the descriptor it was handed, each time in a process of its own."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from foreman.activation import address_of

TAKE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid() + int(sys.argv[2])), "LISTEN_FDS": sys.argv[3]}
from foreman import activation
from foreman.errors import ConfigError
try:
    taken = activation.inherited()
    if taken is None:
        print("none")
    else:
        print(activation.address_of(taken), os.get_inheritable(taken.fileno()))
except ConfigError as error:
    print("refused:", error)
print(sorted(name for name in os.environ if name.startswith("LISTEN_")))
"""


def taken(descriptor: int, *, pid_off_by: int = 0, count: str = "1", names: str = "web") -> str:
    """What the process says that was handed `descriptor` as its third."""
    done = subprocess.run(
        [sys.executable, "-c", TAKE, str(descriptor), str(pid_off_by), count],
        pass_fds=[descriptor],
        env=os.environ | {"LISTEN_FDNAMES": names},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    said, unset = done.stdout.splitlines()
    assert unset == "[]"
    return said


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1"])
def test_a_listening_socket_is_taken_with_its_real_address(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.bind((host, 0))
        listener.listen()
        assert taken(listener.fileno()) == f"{address_of(listener)} False"


@pytest.mark.parametrize("count", ["", "0"])
def test_where_nothing_was_handed_over_there_is_none(count: str) -> None:
    assert taken(0, count=count) == "none"


def test_what_was_meant_for_another_process_is_left_alone() -> None:
    assert taken(0, pid_off_by=1) == "none"


def test_a_socket_that_does_not_listen_is_refused() -> None:
    with socket.socket() as connected:
        said = taken(connected.fileno())
    assert said.startswith("refused: the socket that was handed over (web) does not listen")


def test_a_datagram_socket_is_refused() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        assert "is no stream" in taken(datagrams.fileno())


def test_a_unix_socket_is_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        assert "is not a TCP socket" in taken(listener.fileno(), names="")


def test_a_file_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        assert "is no socket" in taken(file.fileno())


def test_more_than_one_is_refused_with_their_names() -> None:
    assert "2 sockets were handed over (web, admin)" in taken(0, count="2", names="web:admin")
