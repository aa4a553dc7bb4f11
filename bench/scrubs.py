"""How soon the film room's picture follows a scrub: random places of a long film, in a real Chromium. Room: bench.

``python -m bench.scrubs [--seconds 600] [--records 1800] [--hz 20] [--scrubs 50] [--seed 1] [--json]``: the film is written in one go
(ten minutes of it in about two), ``mvgateway film`` shows it, and the time line is asked for one random moment after the other, each when
the picture of the one before is there. Told is the time from the wish to the first picture that shows that moment, and the machine's
load: on one that is shared it is the middle that counts. Asked: 100 ms at the 95th percentile. Exit 1: missed, or another moment shown.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.devtools import Browser, Page, PageError
from gateway.cli._motion import Avatars
from gateway.recordings.films import FilmWriter
from gateway.wire import Frame, Record, encode_frame
from gateway.wire.journal import JournalFrame
from gateway.wire.layouts import resolve

ASKED_MS = 100.0
LOOP = 120
"""Frames made beforehand, played there and back."""
BEGAN_US = 1_700_000_000_000_000
FLAGS = ("--window-size=1600,1000",)
SCRUB = """(us => new Promise((done, failed) => {
  const began = performance.now(), draw = stage.draw, pictures = [];
  let answer = null;
  const late = setTimeout(() => { stage.draw = draw; failed(new Error("no picture came")); }, 60000);
  const look = () => {
    const first = answer && pictures.find(picture => picture.epoch === answer.epoch && picture.tick === answer.tick && picture.size === film().state.size);
    if (!first) return;
    stage.draw = draw;
    clearTimeout(late);
    window.onanswer = null;
    done([first.at - began, answer.came - began, answer.at_us, first.size]);
  };
  window.onanswer = place => { answer ??= { ...place, came: performance.now() }; look(); };
  if (!window.answers) { window.answers = true; film().on("position", place => window.onanswer?.(place)); }
  stage.draw = function (now) {
    draw.call(stage, now);
    const { epoch, tick, size } = film().state;
    pictures.push({ epoch, tick, size, at: performance.now() });
    look();
  };
  line.onseek(us);
}))"""


def write_film(file: Path, records: int, hz: float, seconds: float) -> None:
    """A film of walkers, every record in every frame."""
    walkers = Avatars(records, hz=hz)
    made = [[Record(key, data) for key, data in walkers.frame(tick).items()] for tick in range(2, LOOP + 2)]
    made += made[-2:0:-1]
    with FilmWriter(file, world="arena", stride=100, now_us=BEGAN_US, layout=resolve("avatars")) as film:
        film.begin([encode_frame(Frame(1, 1, made[0], keyframe=True))], received_at_us=BEGAN_US)
        for tick in range(2, int(seconds * hz) + 2):
            at_us = BEGAN_US + int((tick - 1) * 1_000_000 / hz)
            frame = encode_frame(Frame(1, tick, made[tick % len(made)]))
            film.add(JournalFrame(tick, 1, tick, at_us, at_us, False, (frame,)))


async def scrubbed(page: Page, args: argparse.Namespace) -> list[tuple[float, float]]:
    """Milliseconds to the picture, and to the gateway's answer, of each scrub. Raises :class:`PageError` where the picture is of
    another moment."""
    draw, found = random.Random(args.seed), []
    for _ in range(args.scrubs):
        us = BEGAN_US + draw.randrange(int(args.seconds * 1_000_000))
        took, answered, at_us, size = await page.evaluate(f"{SCRUB}({us})")
        if not us - 1_000_000 / args.hz - 1 <= at_us <= us or size != args.records:
            raise PageError(f"asked for {us}, shown is {at_us} with {size} records")
        found.append((took, answered))
    return found


async def measured(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One run."""
    file, began = folder / "arena.sqlite", time.perf_counter()
    await asyncio.to_thread(write_film, file, args.records, args.hz, args.seconds)
    told: dict[str, Any] = {"written_s": time.perf_counter() - began, "bytes": file.stat().st_size}
    shower = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.cli", "film", str(file)), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert shower.stdout is not None
        address = (await shower.stdout.readline()).decode().strip()
        if not address:
            raise PageError("mvgateway film ended before it was ready")
        async with Browser(folder / "profile", *FLAGS) as browser:
            page = await browser.open(address)
            await page.until("document.getElementById('ready')?.value === '1' && line.line?.spans.length")
            await page.until(f"film().state.size === {args.records}")
            scrubs = await scrubbed(page, args)
            told["picture_ms"] = _shares([took for took, _ in scrubs])
            told["answer_ms"] = _shares([answered for _, answered in scrubs])
            told["drawing_ms"] = await page.evaluate("stage.tookMs")
            told["by"] = await page.evaluate("film().link?.kind ?? ''")
    finally:
        if shower.returncode is None:
            shower.terminate()
        await shower.wait()
    told["load"] = os.getloadavg()[0]
    return told


def _shares(values: list[float]) -> list[float]:
    """The middle, the 95th percentile, the most."""
    ordered = sorted(values)
    return [ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0.5, 0.95, 1.0)]


def shown(told: dict[str, Any], args: argparse.Namespace) -> str:
    """For people."""
    lines = [
        f"film           {args.seconds:.0f} s of {args.records:,} records at {args.hz:g} Hz, {told['bytes'] / 1e6:,.0f} MB, "
        f"written in {told['written_s']:.0f} s"
    ]
    for name, key in (("picture", "picture_ms"), ("answer", "answer_ms")):
        p50, p95, most = told[key]
        asked = f", asked p95 {ASKED_MS:.0f}" if key == "picture_ms" else ""
        lines.append(f"{name:<14} p50 {p50:.0f} ms, p95 {p95:.0f}, most {most:.0f}{asked}")
    lines.append(
        f"drawing        {told['drawing_ms']:.1f} ms, by {told['by']}, {args.scrubs} scrubs, load {told['load']:.1f}"
    )
    return "\n".join(lines)


def main() -> int:
    """Entry."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.scrubs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--records", type=int, default=1_800)
    parser.add_argument("--hz", type=float, default=20.0)
    parser.add_argument("--scrubs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as folder:
            told = asyncio.run(measured(args, Path(folder)))
    except (FileNotFoundError, PageError) as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(told) if args.json else shown(told, args))
    return 0 if told["picture_ms"][1] <= ASKED_MS else 1


if __name__ == "__main__":
    sys.exit(main())
