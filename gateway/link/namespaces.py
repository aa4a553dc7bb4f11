"""Two network namespaces and a TUN device in each, by system calls alone: no command, no name, nothing left behind.

Room: link. The kernel's own TCP and UDP run on top; whoever reads the devices (:mod:`gateway.link.carrier`) is the link. A process
that is not root makes a user namespace with them, where the system lets it. Sources: unshare(2), setns(2), tun(4)
(Documentation/networking/tuntap.rst), netdevice(7), user_namespaces(7).
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import struct

NEAR_ADDRESS, FAR_ADDRESS = "10.77.0.1", "10.77.1.1"
"""Of the two ends: as in benchmarks, where the carrier finds a host by the third number."""
CLONE_NEWUSER, CLONE_NEWNET = 0x1000_0000, 0x4000_0000
TUNSETIFF = 0x4004_54CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
IFF_UP, IFF_RUNNING, IFF_POINTOPOINT = 0x1, 0x40, 0x10
PR_SET_PDEATHSIG = 1
SIOCSIFFLAGS, SIOCSIFADDR, SIOCSIFDSTADDR = 0x8914, 0x8916, 0x8918


class LinkRefused(Exception):
    """The system makes no namespaces for this process; the message is what it said."""


def open_tun(name: str) -> tuple[int, str]:
    """A TUN device in this namespace: its file descriptor, and its name (``%d`` in ``name`` becomes a free number).
    Raises ``OSError``."""
    import fcntl

    fd = os.open("/dev/net/tun", os.O_RDWR)
    try:
        made = fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH14x", name.encode(), IFF_TUN | IFF_NO_PI))
    except OSError:
        os.close(fd)
        raise
    return fd, made[:16].rstrip(b"\0").decode()


def enter(fd: int) -> None:
    """Bring the calling thread into the network namespace that ``fd`` is open on. Raises ``OSError``."""
    _call("setns", fd, CLONE_NEWNET)


def leave_the_network() -> None:
    """A network namespace of this process's own, without root in a user namespace of its own, too.
    The process has one thread. Raises ``OSError``."""
    try:
        _call("unshare", CLONE_NEWNET)
    except PermissionError:
        uid, gid = os.getuid(), os.getgid()
        _call("unshare", CLONE_NEWUSER | CLONE_NEWNET)
        # setgroups first: without root gid_map may be written only once that is denied
        # (user_namespaces(7)).
        for name, line in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(line)


def end_with_parent() -> None:
    """Have this process told to end (SIGTERM) when the one that made it ends, however that comes about.
    Raises :class:`LinkRefused` where no system call does that (elsewhere than on Linux)."""
    try:
        _call("prctl", PR_SET_PDEATHSIG, signal.SIGTERM)
    except (OSError, AttributeError) as error:
        raise LinkRefused(str(error)) from error


class TwoNamespaces:
    """This process in a namespace with :data:`NEAR_ADDRESS`, and beside it one with :data:`FAR_ADDRESS`.

    ``tuns``: both devices, near and far; ``far``: what :func:`enter` takes. All of it ends with the processes in it.
    """

    def __init__(self) -> None:
        try:
            leave_the_network()
            # Held open, since unshare() below leaves it: it is the way back.
            near = os.open("/proc/self/ns/net", os.O_RDONLY)
            tuns = [_end(NEAR_ADDRESS, FAR_ADDRESS)]
            _call("unshare", CLONE_NEWNET)
            tuns.append(_end(FAR_ADDRESS, NEAR_ADDRESS))
            self.far = os.open("/proc/self/ns/net", os.O_RDONLY)
            enter(near)
            os.close(near)
        except (OSError, AttributeError, ImportError) as error:
            raise LinkRefused(str(error)) from error
        self.tuns = tuns


def _end(address: str, peer: str) -> int:
    """The loopback and a device with these addresses in the namespace that we are in."""
    import fcntl

    fd, name = open_tun("mvg%d")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for request, value in (
            (SIOCSIFADDR, _address(name, address)),
            (SIOCSIFDSTADDR, _address(name, peer)),
            (SIOCSIFFLAGS, _flags(name, IFF_UP | IFF_RUNNING | IFF_POINTOPOINT)),
            (SIOCSIFFLAGS, _flags("lo", IFF_UP | IFF_RUNNING)),
        ):
            fcntl.ioctl(asked, request, value)
    return fd


def _address(name: str, address: str) -> bytes:
    """``struct ifreq`` with an address of IPv4."""
    return struct.pack("16sHxx4s16x", name.encode(), socket.AF_INET, socket.inet_aton(address))


def _flags(name: str, flags: int) -> bytes:
    """``struct ifreq`` with flags."""
    return struct.pack("16sH22x", name.encode(), flags)


def _call(name: str, *numbers: int) -> None:
    # By ctypes: os.unshare() and os.setns() came with Python 3.12.
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*numbers):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
