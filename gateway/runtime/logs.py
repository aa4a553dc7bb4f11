"""Logs on stderr, facts on stdout; text for people or one JSON object a line. Room: runtime."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``time`` (Unix seconds), ``level``, ``logger``, ``event``, and an ``error``."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        if record.exc_info:
            entry["error"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def set_up(level: str, *, as_json: bool, stream: TextIO | None = None) -> None:
    """Send the house's logs to ``stream`` (default stderr)."""
    handler = logging.StreamHandler(stream or sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s  %(message)s")
    handler.setFormatter(JsonFormatter() if as_json else text)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("mvgateway").setLevel(level.upper())
    logging.getLogger("aioquic").setLevel(logging.ERROR)
    logging.getLogger("quic").setLevel(logging.ERROR)


def show_facts(facts: Mapping[str, Any], *, as_json: bool, out: TextIO) -> None:
    """The facts at start, and last the line ``ready``."""
    if as_json:
        out.write(json.dumps({"time": round(time.time(), 3), "event": "start", **facts}) + "\n")
        out.write(json.dumps({"time": round(time.time(), 3), "event": "ready"}) + "\n")
    else:
        out.writelines(f"{name.replace('_', ' '):<22}{value}\n" for name, value in facts.items())
        out.write("ready\n")
    out.flush()
