"""What ``/metrics`` tells, as numbers. Room: cli. Pure. Source: Prometheus' text exposition format, version 0.0.4."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

_LINE: Final = re.compile(r"(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})?\s+(?P<value>\S+)")
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPED: Final = re.compile(r"\\(.)")


class ScrapedSample(NamedTuple):
    """One number."""

    name: str
    labels: Mapping[str, str]
    value: float


def samples(text: str) -> Iterator[ScrapedSample]:
    """All samples of a page; lines that are none are left out, whoever wrote them."""
    for line in text.splitlines():
        match = None if line.startswith("#") else _LINE.match(line)
        if match is None:
            continue
        try:
            value = float(match["value"])
        except ValueError:
            continue
        labels = {name: _plain(escaped) for name, escaped in _LABEL.findall(match["labels"] or "")}
        yield ScrapedSample(match["name"], labels, value)


def _plain(escaped: str) -> str:
    return _ESCAPED.sub(lambda match: "\n" if match[1] == "n" else match[1], escaped)
