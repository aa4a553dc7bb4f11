"""The Chromium of :mod:`bench.devtools` as tests want it: skipped where there is none, and in any network namespace."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from bench import devtools
from bench.devtools import PROGRAMS
from bench.devtools import Page as Page
from tests.e2e.elsewhere import connected
from tests.patience import FOREIGN_S


def program(what: str, *names: str) -> str:
    """The first of these programs that is there; skips the test where none is, and fails it where CI says that one must be."""
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        why = f"no {what} here: its side of WebTransport is not tried (tests/system-deps.sh installs it)"
        if os.environ.get("CI") == "true":
            pytest.fail(why)
        pytest.skip(why)
    return found


def chromium() -> str:
    """Its path, as :func:`program` finds it."""
    return program("Chromium", *PROGRAMS)


def words_in(namespace: str | None) -> list[str]:
    """What a command begins with there."""
    return [] if namespace is None else ["ip", "netns", "exec", namespace]


class Browser(devtools.Browser):
    """One browser with an empty profile, in this or another network namespace. An async context manager."""

    def __init__(self, profile: Path, *flags: str, namespace: str | None = None) -> None:
        super().__init__(
            profile,
            *flags,
            words=words_in(namespace),
            connected=lambda port: connected(namespace, port),
            patience_s=FOREIGN_S,
        )

    def program(self) -> str:
        return chromium()
