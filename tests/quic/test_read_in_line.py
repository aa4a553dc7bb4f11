"""Packets that are read in line: what comes out of them is what comes out of all others, and when none may be."""

from __future__ import annotations

import itertools

import pytest

from gateway.quic.connection import Connection
from tests.quic.conftest import Identity
from tests.quic.pair import CLIENT, Pair, Sink, make_pair

FORMS = {"in line": b"", "padded": b"\0", "with a ping": b"\x01"}
_numbers = itertools.count()


def _opened(identity: Identity) -> Pair:
    pair = make_pair(identity)
    pair.connect()
    pair.run_for(1.0)
    return pair


def _passes(pair: Pair) -> bool:
    """Whether a datagram gets through both ways, for a while: as long as keys of before may still be used."""
    contents = [b"datagram %d" % next(_numbers) for _ in range(8)]
    for content in contents:
        for end in (pair.client, pair.server):
            end.quic.queue_datagram(content, Sink(), 0)
        pair.run_for(0.1)
    return all(end.datagrams()[-8:] == contents for end in (pair.client, pair.server))


@pytest.mark.parametrize("form", FORMS)
def test_who_listens_gets_each_content_and_events_none(identity: Identity, form: str) -> None:
    pair, heard = _opened(identity), list[bytes]()
    pair.server.quic.listen(on_payload=heard.append)
    pair.server.quic.listen(on_ack=lambda at: None)
    assert pair.server.quic.reads_in_line
    content = b"heard"
    frames = FORMS[form] + b"\x31" + (0x4000 | len(content)).to_bytes(2, "big") + content
    quic: Connection = pair.client.quic
    number = quic.sending.number
    packet = quic.sending.seal(frames, quic.peer_ids.cid)
    assert quic.sending.number == number + 1
    pair.give(pair.server.quic, packet, CLIENT)
    pair.pump()
    assert heard == [content]
    assert pair.server.datagrams() == []


@pytest.mark.parametrize("how", ["asked for", "when its keys have served"])
def test_none_is_read_in_line_between_two_keys_and_all_are_after_it(identity: Identity, how: str) -> None:
    """RFC 9001 sections 6.1 and 6.5: while packets under the old keys may still come, each is looked at for whose it is."""
    pair = _opened(identity)
    quic: Connection = pair.client.quic
    assert _passes(pair)
    assert quic.reads_in_line
    if how == "asked for":
        quic.request_key_update()
    else:
        quic.sending.renew_at = quic.sending.number
        quic.send_ping(1)
        pair.pump()
    assert not quic.reads_in_line
    assert _passes(pair)
    assert quic.reads_in_line
    assert pair.server.quic.reads_in_line
    assert _passes(pair)


def test_none_is_read_in_line_from_a_new_address_until_it_is_proved(identity: Identity) -> None:
    """RFC 9000 section 9.3."""
    pair = _opened(identity)
    moved = (CLIENT[0], CLIENT[1] + 1)
    pair.client.addr = moved
    del pair.ends[CLIENT]
    pair.ends[moved] = pair.client
    quic: Connection = pair.client.quic
    pair.give(pair.server.quic, quic.sending.seal(b"\x01\0\0\0", quic.peer_ids.cid), moved)
    assert not pair.server.quic.reads_in_line
    pair.pump()
    assert _passes(pair)
    assert pair.server.quic.reads_in_line
    assert pair.server.quic.address == moved
    assert _passes(pair)
