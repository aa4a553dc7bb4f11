"""Logs on stderr, facts on stdout; text for people or one JSON object a line. Room: runtime."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Mapping
from typing import Final, TextIO

from gateway.runtime.events import FACTS

LOGGERS: Final = ("mvgateway", "gateway")
"""The house's loggers: those with a name of their own, and those named after their module."""


class TextFormatter(logging.Formatter):
    """For people: when, how bad, who, what happened, and its facts as ``name=value``."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s  %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        facts: Mapping[str, object] = getattr(record, FACTS, {})
        return "  ".join(
            [super().formatMessage(record), *(f"{name}={shown(value)}" for name, value in facts.items())]
        )


def shown(value: object) -> str:
    """A fact as text, quoted where it is not one plain word: a peer's bytes never make a line of their own."""
    text = str(value)
    return (
        text if text and all(c.isascii() and (c.isalnum() or c in _PLAIN) for c in text) else json.dumps(text)
    )


_PLAIN = frozenset("-_.:/[]~*+@")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``time`` (Unix seconds), ``level``, ``logger``, ``event``, its facts, and an ``error``."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **getattr(record, FACTS, {}),
        }
        if record.exc_info:
            entry["error"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def set_up(level: str, *, as_json: bool, stream: TextIO | None = None) -> None:
    """Send the house's logs to ``stream`` (default stderr)."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    set_level(level)
    logging.getLogger("aioquic").setLevel(logging.ERROR)
    logging.getLogger("quic").setLevel(logging.ERROR)


def set_level(level: str) -> None:
    """How much the house's loggers tell from now on."""
    for ours in LOGGERS:
        logging.getLogger(ours).setLevel(level.upper())


def show_facts(facts: Mapping[str, object], *, as_json: bool, out: TextIO) -> None:
    """The facts at start, and last the line ``ready``."""
    if as_json:
        out.write(json.dumps({"time": round(time.time(), 3), "event": "start", **facts}) + "\n")
        out.write(json.dumps({"time": round(time.time(), 3), "event": "ready"}) + "\n")
    else:
        out.writelines(f"{name.replace('_', ' '):<22}{value}\n" for name, value in facts.items())
        out.write("ready\n")
    out.flush()
