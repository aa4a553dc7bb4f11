"""Both lanes together are all tests, each once."""

from __future__ import annotations

from tests.lanes import HERE, lanes


def test_every_test_runs_in_one_lane() -> None:
    foreign, own = lanes()
    listed = [HERE.parent / path for path in (*foreign, *own)]
    found = [file for file in HERE.rglob("test_*.py") if "__pycache__" not in file.parts]
    assert len(found) > 250
    for file in found:
        assert sum(file == path or path in file.parents for path in listed) == 1, file


def test_what_looks_at_time_comes_last() -> None:
    foreign, own = lanes()
    assert own[-1] == "tests/abuse"
    assert "tests/interop" in foreign
