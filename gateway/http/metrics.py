"""Metrics in Prometheus' text form. Room: http. Values only: who counts what is runtime's business.

Source: Prometheus exposition format 0.0.4; ``docs/METRICS.md`` lists every name.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Sample(NamedTuple):
    """One value with its labels. ``suffix``: of a histogram's samples, ``_bucket``, ``_sum`` or ``_count``."""

    value: float
    labels: Mapping[str, str] = {}
    suffix: str = ""


MetricKind = Literal["counter", "gauge", "histogram"]


class Metric(NamedTuple):
    """One metric: all its samples."""

    name: str
    kind: MetricKind
    help: str
    samples: tuple[Sample, ...]


def histogram_samples(
    counts: Sequence[int], bounds: Sequence[float], total: float, labels: Mapping[str, str] | None = None
) -> Iterator[Sample]:
    """A histogram's samples. ``counts``: how many were at most each of ``bounds``, but above the one before
    it, and last how many were above all; ``total``: the sum of what was observed.
    https://prometheus.io/docs/concepts/metric_types/."""
    base = dict(labels or {})
    running = 0
    for count, bound in zip(counts, [*bounds, math.inf], strict=True):
        running += count
        le = "+Inf" if math.isinf(bound) else f"{bound:g}"
        yield Sample(running, {**base, "le": le}, "_bucket")
    yield Sample(total, base, "_sum")
    yield Sample(running, base, "_count")


def render(metrics: Iterable[Metric]) -> str:
    """The exposition text. https://prometheus.io/docs/instrumenting/exposition_formats/."""
    lines: list[str] = []
    for metric in metrics:
        lines.append(f"# HELP {metric.name} {metric.help}")
        lines.append(f"# TYPE {metric.name} {metric.kind}")
        lines.extend(f"{metric.name}{s.suffix}{_labels(s.labels)} {s.value:.15g}" for s in metric.samples)
    return "\n".join(lines) + "\n"


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
