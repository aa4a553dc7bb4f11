"""What a recorded hour costs in each format of `mvgateway clip`: CPU seconds, memory, bytes. Room: bench.

``python -m bench.exports [--minutes 60] [--records 100] [--hz 20] [--film FILE] [--formats csv,parquet,mcap,gltf,sqlite] [--json]``:
a film of the demo's walkers (V-Sekai's entity packet of 100 bytes, every record in every frame) is written in one go, or taken where
``--film`` has one, and each format is made of it by the verb, in a process of its own, whose CPU seconds (user and system) and
greatest memory the kernel tells; of a tenth of the film first, then of all of it. Exit 1: one failed, or needed more memory
for the whole than for the tenth, by more than :data:`GROWTH_MIB_MAX`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path

from gateway.cli._motion import Avatars
from gateway.limits import MIB
from gateway.recordings.films import FilmWriter
from gateway.wire import Frame, Record, encode_frame
from gateway.wire.journal import JournalFrame
from gateway.wire.layouts import resolve

BEGAN_US = 1_700_000_000_000_000
LOOP_S = 30
"""Frames made beforehand, played there and back: the walkers cost more than the film."""
GROWTH_MIB_MAX = 24
"""Ten times the length needs no more than a row group, a chunk or the allocator's mood more."""
SUFFIXES = {"csv": ".csv", "parquet": ".parquet", "mcap": ".mcap", "gltf": ".glb", "sqlite": ".sqlite"}


@dataclass(frozen=True, slots=True)
class Made:
    """One file. ``cpu_s``: user and system; ``peak_mib``: of the process that made it."""

    form: str
    frames: int
    records: int
    took_s: float
    cpu_s: float
    peak_mib: float
    file_mib: float


def write_film(file: Path, records: int, hz: float, minutes: float) -> None:
    """A film of walkers, every record in every frame."""
    walkers = Avatars(records, hz=hz)
    loop = [tuple(walkers.frame(tick).items()) for tick in range(1, int(LOOP_S * hz) + 1)]
    loop += loop[-2:0:-1]
    stride = len(loop[0][0][1])
    with FilmWriter(file, world="hour", stride=stride, now_us=1, layout=resolve("avatars")) as film:
        for tick, state in zip(range(1, int(minutes * 60 * hz) + 1), cycle(loop), strict=False):
            rows = [Record(key, data) for key, data in state]
            at_us = BEGAN_US + int(tick * 1e6 / hz)
            frame = Frame(1, tick, rows, keyframe=tick == 1, sent_at=at_us, stride=stride)
            if tick == 1:
                film.begin([encode_frame(frame)], received_at_us=at_us)
            else:
                film.add(JournalFrame(0, 1, tick, at_us, at_us, False, (encode_frame(frame),)))


def make(form: str, film: Path, frames: int, records: int) -> Made:
    """The first ``frames`` of a film in that format. Raises ``RuntimeError`` where the verb fails."""
    with tempfile.TemporaryDirectory(prefix="mvgateway-exports-", dir=film.parent) as folder:
        out = Path(folder, f"hour{SUFFIXES[form]}")
        began = time.perf_counter()
        words = ["clip", str(film), "--to", str(frames), "--out", str(out), "--json"]
        child = subprocess.Popen([sys.executable, "-m", "gateway.cli", *words], stdout=subprocess.DEVNULL)
        # In place of child.wait(): the kernel's account of this one child, its peak among it.
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise RuntimeError(f"mvgateway {' '.join(words)}: exit code {child.returncode}")
        return Made(
            form,
            frames,
            frames * records,
            round(time.perf_counter() - began, 1),
            round(used.ru_utime + used.ru_stime, 1),
            round(used.ru_maxrss / 1024, 1),
            round(out.stat().st_size / MIB, 1),
        )


def main() -> int:
    """Entry. Exit 0: each was made, in memory that does not grow with the length."""
    parser = argparse.ArgumentParser(prog="python -m bench.exports", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--records", type=int, default=100, help="walkers, each a record in every frame")
    parser.add_argument("--hz", type=int, default=20)
    parser.add_argument("--film", type=Path, help="a film of this size; written where it is not there yet")
    parser.add_argument("--formats", default=",".join(SUFFIXES))
    parser.add_argument("--json", action="store_true", help="what was made as JSON on standard output")
    args = parser.parse_args()
    frames, made, wrong = int(args.minutes * 60 * args.hz), [], []
    with tempfile.TemporaryDirectory(prefix="mvgateway-exports-") as folder:
        film = args.film or Path(folder, "hour.sqlite")
        if not film.exists():
            write_film(film, args.records, args.hz, args.minutes)
        for form in args.formats.split(","):
            part, whole = (make(form, film, many, args.records) for many in (max(1, frames // 10), frames))
            made.append(whole)
            print(
                f"{form:8} {whole.records:,} records: {whole.cpu_s} s of CPU ({whole.cpu_s / whole.records * 1e6:.1f} s a million), "
                f"{whole.took_s} s, {whole.file_mib} MiB; at most {whole.peak_mib} MiB of memory, {part.peak_mib} for a tenth",
                file=sys.stderr,
                flush=True,
            )
            if whole.peak_mib - part.peak_mib > GROWTH_MIB_MAX:
                wrong.append(f"{form}: memory grows with the length")
    if args.json:
        print(json.dumps([asdict(one) for one in made]))
    for sentence in wrong:
        print(sentence, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
