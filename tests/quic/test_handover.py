"""From aioquic's handshake to our connection: nothing that was under way is lost, doubled or changed by it."""

from __future__ import annotations

import random
from typing import Any

import pytest
from aioquic.quic import events

from gateway.errors import ConfigError
from gateway.quic import QuicOptions
from gateway.quic.connection import Connection, seam
from tests.quic.conftest import Identity
from tests.quic.pair import End, Pair, Sink, make_pair
from tests.quic.serving import serving
from tests.quic.stock import Stock


def _streams(end: End) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for event in end.events:
        if isinstance(event, events.StreamDataReceived):
            found[event.stream_id] = found.get(event.stream_id, b"") + event.data
    return found


def _ended(end: End) -> set[int]:
    return {e.stream_id for e in end.events if isinstance(e, events.StreamDataReceived) and e.end_stream}


def _talk_at_once(pair: Pair, rng: random.Random, size: int) -> dict[End, dict[int, bytes]]:
    """Both ends write as soon as they may, in the middle of the handshake; streams both ways."""
    said: dict[End, dict[int, bytes]] = {pair.client: {}, pair.server: {}}

    def say(end: End) -> None:
        for one_way in (True, False):
            number = end.quic.get_next_available_stream_id(is_unidirectional=one_way)
            data = said[end][number] = rng.randbytes(rng.choice((1, 900, size)))
            half = len(data) // 2
            end.quic.send_stream_data(number, data[:half])
            end.quic.send_stream_data(number, data[half:], end_stream=True)

    def on_event(end: End) -> Any:
        def take(event: events.QuicEvent) -> None:
            if isinstance(event, (events.ProtocolNegotiated, events.HandshakeCompleted)):
                say(end)

        return take

    for end in said:
        end.on_event = on_event(end)
    return said


def test_a_client_has_nothing_to_say_once_the_handshake_is_confirmed(identity: Identity) -> None:
    """Its connection IDs wait for the first packet that it has a reason for: alone they would cost the server an ACK each."""
    pair = make_pair(identity)
    for number in (2, 6, 10):
        pair.client.quic.send_stream_data(number, b"said before the server's limits are known")
    pair.connect()
    pair.run_for(1)
    assert pair.client.quic.is_taken_over
    assert _streams(pair.server).keys() == {2, 6, 10}
    assert pair.client.quic.our_ids.is_due
    assert pair.server.quic.received.acks_alone == 0
    pair.client.quic.send_stream_data(14, b"x")
    pair.run_for(1)
    assert not pair.client.quic.our_ids.is_due


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("loss", [0.0, 0.1, 0.2])
@pytest.mark.parametrize(
    ("client", "server"), [(Connection, Connection), (Stock, Connection), (Connection, Stock)]
)
def test_streams_begun_in_the_handshake_arrive_whole_whatever_is_lost(
    identity: Identity, client: type, server: type, loss: float, seed: int
) -> None:
    pair = make_pair(identity, client=client, server=server, loss=loss, jitter_s=0.02, seed=seed)
    said = _talk_at_once(pair, random.Random(seed), 40_000)
    pair.run(lambda: pair.client.is_up() and pair.server.is_up(), within_s=60)
    for end, other in ((pair.client, pair.server), (pair.server, pair.client)):
        pair.run(lambda end=end, other=other: set(said[end]) <= _ended(other), within_s=60)
        came = _streams(other)
        assert {number: came[number] for number in said[end]} == said[end]
    pair.loss = 0.0
    for end in (pair.client, pair.server):
        pair.run(lambda end=end: not end.quic.has_unsent() and not end.quic.recovery.packets, within_s=60)
        assert end.terminated() is None
        if isinstance(end.quic, Connection):
            assert end.quic.is_taken_over
            assert end.quic.recovery.control.in_flight == 0
            peer = end.quic.streams.peer
            assert peer.data_used == sum(map(len, said[end].values())), "flow control counts every byte once"


def _ticket(identity: Identity) -> tuple[Any, Any, Any]:
    """A ticket, and the server's identity and tickets that it is good for."""
    tls, found = identity.server(), []
    options = QuicOptions()
    pair = Pair(
        Connection(
            configuration=identity.trust().configuration("localhost", options, None),
            session_ticket_handler=found.append,
        ),
        lambda cid: _server(tls, cid),
    )
    pair.connect()
    pair.run(lambda: bool(found))
    return found[0], tls, options


def _server(tls: Any, cid: bytes) -> Connection:
    return Connection(
        configuration=tls.configuration(QuicOptions()),
        original_destination_connection_id=cid,
        session_ticket_fetcher=tls.tickets.pop,
        session_ticket_handler=tls.tickets.add,
    )


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("loss", [0.0, 0.15])
def test_early_data_and_its_answer_go_on_over_the_hand_over(
    identity: Identity, loss: float, seed: int
) -> None:
    ticket, tls, options = _ticket(identity)
    rng = random.Random(seed)
    asked, answer = rng.randbytes(rng.choice((20, 3_000))), rng.randbytes(rng.choice((100, 30_000)))
    client = Connection(configuration=identity.trust().configuration("localhost", options, ticket))
    early: list[bool] = []
    client.send_stream_data(0, asked, end_stream=True)
    pair = Pair(client, lambda cid: _server(tls, cid), loss=loss, jitter_s=loss / 10, seed=seed)

    def serve(event: events.QuicEvent) -> None:
        if isinstance(event, events.StreamDataReceived) and event.end_stream:
            early.append(not pair.server.is_up())
            pair.server.quic.send_stream_data(0, answer, end_stream=True)

    pair.server.on_event = serve
    pair.run(lambda: 0 in _ended(pair.client), within_s=60)
    assert _streams(pair.client)[0] == answer
    assert _streams(pair.server)[0] == asked
    assert early == [True] or loss
    completed = next(e for e in pair.client.events if isinstance(e, events.HandshakeCompleted))
    assert completed.early_data_accepted
    pair.loss = 0.0
    pair.run(lambda: pair.client.quic.is_taken_over and pair.server.quic.is_taken_over, within_s=60)
    for end in (pair.client, pair.server):
        pair.run(lambda end=end: not end.quic.recovery.packets, within_s=60)
        assert end.quic.recovery.control.in_flight == 0


@pytest.mark.parametrize("seed", range(6))
def test_what_is_asked_for_before_it_comes_true_after_it(identity: Identity, seed: int) -> None:
    """A reset, a stop, a ping, datagrams and new keys, all asked for before the client's handshake is confirmed."""
    pair = make_pair(identity, loss=0.1, seed=seed)
    sink, asked = Sink(), []

    def ask(event: events.QuicEvent) -> None:
        quic = pair.client.quic
        if not isinstance(event, events.HandshakeCompleted):
            return
        quic.send_stream_data(2, bytes(5_000))
        quic.reset_stream(2, 7)
        quic.send_stream_data(0, b"answer me", end_stream=True)
        quic.stop_stream(0, 9)
        quic.send_ping(77)
        assert quic.queue_datagram(b"early", sink, 1) is None
        quic.request_key_update()
        asked.append(quic.is_taken_over)

    pair.client.on_event = ask
    pair.run(lambda: bool(sink.acked or sink.lost), within_s=60)
    assert asked == [False]
    pair.run(lambda: any(isinstance(e, events.PingAcknowledged) and e.uid == 77 for e in pair.client.events))
    pair.run(lambda: any(isinstance(e, events.StreamReset) and e.error_code == 7 for e in pair.server.events))
    pair.run(
        lambda: any(
            isinstance(e, events.StopSendingReceived) and e.error_code == 9 for e in pair.server.events
        )
    )
    pair.run(lambda: pair.server.quic.keys is not None and pair.server.quic.keys.phase == 1)
    assert _streams(pair.server)[0] == b"answer me"
    assert pair.client.terminated() is None


@pytest.mark.parametrize("seed", range(8))
def test_each_end_is_told_of_every_connection_id_and_only_as_many_as_are_kept(
    identity: Identity, seed: int
) -> None:
    pair = make_pair(identity, loss=0.2, seed=seed)
    pair.connect()
    pair.loss = 0.0
    pair.client.quic.send_ping(1)
    pair.run_for(3.0)
    for end, other in ((pair.client, pair.server), (pair.server, pair.client)):
        known = {one.cid for one in end.quic.our_ids.known}
        heard = {other.quic.peer_ids.current.cid, *(one.cid for one in other.quic.peer_ids.spare)}
        assert heard == known
        issued = {e.connection_id for e in end.events if isinstance(e, events.ConnectionIdIssued)}
        assert issued == known - {end.quic.host_cid}


def test_a_close_in_the_handshake_ends_both(identity: Identity) -> None:
    for closer in ("client", "server"):
        pair = make_pair(identity)
        pair.run(lambda pair=pair: any(isinstance(e, events.ProtocolNegotiated) for e in pair.server.events))
        getattr(pair, closer).quic.close(error_code=0x10, reason_phrase="never mind")
        pair.run(
            lambda pair=pair: pair.client.terminated() is not None and pair.server.terminated() is not None
        )


# -- the seam -------------------------------------------------------------------------------


def test_the_aioquic_that_is_installed_is_known() -> None:
    seam.check.cache_clear()
    seam.check()


@pytest.mark.parametrize("entry", seam.PRIVATE, ids=lambda entry: entry[1])
def test_a_name_that_is_gone_or_of_another_type_is_named(
    entry: tuple[str, str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, name, kind = entry
    for changed in ((owner, name + "_renamed", kind), (owner, name, frozenset)):
        monkeypatch.setattr(seam, "PRIVATE", (*seam.PRIVATE, changed))
        seam.check.cache_clear()
        with pytest.raises(ConfigError, match=changed[1]):
            seam.check()
    monkeypatch.undo()
    seam.check.cache_clear()


async def test_an_endpoint_does_not_begin_on_an_aioquic_that_it_does_not_know(
    identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seam, "PRIVATE", (*seam.PRIVATE, ("QuicConnection", "_gone", int)))
    seam.check.cache_clear()
    try:
        with pytest.raises(ConfigError, match=r"aioquic .* _gone|_gone"):
            async with serving(identity):
                pass
    finally:
        monkeypatch.undo()
        seam.check.cache_clear()
