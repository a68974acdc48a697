"""`confined.py CALLS COMMAND...`: becomes COMMAND under what the unit's sandbox does with seccomp.

CALLS is a file with the names of the system calls that are allowed; any other kills the process,
where systemd would answer EPERM: a test is to notice it. As systemd does it, by its library.
"""

import ctypes
import errno
import os
import socket
import sys
from collections.abc import Iterable
from pathlib import Path

KILL, ALLOW = 0x80000000, 0x7FFF0000
PR_SET_NO_NEW_PRIVS = 38
PROT_WRITE, PROT_EXEC = 2, 4
EQUAL, MASKED_EQUAL = 4, 7
FORBIDDEN_FAMILIES = (socket.AF_NETLINK, socket.AF_PACKET)


class Comparison(ctypes.Structure):
    """struct scmp_arg_cmp."""

    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    )


class Filter:
    """A seccomp filter: `default` for what has no rule."""

    def __init__(self, default: int) -> None:
        self._library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
        self._library.seccomp_init.restype = ctypes.c_void_p
        self._context = ctypes.c_void_p(self._library.seccomp_init(ctypes.c_uint32(default)))

    def add(self, action: int, call: str, *comparisons: Comparison) -> None:
        """A rule for a call by name; names that this machine does not have are passed over."""
        number = self._library.seccomp_syscall_resolve_name(call.encode())
        if number < 0:
            return
        array = (Comparison * len(comparisons))(*comparisons)
        done = self._library.seccomp_rule_add_array(
            self._context, ctypes.c_uint32(action), number, len(comparisons), array
        )
        assert done == 0, (call, done)

    def load(self) -> None:
        done = self._library.seccomp_load(self._context)
        assert done == 0, done


def refused(error: int) -> int:
    """The action that makes a call fail with this error."""
    return 0x00050000 | error


def confine(calls: Iterable[str]) -> None:
    """MemoryDenyWriteExecute=, RestrictAddressFamilies= and SystemCallFilter=, in this order."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    assert prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    arguments = Filter(ALLOW)
    both = PROT_WRITE | PROT_EXEC
    arguments.add(refused(errno.EPERM), "mmap", Comparison(2, MASKED_EQUAL, both, both))
    for call in ("mprotect", "pkey_mprotect"):
        compared = Comparison(2, MASKED_EQUAL, PROT_EXEC, PROT_EXEC)
        arguments.add(refused(errno.EPERM), call, compared)
    for family in FORBIDDEN_FAMILIES:
        compared = Comparison(0, EQUAL, family, 0)
        arguments.add(refused(errno.EAFNOSUPPORT), "socket", compared)
    arguments.load()
    names = Filter(KILL)
    for call in calls:
        names.add(ALLOW, call)
    if os.geteuid() == 0:  # SQLite gives a new log the owner of its database, which root alone can
        names.add(ALLOW, "fchown")
    names.load()


def main() -> None:
    file, *command = sys.argv[1:]
    confine(Path(file).read_text(encoding="utf-8").split())
    os.execv(command[0], command)  # noqa: S606  this process becomes it


if __name__ == "__main__":
    main()
