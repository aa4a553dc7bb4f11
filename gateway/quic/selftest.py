"""Is the fast path fit for use here? Tried once a process, in memory, before it is used. Room: quic.

aioquic's internals are not a promise, so the version must be one that the fast path was written
for, and a handshake with a hundred datagrams each way over a lossy link must come out right.
"""

from __future__ import annotations

import datetime
import random
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata

from aioquic.quic import events
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from gateway.core.bundle import Burst
from gateway.quic.connection.base import Connection, FateSink
from gateway.quic.connection.fast import SUPPORTED_AIOQUIC, FastConnection
from gateway.quic.connection.framing import Framing, Run
from gateway.quic.options import QuicOptions, QuicPath
from gateway.quic.tls import ServerTls, Trust

DATAGRAMS = 100
STEPS_MAX = 20_000
LOSS = 0.05


@cache
def usable_path(wanted: QuicPath) -> tuple[QuicPath, str]:
    """The path to use, and why it is not the wanted one (empty if it is)."""
    if wanted == "stock":
        return "stock", ""
    version = metadata.version("aioquic")
    if version not in SUPPORTED_AIOQUIC:
        known = ", ".join(sorted(SUPPORTED_AIOQUIC))
        return "stock", f"aioquic {version} is installed, the fast path knows {known}"
    try:
        failure = self_test()
    except Exception as exc:
        failure = f"{type(exc).__name__}: {exc}"
    return ("stock", f"the self-test of the fast path failed: {failure}") if failure else ("fast", "")


def connection_class(path: QuicPath) -> type[Connection]:
    """The class of connections on a path that :func:`usable_path` answered."""
    return FastConnection if path == "fast" else Connection


@dataclass
class _End(FateSink):
    quic: FastConnection
    address: tuple[str, int]
    got: set[bytes] = field(default_factory=set)
    acked: set[int] = field(default_factory=set)
    ended: int = 0
    sent: int = 0
    is_up: bool = False

    def on_fate(self, token: int, acked: bool) -> None:
        self.ended += 1
        if acked:
            self.acked.add(token)


def self_test(seed: int = 7) -> str:
    """Two fast ends over a simulated lossy link. Answers what went wrong; empty: nothing."""
    rng = random.Random(seed)
    ends = _make_ends()
    now = 1_000.0
    for _ in range(STEPS_MAX):
        now += 0.002
        for end, other in (ends, ends[::-1]):
            _step(end, other, now, rng)
        if all(end.ended == DATAGRAMS for end in ends):
            return _verdict(ends)
    return "datagrams were neither acknowledged nor lost: " + ", ".join(str(end.ended) for end in ends)


def _step(end: _End, other: _End, now: float, rng: random.Random) -> None:
    quic = end.quic
    timer = quic.get_timer()
    if timer is not None and timer <= now:
        quic.handle_timer(now)
    while (event := quic.next_event()) is not None:
        if isinstance(event, events.HandshakeCompleted):
            end.is_up = True
        elif isinstance(event, events.DatagramFrameReceived):
            end.got.add(event.data)
        elif isinstance(event, events.ConnectionTerminated):
            raise ConnectionError(event.reason_phrase)
    if end.is_up and other.is_up and end.sent < DATAGRAMS and quic.room_bytes() > 2_000:
        _send(end, min(rng.randrange(1, 4), DATAGRAMS - end.sent), rng.randrange(1, 200))
    for sink, token, acked in quic.take_fates():
        sink.on_fate(token, acked)
    if not quic._network_paths:
        return
    packets = quic.fast_packets(now)
    if packets is None:
        packets = [data for data, _ in quic.datagrams_to_send(now)]
    for packet in packets.split() if isinstance(packets, Run) else packets:
        if rng.random() >= LOSS:
            _receive(other.quic, packet, end.address, now)


def _send(end: _End, count: int, repeats: int) -> None:
    """So many datagrams, together where they are taken so."""
    quic = end.quic
    messages = [b"%d-" % (end.sent + n) * repeats for n in range(count)]
    burst = Burst([(message, ()) for message in messages])
    framing = Framing(burst, b"", quic.content_bytes_max)
    if not quic.content_bytes_max or not quic.offer_burst(framing, end, end.sent):
        for n, message in enumerate(messages):
            quic.queue_datagram(message, end, end.sent + n)
    end.sent += count


def _receive(quic: FastConnection, packet: bytes, address: tuple[str, int], now: float) -> None:
    if not quic.receive_short(packet, address, now):
        quic.receive_datagram(packet, address, now)


def _verdict(ends: tuple[_End, _End]) -> str:
    for end, other in (ends, ends[::-1]):
        arrived = {int(data.split(b"-", 1)[0]) for data in other.got}
        if not end.acked <= arrived:
            return "a datagram counted as acknowledged did not arrive"
        if len(end.acked) < DATAGRAMS // 2:
            return f"only {len(end.acked)} of {DATAGRAMS} datagrams were acknowledged"
        if end.quic.packets_fast < DATAGRAMS // 4:
            return f"only {end.quic.packets_fast} packets went the short way"
        if end.quic._loss.bytes_in_flight < 0:
            return "the congestion window lost count"
    return ""


def _make_ends() -> tuple[_End, _End]:
    cert_pem, key_pem = throwaway_certificate()
    options = QuicOptions()
    client = FastConnection(configuration=Trust(insecure=True).configuration("localhost", options, None))
    server = FastConnection(
        configuration=ServerTls(cert_pem, key_pem).configuration(options),
        original_destination_connection_id=client.original_destination_connection_id,
    )
    ends = _End(client, ("client", 1)), _End(server, ("server", 2))
    for end in ends:
        end.quic.on_payload = end.got.add
    client.connect(ends[1].address, now=1_000.0)
    return ends


def throwaway_certificate() -> tuple[bytes, bytes]:
    """A self-signed P-256 certificate and its key, in PEM, for an hour."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now).not_valid_after(now + datetime.timedelta(hours=1))
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM), pem
