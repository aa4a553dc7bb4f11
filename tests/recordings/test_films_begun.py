"""A film that cannot be begun leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from gateway.recordings.exports.whole import FilmFailed
from gateway.recordings.films import FilmWriter
from gateway.store.world import schema


def test_a_film_that_cannot_be_begun_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(connection: apsw.Connection, info: object) -> None:
        connection.execute("CREATE TABLE t(x)")
        raise apsw.FullError("database or disk is full")

    monkeypatch.setattr(schema, "create", full)
    with (
        pytest.raises(FilmFailed, match="was not written"),
        FilmWriter(tmp_path / "film.sqlite", world="w", stride=0, now_us=1),
    ):
        raise AssertionError("not entered")
    assert list(tmp_path.iterdir()) == []
