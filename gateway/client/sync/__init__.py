"""The client without ``await``, for programs that have no event loop. Room: client.

    from gateway.client.sync import Publisher, Subscriber

    with Publisher(url, "arena", ca="certs/ca.pem") as pub:
        pub.send({1: b"newest bytes of record 1"})

One thread underneath serves all of them; each may be used from any thread. Arguments, answers and errors are those of
:mod:`gateway.client`; callbacks in the arguments run in the thread underneath, and may not call a face.
"""

from __future__ import annotations

from gateway.client.fetch import FetchedState
from gateway.client.sync.ends import Entities, Publisher, Recordings, Subscriber, fetch_last

__all__ = ["Entities", "FetchedState", "Publisher", "Recordings", "Subscriber", "fetch_last"]
