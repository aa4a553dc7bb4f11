"""The parts of a connection, which know nothing of each other, together. Room: quic. Pure."""

from __future__ import annotations

from collections import deque

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, QuicEvent

from gateway.quic.connection.congestion import congestion
from gateway.quic.connection.datagrams import Datagrams
from gateway.quic.connection.faults import PeerFault
from gateway.quic.connection.ids import PeerIds
from gateway.quic.connection.pacing import Pacer
from gateway.quic.connection.pathmtu import PathMtu
from gateway.quic.connection.paths import NOWHERE, Address, Path, Paths
from gateway.quic.connection.received import Received
from gateway.quic.connection.recovery import Recovery
from gateway.quic.connection.sending import Sending
from gateway.quic.connection.state import State
from gateway.quic.connection.streams import Streams


class Parts:
    """What lives as long as the connection does. ``elsewhere``: packets for addresses other than the one that is used."""

    __slots__ = (
        "datagrams",
        "elsewhere",
        "events",
        "is_client",
        "mtu",
        "paths",
        "peer_ids",
        "received",
        "recovery",
        "sending",
        "state",
        "streams",
    )

    def __init__(self, configuration: QuicConfiguration) -> None:
        self.is_client = bool(configuration.is_client)
        self.events: deque[QuicEvent] = deque()
        self.elsewhere: list[tuple[bytes, Address]] = []
        bytes_max = configuration.max_datagram_size
        control = congestion(configuration.congestion_control_algorithm, bytes_max)
        self.state = State(float(configuration.idle_timeout))
        # Before recovery, which is told by it how large a packet may be and tells it what became of large ones.
        self.mtu = PathMtu(bytes_max)
        self.received, self.recovery = Received(), Recovery(control, Pacer(bytes_max), self.mtu)
        self.peer_ids = PeerIds()
        self.datagrams = Datagrams(self.state, self.recovery)
        self.sending = Sending(
            bytes_max,
            state=self.state,
            datagrams=self.datagrams,
            recovery=self.recovery,
            received=self.received,
            peer_ids=self.peer_ids,
        )
        self.paths = Paths(Path(NOWHERE, is_proved=True))
        self.streams = Streams(
            is_client=self.is_client,
            window=configuration.max_stream_data,
            data_window=configuration.max_data,
            emit=self.events.append,
        )

    def close(self, code: int, frame_type: int | None, reason: str) -> bool:
        """Close the connection with the next packets. False: it is being closed already."""
        if not self.state.ask(ConnectionTerminated(code, frame_type, reason)):
            return False
        self.state.control_due = True
        return True

    def close_for(self, fault: PeerFault) -> None:
        """Close the connection with what the peer did. RFC 9000 section 11.1."""
        self.close(fault.code, fault.frame_type, fault.reason)

    def begin_end(self, state: int, now: float) -> None:
        """Closing or draining. RFC 9000 section 10.2."""
        self.state.begin_end(state, now, self.recovery.probe_timeout())

    def end(self, event: ConnectionTerminated | None = None) -> None:
        """It is over, and everybody is told. Idempotent."""
        if self.state.end(event):
            self.forget_datagrams()
            if self.state.close_event is not None:
                self.events.append(self.state.close_event)

    def forget_datagrams(self) -> None:
        """At the end: everything queued or in flight counts as lost. Idempotent."""
        self.datagrams.drop_all(self.recovery.fates)
        self.recovery.give_up_datagrams()
