"""Transport parameters: what an end announces, and how those of aioquic become its own."""

from __future__ import annotations

from aioquic.buffer import Buffer, encode_uint_var
from aioquic.quic.packet import pull_quic_transport_parameters
from hypothesis import given
from hypothesis import strategies as st

from gateway import limits
from gateway.quic.connection.handover import replaced, says_twice
from gateway.quic.connection.seam import Handshake
from tests.quic.conftest import Identity
from tests.quic.pair import make_pair

numbers = st.integers(0, 1 << 40)
parameters = st.dictionaries(numbers, st.binary(max_size=30), max_size=12)


def _encoded(values: dict[int, bytes]) -> bytes:
    return b"".join(
        encode_uint_var(number) + encode_uint_var(len(value)) + value for number, value in values.items()
    )


@given(parameters, parameters)
def test_replaced_parameters_stand_there_once_beside_all_others(
    theirs: dict[int, bytes], ours: dict[int, bytes]
) -> None:
    data = replaced(_encoded(theirs), ours)
    assert not says_twice(data)
    assert data == _encoded({**{n: v for n, v in theirs.items() if n not in ours}, **ours})


def test_both_ends_announce_the_gateways_limits(identity: Identity) -> None:
    pair = make_pair(identity)
    for end in (pair.client, pair.server):
        handshake = end.quic._beginning.handshake
        assert isinstance(handshake, Handshake)
        data = handshake._serialize_transport_parameters()
        assert not says_twice(data)
        said = pull_quic_transport_parameters(Buffer(data=data))
        assert said.initial_max_streams_bidi == said.initial_max_streams_uni == limits.QUIC_PEER_STREAMS_MAX
        assert said.active_connection_id_limit == limits.QUIC_CONNECTION_IDS_MAX
        assert said.initial_max_data == handshake.configuration.max_data
    assert said.stateless_reset_token == pair.server.quic.our_ids.known[0].token
