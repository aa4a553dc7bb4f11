"""A server admits so many connections in all, of one address and a second, and says which bound it met."""

from __future__ import annotations

import time

import pytest

from gateway.errors import GatewayError
from tests.quic.conftest import Identity
from tests.quic.serving import serving, until


@pytest.mark.parametrize("retry", [False, True])
@pytest.mark.parametrize(
    ("bound", "options"),
    [
        ("quic_connections_max", {"connections_max": 2}),
        ("connections_per_address_max", {"connections_per_address_max": 2}),
    ],
)
async def test_at_the_bound_connects_and_one_over_is_refused_by_name_until_one_leaves(
    identity: Identity, bound: str, options: dict[str, int], retry: bool
) -> None:
    async with serving(identity, retry=retry, **options) as served:
        first, _ = await served.connect(), await served.connect()
        with pytest.raises(GatewayError, match=bound):
            await served.connect()
        assert served.endpoint.refused[bound] >= 1
        first.close()
        await until(lambda: len(served.endpoint.peers) == 1)
        await served.connect()


async def test_one_address_opens_so_many_connections_a_second_and_no_more(identity: Identity) -> None:
    async with serving(identity, handshakes_per_address_per_s=1) as served:
        let_in = 0

        async def connect_until_refused() -> None:
            nonlocal let_in
            while let_in < 200:
                (await served.connect()).close()
                let_in += 1

        began = time.monotonic()
        with pytest.raises(GatewayError, match="handshakes_per_address_per_s"):
            await connect_until_refused()
        passed_s = time.monotonic() - began
        # ten seconds' worth of an address that has proved nothing, then of one that has; and what time earns meanwhile
        assert 20 <= let_in <= 20 + 2 * (passed_s + 1)
        assert served.endpoint.counters["retries"] >= 10
        assert set(served.endpoint.refused) == {"handshakes_per_address_per_s"}
