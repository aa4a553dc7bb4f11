"""SVG plots of a result file. Room: bench. Needs matplotlib; without it there are none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.results import Summary, by_scenario

Draw = Callable[[Sequence[Summary], Path], Path | None]


def write_plots(summaries: Sequence[Summary], prefix: Path) -> list[Path]:
    """One SVG a scenario that has a plot: ``PREFIX-frames.svg``, ``-fanout.svg``, ``-reads.svg``."""
    try:
        import matplotlib as mpl
    except ImportError:
        return []
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "mvgateway"
    groups = by_scenario(summaries)
    drawn: dict[str, Draw] = {"frames": _draw_frames, "fanout": _draw_fanout, "reads": _draw_reads}
    made = []
    for name, draw in drawn.items():
        if name in groups:
            path = draw(groups[name], prefix.with_name(f"{prefix.name}-{name}.svg"))
            made += [path] if path else []
    return made


def _draw_frames(group: Sequence[Summary], path: Path) -> Path | None:
    """p99 excess age over loss, one panel a round trip, one line a transport (60 Hz, 1 KB)."""
    import matplotlib.pyplot as plt

    wanted = {"hz": 60, "frame_bytes": 1024, "burst": False}
    chosen = [s for s in group if all(s.params.get(k) == v for k, v in wanted.items())]
    trips = sorted({s.params["rtt_ms"] for s in chosen})
    if not trips:
        return None
    figure, panels = plt.subplots(1, len(trips), figsize=(4.2 * len(trips), 3.6), squeeze=False, sharey=True)
    for panel, rtt_ms in zip(panels[0], trips, strict=True):
        here = [s for s in chosen if s.params["rtt_ms"] == rtt_ms]
        _lines(panel, here, "loss_percent", "excess_p99_ms", "door")
        panel.set(title=f"RTT {rtt_ms} ms", xlabel="loss, %", ylabel="p99 excess age, ms", yscale="log")
        panel.legend(fontsize=7)
    return _saved(figure, path)


def _draw_fanout(group: Sequence[Summary], path: Path) -> Path | None:
    """The relay's CPU time per delivered frame over readers, one panel a frame size."""
    import matplotlib.pyplot as plt

    sizes = sorted({s.params["frame_bytes"] for s in group})
    figure, panels = plt.subplots(1, len(sizes), figsize=(4.8 * len(sizes), 3.6), squeeze=False)
    for panel, size in zip(panels[0], sizes, strict=True):
        here = [s for s in group if s.params["frame_bytes"] == size]
        _lines(panel, here, "readers", "relay_cpu_us_per_frame", "relay")
        panel.set(
            title=f"{size} bytes a frame",
            xlabel="readers",
            ylabel="relay's CPU a delivered frame, µs",
            xscale="log",
            yscale="log",
        )
        counts = sorted({s.params["readers"] for s in here})
        panel.set_xticks(counts, [str(count) for count in counts])
        panel.set_xticks([], minor=True)
    panels[0][-1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return _saved(figure, path)


def _draw_reads(group: Sequence[Summary], path: Path) -> Path | None:
    """Opening speed and p99 of a read by one client, one bar a way, one group a link."""
    import matplotlib.pyplot as plt

    chosen = [s for s in group if s.params.get("parallel") == 1 and s.measures]
    if not chosen:
        return None
    links = list(dict.fromkeys((s.params["loss_percent"], s.params["rtt_ms"]) for s in chosen))
    ways = list(dict.fromkeys(str(s.params["way"]) for s in chosen))
    figure, panels = plt.subplots(1, 2, figsize=(11, 3.8), squeeze=False)
    shown = (("open_mb_per_s", "opening, MB/s (more is better)"), ("p99_ms", "p99 of a read, ms"))
    for panel, (name, label) in zip(panels[0], shown, strict=True):
        for number, way in enumerate(ways):
            bars = [_find(chosen, link, way, name) for link in links]
            places = [at + (number - len(ways) / 2) * 0.13 for at in range(len(links))]
            panel.bar(places, [b or 0.0 for b in bars], width=0.12, label=way)
        panel.set(ylabel=label, yscale="log")
        panel.set_xticks(range(len(links)), [f"{loss:g} %, {rtt} ms" for loss, rtt in links])
    panels[0][1].legend(fontsize=7)
    return _saved(figure, path)


def _find(group: Sequence[Summary], link: tuple[float, int], way: str, name: str) -> float | None:
    for s in group:
        if (s.params["loss_percent"], s.params["rtt_ms"]) == link and s.params["way"] == way:
            return s.measures[name].median if name in s.measures else None
    return None


def _lines(panel: Any, group: Sequence[Summary], x: str, y: str, by: str) -> None:
    for label in dict.fromkeys(str(s.params[by]) for s in group):
        points = sorted(
            ((s.params[x], s.measures[y]) for s in group if str(s.params[by]) == label and y in s.measures),
            key=lambda point: float(point[0]),
        )
        xs, spreads = [p[0] for p in points], [p[1] for p in points]
        error = [[s.median - s.low for s in spreads], [s.high - s.median for s in spreads]]
        panel.errorbar(xs, [s.median for s in spreads], yerr=error, marker="o", capsize=3, label=label)


def _saved(figure: Any, path: Path) -> Path:
    import matplotlib.pyplot as plt

    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return path
