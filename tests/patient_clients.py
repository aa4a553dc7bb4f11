"""Clients that wait as long as the tests do: a person who waits gives up sooner than a machine that stands still comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from gateway import limits, quic
from gateway.client.live import Live
from tests.patience import HANG_S

_DEFAULTS: tuple[tuple[Callable[..., Any], str], ...] = (
    (Live.__init__, "connect_timeout_s"),
    (quic.connect, "timeout_s"),
    (websockets.connect.__init__, "open_timeout"),
    *((kind.__init__, "timeout") for kind in (httpx.AsyncClient, httpx.Client)),
    *((getattr(httpx, verb), "timeout") for verb in ("get", "post", "put", "patch", "delete", "request")),
)
"""Patience that clients have unless they are told otherwise: a second to ten, fit for a person who waits."""


@pytest.fixture(scope="session", autouse=True)
def patient_clients() -> Iterator[None]:
    """Clients to whom a test says nothing about time wait as long as the test."""
    with pytest.MonkeyPatch.context() as patch:
        for function, name in _DEFAULTS:
            defaults: dict[str, Any] = function.__kwdefaults__
            assert name in defaults, f"{function.__qualname__} has no default of {name}"
            patch.setitem(defaults, name, HANG_S)
        yield


@pytest.fixture(autouse=True)
def patient_connects(request: pytest.FixtureRequest) -> Iterator[None]:
    """The same within our client, but for the tests of the house itself, which look at what its bounds are."""
    with pytest.MonkeyPatch.context() as patch:
        if request.path.parent != Path(__file__).parent:
            patch.setattr(limits, "CLIENT_CONNECT_S_MAX", HANG_S)
        yield
