"""Sockets of several processes on one UDP port: which of them a packet goes to. Room: quic.

The kernel asks a program for the number of the socket (``SO_ATTACH_REUSEPORT_CBPF``, socket(7): no privilege is needed);
ours reads the byte of the destination connection ID that names the worker (:mod:`gateway.quic.connection.minting`). Where
the kernel takes none it goes by addresses and ports, and :mod:`gateway.quic.udp.handing` makes up for it. Sources: RFC 9000
sections 17.2 and 17.3 (where the ID stands), linux/filter.h (classic BPF).
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Collection
from typing import Final, NamedTuple

from gateway.quic.connection.minting import IdLayout

SO_ATTACH_REUSEPORT_CBPF: Final = 51
LOAD_BYTE, JUMP_IF_SET, JUMP_IF_EQUAL = 0x30, 0x45, 0x15
MODULO, RETURN, RETURN_A = 0x94, 0x06, 0x16
"""Operations of classic BPF: ``A = packet[k]``, ``if A & k``, ``if A == k``, ``A %= k``, ``return k``, ``return A``."""
LONG_HEADER: Final = 0x80
HAS_OUR_ID: Final = 0x20
"""Of a long header: Handshake, in versions 1 and 2 (RFC 9000 section 17.2, RFC 9369 section 3.2). Without it: Initial, whose ID is
the client's own at first; one that has ours needs Initials no more."""
SHORT_CID_AT, LONG_CID_AT = 1, 6
"""Where the destination connection ID begins; a long header's length of it stands before."""


class FilterStep(NamedTuple):
    """One instruction: the jumps count the ones to skip."""

    code: int
    k: int
    if_true: int = 0
    if_false: int = 0


def program(
    count: int,
    alive: Collection[int],
    taking: Collection[int] | None = None,
    layout: IdLayout = IdLayout(),  # noqa: B008 (a frozen value)
) -> list[FilterStep]:
    """Which of ``count`` sockets gets a packet. Those of a worker that is not among ``alive`` go to one that is: it tells the
    peers that their connections are gone. ``taking``: who takes new connections, None: all that live; the others keep those
    that they have. A packet that is too short for an ID goes to the first socket."""
    load_long = FilterStep(LOAD_BYTE, LONG_CID_AT + layout.worker_at)
    load_short = FilterStep(LOAD_BYTE, SHORT_CID_AT + layout.worker_at)
    new: list[FilterStep] = []
    if taking is not None and not set(taking) >= set(alive):
        new = [load_long, *_by_worker(count, taking)]
    return [
        FilterStep(LOAD_BYTE, 0),
        FilterStep(JUMP_IF_SET, LONG_HEADER, 0, 2 + len(new) + bool(new)),
        *([FilterStep(JUMP_IF_SET, HAS_OUR_ID, len(new), 0), *new] if new else ()),
        load_long,
        # Both ways skip one: a long header's byte is loaded, and must not be loaded over.
        FilterStep(JUMP_IF_EQUAL, 0, 1, 1),
        load_short,
        *_by_worker(count, alive),
    ]


def _by_worker(count: int, living: Collection[int]) -> list[FilterStep]:
    """Answer by the byte: the worker's own socket, or for one that is not among ``living`` that of one who is."""
    # MODULO as the mint has it: any byte that leaves the worker's number names it (Mint.worker_of).
    steps, stand_ins = [FilterStep(MODULO, count)], sorted(living)
    for at, dead in enumerate(sorted(set(range(count)) - set(living))):
        if stand_ins:
            steps += (
                FilterStep(JUMP_IF_EQUAL, dead, 0, 1),
                FilterStep(RETURN, stand_ins[at % len(stand_ins)]),
            )
    return [*steps, FilterStep(RETURN_A, 0)]


def run(steps: list[FilterStep], packet: bytes) -> int:
    """What the kernel would answer: the same program, for who wants to know where a packet goes."""
    a = at = 0
    while True:
        step, at = steps[at], at + 1
        if step.code == LOAD_BYTE:
            # As the kernel: a load beyond the packet ends the program, and its answer is 0.
            if step.k >= len(packet):
                return 0
            a = packet[step.k]
        elif step.code == MODULO:
            a %= step.k
        elif step.code in (JUMP_IF_SET, JUMP_IF_EQUAL):
            is_true = a & step.k if step.code == JUMP_IF_SET else a == step.k
            at += step.if_true if is_true else step.if_false
        else:
            return a if step.code == RETURN_A else step.k


def attach(sock: socket.socket, steps: list[FilterStep]) -> bool:
    """Have the group of ``sock`` go by this program from now on, instead of any before. False: the kernel takes none.
    socket(7), SO_ATTACH_REUSEPORT_CBPF."""
    code = b"".join(struct.pack("=HBBI", step.code, step.if_true, step.if_false, step.k) for step in steps)
    held = ctypes.create_string_buffer(code, len(code))
    # ``struct sock_fprog``; the kernel copies the program, so ``held`` need not outlive the call.
    told = struct.pack("@HP", len(steps), ctypes.addressof(held))
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, told)
    except OSError:
        return False
    return True


def bind_group(first: socket.socket, count: int) -> list[socket.socket]:
    """``first`` and so many more on its address that they are ``count``, in the order of the program's numbers. It was bound
    with ``SO_REUSEPORT``. Raises ``OSError``."""
    sockets = [first]
    try:
        while len(sockets) < count:
            more = socket.socket(first.family, socket.SOCK_DGRAM)
            sockets.append(more)
            more.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            # The kernel numbers the sockets of a group in the order in which they were bound, and the program
            # answers by that number.
            more.bind(first.getsockname())
            more.setblocking(False)
    except OSError:
        for sock in sockets[1:]:
            sock.close()
        raise
    return sockets
