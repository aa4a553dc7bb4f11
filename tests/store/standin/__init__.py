"""A stand-in for the real mvstore (0.3.22 over FoundationDB), which can't run in CI.

It keeps pages in the embedded engine, and behaves as the real one does wherever that is harsher:
names are cached, marks stand above heads, only the last commit's retry is known, errors are 500 or
empty, transactions have bounds, and a commit takes its time. ``docs/STORE.md`` ("What the real
mvstore does otherwise") lists what our engine is kinder about; ``test_standin.py`` holds each line.

* in a test's own loop: ``async with serving(folder, Knobs(...)) as served:`` has ``.url``,
  ``.admin_url`` and the store itself as ``.standin``;
* as a process that can be killed: ``with Process(folder, "--commit-ms", "3:12") as store:``, or
  ``python -m tests.store.standin --path DIR``.

Both listen in clear text, HTTP/1.1 and h2c.
"""

from tests.store.standin.names import Clock
from tests.store.standin.process import Process
from tests.store.standin.rules import Knobs, StandIn
from tests.store.standin.server import Served, serving

__all__ = ["Clock", "Knobs", "Process", "Served", "StandIn", "serving"]
