"""Transport parameters: what an end announces, and how those of aioquic become its own."""

from __future__ import annotations

from typing import Any

import pytest
from aioquic.buffer import Buffer, encode_uint_var
from aioquic.quic.packet import pull_quic_transport_parameters
from aioquic.tls import ExtensionType
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


def test_both_ends_announce_the_gateways_limits(identity: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: dict[bool, bytes] = {}
    read = Handshake.peer_parameters

    def hear(handshake: Any) -> Any:
        heard.update(
            (handshake.configuration.is_client, data)
            for kind, data in handshake.tls.received_extensions or ()
            if kind == ExtensionType.QUIC_TRANSPORT_PARAMETERS
        )
        return read(handshake)

    monkeypatch.setattr(Handshake, "peer_parameters", hear)
    pair = make_pair(identity)
    token = pair.server.quic.our_ids.known[0].token
    pair.connect()
    for to_client, data in heard.items():
        assert not says_twice(data)
        said = pull_quic_transport_parameters(Buffer(data=data))
        assert said.initial_max_streams_bidi == said.initial_max_streams_uni == limits.QUIC_PEER_STREAMS_MAX
        assert said.active_connection_id_limit == limits.QUIC_CONNECTION_IDS_MAX
        assert (
            said.initial_max_data == (pair.server if to_client else pair.client).quic.configuration.max_data
        )
        assert said.stateless_reset_token == (token if to_client else None)
    assert len(heard) == 2
