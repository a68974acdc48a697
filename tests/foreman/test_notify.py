import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from foreman.notify import NOBODY, Notifier, from_environment


@pytest.fixture(params=["path", "abstract"])
def listening(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[str, socket.socket]]:
    """The value of NOTIFY_SOCKET, and the socket it stands for."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        if request.param == "path":
            named = str(tmp_path / "notify")
            receiver.bind(named)
        else:
            named = f"@foreman-test-{os.getpid()}"
            receiver.bind("\0" + named[1:])
        receiver.setblocking(False)
        yield named, receiver


def test_each_message_is_one_datagram(listening: tuple[str, socket.socket]) -> None:
    named, receiver = listening
    notifier = from_environment({"NOTIFY_SOCKET": named})
    notifier.ready("serving on http://127.0.0.1:8080")
    notifier.alive()
    notifier.stopping("stopping")
    assert [receiver.recv(1000) for _ in range(3)] == [
        b"READY=1\nSTATUS=serving on http://127.0.0.1:8080",
        b"WATCHDOG=1",
        b"STOPPING=1\nSTATUS=stopping",
    ]


def test_the_variables_are_for_nobody_else() -> None:
    environ = {
        "NOTIFY_SOCKET": "/run/systemd/notify",
        "WATCHDOG_USEC": "30000000",
        "WATCHDOG_PID": str(os.getpid()),
        "PATH": "/bin",
    }
    assert from_environment(environ) == Notifier("/run/systemd/notify", 30.0)
    assert environ == {"PATH": "/bin"}


@pytest.mark.parametrize("period", ["", "0", "-5", "soon", "²"])
def test_without_a_period_there_is_no_watchdog(period: str) -> None:
    found = from_environment({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": period})
    assert found == Notifier("/run/x")


def test_a_watchdog_that_is_meant_for_another_process_is_not_fed_by_this_one() -> None:
    environ = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "5000000", "WATCHDOG_PID": "1"}
    assert from_environment(environ).watchdog is None


@pytest.mark.parametrize("named", ["", "vsock:2:1234", "relative"])
def test_where_nobody_listens_nothing_is_said(named: str) -> None:
    notifier = from_environment({"NOTIFY_SOCKET": named, "WATCHDOG_USEC": "5000000"})
    assert notifier == NOBODY
    notifier.ready("serving")


def test_a_service_manager_that_is_gone_stops_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Notifier(str(tmp_path / "gone")).ready("serving")
    assert "READY=1" in caplog.text
