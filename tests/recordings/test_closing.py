"""A film that is closed while a thread still reads it, as Ctrl-C does."""

from __future__ import annotations

import threading
from pathlib import Path

import apsw
import pytest

from gateway.cli._motion import Avatars
from gateway.recordings.films import FilmWriter
from gateway.recordings.recording import FilmSource
from gateway.wire import Frame, Record, encode_frame
from tests.patience import HANG_S

ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"


def test_what_a_thread_still_reads_ends_when_the_film_is_closed(tmp_path: Path) -> None:
    """It was closed under the thread: whoever pressed Ctrl-C got a traceback of SQLite's."""
    file, began, ended = tmp_path / "a.sqlite", threading.Event(), threading.Event()
    rows = [Record(key, data) for key, data in Avatars(2).frame(1).items()]
    with FilmWriter(file, world="arena", stride=100, now_us=1) as film:
        film.begin([encode_frame(Frame(1, 1, rows, keyframe=True))], received_at_us=1_700_000_000_000_000)
    source = FilmSource(file)

    def count(connection: apsw.Connection) -> None:
        began.set()
        connection.execute(ENDLESS).fetchall()

    def read() -> None:
        try:
            source.read(count)
        except apsw.InterruptError:
            ended.set()

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    assert began.wait(HANG_S)
    source.close()
    assert ended.wait(HANG_S)
    thread.join()
    with pytest.raises(apsw.InterruptError):
        source.read(count)
