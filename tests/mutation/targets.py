"""Which fast tests hold which modules, and which mutants change nothing that anybody could see."""

from __future__ import annotations

import re

_CORE = tuple(
    f"tests/core/test_{name}.py"
    for name in [
        "journal",
        "world",
        "reader",
        "reader_parts",
        "state",
        "keyframes",
        "bundle",
        "slots",
        "queueing",
        "seat",
        "lease",
        "grants",
        "options",
        "admission",
        "origins",
        "capacity",
        "steady",
        *("delay", "inbox", "pings", "refusals", "rows", "states"),
    ]
)
TARGETS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("gateway/wire/variant/", ("tests/wire/test_variant_golden.py", "tests/wire/test_variant_properties.py")),
    ("gateway/wire/mvstore", ("tests/wire/test_mvstore.py",)),
    ("gateway/wire/framec", ("tests/wire/test_framecodec.py", "tests/store/test_world_history.py")),
    ("gateway/wire/entities/", ()),
    (
        "gateway/wire/",
        (
            *(f"tests/wire/test_frames{of}.py" for of in ("", "_streams", "_inflate")),
            "tests/core/test_journal.py",
            "tests/core/test_reader_parts.py",
        ),
    ),
    ("gateway/core/ports.py", ()),
    ("gateway/core/replay.py", ()),
    ("gateway/core/", _CORE),
    ("gateway/store/cache", ("tests/store/test_cache.py",)),
    (
        "gateway/store/embedded/",
        tuple(f"tests/store/test_{name}.py" for name in ("embedded", "embedded_upkeep", "model_store")),
    ),
    (
        "gateway/store/world/",
        tuple(
            f"tests/store/test_{name}.py"
            for name in ["home", "world_store", "world_history", "world_past", "world_together", "naming"]
        ),
    ),
    ("gateway/store/pages.py", ("tests/store/test_vfs.py", "tests/store/test_vfs_embedded.py")),
    ("gateway/store/database.py", ("tests/store/test_vfs.py", "tests/store/test_vfs_embedded.py")),
    ("gateway/store/vfs.py", ("tests/store/test_vfs.py", "tests/store/test_vfs_embedded.py")),
)
"""The first that a path begins with counts; what has no tests here is not mutated."""

EQUIVALENT: dict[str, str] = {
    "gateway/store/pages.py: return False -> return None": "whoever asks takes both for no",
    "gateway/store/pages.py: self._forget(None) -> pass": "the head is asked for anew, which forgets everything again",
}
"""Mutants that were looked at, by their names without the line, and why nobody could tell."""


def is_equivalent(name: str) -> bool:
    """Whether a mutant, by its name with a line, is among them."""
    return re.sub(r":\d+: ", ": ", name, count=1) in EQUIVALENT


def tests_of(path: str) -> tuple[str, ...]:
    """The tests that should notice a change of this module: those of its own name first, since the run ends with the
    first that fails."""
    tests = next((tests for prefix, tests in TARGETS if path.startswith(prefix)), ())
    own = f"test_{path.rpartition('/')[2]}"
    return tuple(sorted(tests, key=lambda test: not test.endswith(own)))
