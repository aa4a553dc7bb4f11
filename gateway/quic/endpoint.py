"""A UDP socket with QUIC connections on it: packets in, packets out, one timer. Room: quic.

Both sides use it: a server endpoint accepts connections, a client endpoint has the one it made.
Sending is collected: whatever marks a connection in one turn of the loop goes out in one flush.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from functools import partial

from aioquic.quic.packet import QuicHeader, pull_quic_header

from gateway.limits import QUIC_RECEIVE_BATCH_MAX, QUIC_RECEIVE_TURN_MAX, QUIC_RECEIVE_TURN_S
from gateway.quic.buffers import Buffer
from gateway.quic.connection.framing import Run
from gateway.quic.connection.ids import CID_BYTES
from gateway.quic.peer import Peer
from gateway.quic.timers import SLOTS_PER_SECOND, TimerWheel
from gateway.quic.udp import Address, UdpSocket
from gateway.quic.udp.coalesce import Watch

PTO_S_MIN = 0.025
"""No probe timeout is shorter: it includes max_ack_delay (RFC 9002 section 6.2.1)."""
TIMER_SLACK_S = 0.0005
"""A deadline so near is taken for come: half of what a timer is fine to."""


class Endpoint:
    """A :class:`gateway.quic.peer.Hub` on a socket. Plain integers in ``counters``."""

    coalesces = False
    """Whether a busy socket is read by the clock (:mod:`gateway.quic.udp.coalesce`): where many peers share it."""

    def __init__(self, udp: UdpSocket, loop: asyncio.AbstractEventLoop) -> None:
        self.counters: dict[str, int] = Counter()
        self.udp = udp
        self.loop = loop
        self.time: Callable[[], float] = time.monotonic
        """The loop's own clock, but finer than uvloop's milliseconds."""
        self.peers: set[Peer] = set()
        self._by_cid: dict[bytes, Peer] = {}
        self._cids: dict[Peer, set[bytes]] = {}
        self._packets_fast_ended = 0
        self._marked: list[Peer] = []
        self._acks: list[Peer] = []
        self._arm_due = False
        self._flush_handle: asyncio.Handle | None = None
        self._wheel = TimerWheel[Peer]()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._looks_at = 0.0
        self._now = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self.is_closed = False
        self._is_reading = False
        self._after_input: list[tuple[Peer, Callable[[], None]]] = []
        self._watch: Watch | None = None
        self._begin_reading()

    @property
    def port(self) -> int:
        return int(self.udp.address[1])

    @property
    def connections(self) -> int:
        return len(self.peers)

    def bytes_carried(self) -> dict[str, int]:
        """Bytes of UDP payloads, ``in`` and ``out``."""
        return {"in": self.udp.bytes_received, "out": self.udp.bytes_sent}

    def packets_sent(self) -> dict[str, int]:
        """Packets sent since the start: ``fast`` by connections, ``stock`` by aioquic for handshakes."""
        fast = self._packets_fast_ended + sum(peer.quic.packets_fast for peer in self.peers)
        return {"fast": fast, "stock": max(0, self.udp.datagrams_sent - fast)}

    # -- input ----------------------------------------------------------------------------

    def _begin_reading(self) -> None:
        if self.coalesces:
            self._watch = Watch(self.loop, self.udp.fileno(), self._read)
        else:
            self.loop.add_reader(self.udp.fileno(), self._on_readable)

    def _end_reading(self) -> None:
        if self._watch is not None:
            self._watch.end()
        else:
            self.loop.remove_reader(self.udp.fileno())

    def _on_readable(self) -> None:
        self._read()

    def _read(self) -> tuple[int, int]:
        """Take what is there, up to a bound. What it causes is sent a moment later, so that an application
        that answers at once answers with the acknowledgement, in one packet. A packet counts as of when the
        kernel got it: for how long it waited here is neither the path's round trip nor a queue on it. Answers of
        how many packets, and after how many of them their own peer is to get something besides an ACK."""
        by_cid, receive = self._by_cid, self.udp.receive
        # Until it is False mark() begins no flush: what hundreds of packets cause leaves in one flush behind the
        # last of them.
        self._is_reading = True
        came = answered = 0
        began = self.time()
        while True:
            batch = receive()
            now = self._now = self.time()
            for data, addr, waited in batch:
                # A short header does not say how long its connection ID is (RFC 9000 section 17.3.1): all of
                # ours have one length, so that it is cut out without parsing. The top bit is set in long
                # headers alone.
                peer = by_cid.get(data[1 : 1 + CID_BYTES]) if data and not data[0] & 0x80 else None
                if peer is not None:
                    peer.receive(data, addr, now - waited)
                    answered += peer.is_marked
                else:
                    self._on_unrouted(data, addr, now - waited)
            came += len(batch)
            # A batch that is not full has emptied the socket: asking again would cost a system call (0.8 µs,
            # docs/PERFORMANCE.md) to hear EAGAIN. The bounds hand over to the other sockets of the loop.
            if len(batch) < QUIC_RECEIVE_BATCH_MAX or came >= QUIC_RECEIVE_TURN_MAX:
                break
            if self.time() - began > QUIC_RECEIVE_TURN_S:
                break
        self._is_reading = False
        # Only now that all is read are readers offered anything: a late gateway then knows which windows are open,
        # and sends the newest of the ticks that waited. With 600 readers of 4 KB, more than a core carries, 43 µs a
        # frame and 61 % delivered in place of 145 µs and 19 % (docs/PERFORMANCE.md).
        for peer, call in self._after_input:
            try:
                call()
            except Exception:
                peer.fault("handing on what came")
        self._after_input.clear()
        # Behind those calls: who was answered by one of them is marked by now, and its ACK goes with the answer.
        if self._acks:
            self._send_acks(self.time())
        self.udp.push()
        self.counters["datagrams_received"] += came
        if self._marked:
            if self._flush_handle is None and not self.is_closed:
                # In the next turn, not here: tasks that the input woke run before it, and what they answer goes
                # in the same packets.
                self._flush_handle = self.loop.call_soon(self.flush)
        elif self._arm_due:
            self._arm()
        return came, answered

    def _on_ack(self, peer: Peer, at: float) -> None:
        """When a peer wants to acknowledge: mostly what it just got, or later than that."""
        if not self._is_reading:
            self.mark(peer)
        elif at > self._now:
            self._arm_due = self._wheel.add(peer, at) or self._arm_due
        else:
            self._acks.append(peer)

    def _send_acks(self, now: float) -> None:
        """The ACKs that are due, each in a packet of its own, but for peers that have more to send: with that."""
        acks, self._acks = self._acks, []
        for peer in acks:
            if peer.is_marked or peer.ended is not None:
                continue
            try:
                packet = peer.quic.sending.ack_alone(now)
            except Exception:
                peer.fault("acknowledging")
                packet = None
            if packet is None:
                self.mark(peer)
            elif packet:
                self.udp.send_packets([packet], peer.quic.address)

    def peer_of(self, data: bytes) -> Peer | None:
        """Whose packet this is, if anybody's here. RFC 9000 section 5.2."""
        if data and not data[0] & 0x80:
            return self._by_cid.get(data[1 : 1 + CID_BYTES])
        try:
            header = pull_quic_header(Buffer(data=data), host_cid_length=CID_BYTES)
        except ValueError:
            return None
        return self._by_cid.get(header.destination_cid)

    def _on_unrouted(self, data: bytes, addr: Address, now: float) -> None:
        """A long header, or a connection ID that is not known."""
        if not data or not data[0] & 0x80:
            self.on_unknown(data, addr, now)
            return
        try:
            header = pull_quic_header(Buffer(data=data), host_cid_length=CID_BYTES)
        except ValueError:
            self.counters["packets_malformed"] += 1
            return
        peer = self._by_cid.get(header.destination_cid)
        if peer is not None:
            peer.receive(data, addr, now)
        else:
            self.on_first_packet(header, data, addr, now)

    def on_unknown(self, data: bytes, addr: Address, now: float) -> None:
        """A short header for no connection ID of ours: to a client it may say that the server forgot it.
        RFC 9000 section 10.3."""
        self.counters["packets_unknown"] += 1
        # A copy, for a reset ends its peer, which leaves the set. A client has one peer, so this is no long search;
        # servers take no resets (on_unknown of the server's endpoint).
        for peer in tuple(self.peers):
            if peer.quic.is_stateless_reset(data):
                peer.receive(data, addr, now)

    def on_first_packet(self, header: QuicHeader, data: bytes, addr: Address, now: float) -> None:
        """A long header for no connection of ours."""
        self.counters["packets_unknown"] += 1

    # -- Hub ------------------------------------------------------------------------------

    def mark(self, peer: Peer) -> None:
        if peer.is_marked:
            return
        peer.is_marked = True
        self._marked.append(peer)
        if self._flush_handle is None and not self._is_reading and not self.is_closed:
            self._flush_handle = self.loop.call_soon(self.flush)

    def after_input(self, peer: Peer, call: Callable[[], None]) -> None:
        if self._is_reading:
            self._after_input.append((peer, call))
        else:
            call()

    def spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = self.loop.create_task(work)
        # The loop knows tasks by weak references alone: one that nobody holds may be collected before it is done
        # (asyncio.create_task, docs.python.org/3/library/asyncio-task.html).
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        if delay_s > 0:
            self.loop.call_later(delay_s, call)
        else:
            self.loop.call_soon(call)

    def add_peer(self, peer: Peer, *cids: bytes) -> None:
        """Begin to drive a connection, under these connection IDs."""
        self.peers.add(peer)
        peer.quic.listen(on_ack=partial(self._on_ack, peer))
        peer.quic.send_unfragmented(self.udp.bytes_max)
        self._idle.clear()
        self._cids[peer] = set()
        for cid in cids:
            self.on_ids(peer, cid, issued=True)

    def on_ids(self, peer: Peer, cid: bytes, *, issued: bool) -> None:
        known = self._cids.get(peer)
        if known is None:
            return
        if issued:
            known.add(cid)
            self._by_cid[cid] = peer
        else:
            known.discard(cid)
            self._by_cid.pop(cid, None)

    def on_ended(self, peer: Peer) -> None:
        if peer in self.peers:
            self._packets_fast_ended += peer.quic.packets_fast
            self.counters["connections_ended"] += 1
        for cid in self._cids.pop(peer, ()):
            self._by_cid.pop(cid, None)
        self.peers.discard(peer)
        self._wheel.remove(peer)
        if not self.peers:
            self._idle.set()

    # -- output ---------------------------------------------------------------------------

    def flush(self) -> None:
        """Send what the marked connections have to send, and see to their deadlines."""
        if self._flush_handle is not None:
            self._flush_handle.cancel()
            self._flush_handle = None
        # More than once, for sending marks peers, too: a fault closes one, what counts as lost has another answer.
        while self._marked and not self.is_closed:
            marked, self._marked = self._marked, []
            self._flush_peers(marked)
        self.udp.push()
        self._arm()

    def _flush_peers(self, marked: list[Peer]) -> None:
        """Each peer's packets into the socket's batch, and its deadline into the wheel: not at all
        where it is looked at anyhow before its next probe timeout could come. Each gets the time anew, for
        hundreds take milliseconds."""
        udp, wheel, clock = self.udp, self._wheel, self.time
        now = clock()
        soon = int(now * SLOTS_PER_SECOND)
        late = int((now + PTO_S_MIN) * SLOTS_PER_SECOND)
        for peer in marked:
            peer.is_marked = False
            if peer.ended is not None:
                continue
            quic = peer.quic
            now = clock()
            try:
                packets = quic.packets(now)
                if packets.__class__ is Run:
                    udp.send_run(packets, quic.paths.address)
                elif packets and packets.__class__ is list:
                    udp.send_packets(packets, quic.paths.address)
                if quic.calm:
                    if soon < peer.wheel_slot <= late:
                        continue
                elif quic.elsewhere:
                    udp.send(quic.elsewhere)
                    quic.elsewhere.clear()
                deadline = quic.deadline()
            except Exception:
                peer.fault("sending")
                continue
            if quic.events or quic.recovery.fates:
                peer.hand_on(now)
            if deadline is not None:
                wheel.add(peer, deadline)

    def _arm(self) -> None:
        self._arm_due = False
        deadline = self._wheel.next_deadline()
        if self.is_closed or deadline is None:
            return
        if self._timer is not None:
            # A timer that is too early is left alone: it finds nothing due and sets the next. Deadlines move with
            # nearly every packet, and a timer made and cancelled for each would cost more than one look in vain.
            if self._timer_at <= deadline:
                return
            self._timer.cancel()
        self._timer_at = deadline
        self._timer = self.loop.call_at(deadline, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        now = self._looks_at = self.time()
        # Timers of uvloop are whole milliseconds of a clock that it reads once a turn, so one may come a little
        # early: the slot it was set for counts as come, or it would be set for the same slot again and again.
        self._wheel.expire(max(now, self._wheel.next_deadline() or now), self._look)
        self.flush()

    def _look(self, peer: Peer) -> None:
        """A slot came up: at most this peer's deadline, and mostly that has moved on meanwhile."""
        if peer.ended is not None:
            return
        now = self._looks_at + TIMER_SLACK_S
        deadline = peer.quic.deadline()
        if deadline is None:
            return
        if deadline <= now:
            peer.on_timer(now)
        else:
            self._wheel.add(peer, deadline)

    def replace_socket(self, udp: UdpSocket) -> None:
        """Go on through another socket; the old one is closed."""
        self._end_reading()
        # Unwatched before it is closed: the number may be the next socket's at once, and the loop would still have
        # the old watch on it.
        self.udp.close()
        self.udp = udp
        for peer in self.peers:
            peer.quic.send_unfragmented(udp.bytes_max)
        self._begin_reading()

    # -- the end --------------------------------------------------------------------------

    async def wait_idle(self, timeout_s: float) -> bool:
        """Wait until no connection is left. False: some are, after ``timeout_s``."""
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        """Tell every peer, then stop at once. Idempotent."""
        if self.is_closed:
            return
        for peer in list(self.peers):
            # Every peer is told in one flush; only then is any of them forgotten.
            peer.close()
        self.flush()
        for peer in list(self.peers):
            peer.abort()
        self.is_closed = True
        self._end_reading()
        if self._timer is not None:
            self._timer.cancel()
        for task in list(self._tasks):
            task.cancel()
        self._wheel = TimerWheel[Peer]()
        self._timer = None
        self.udp.close()
