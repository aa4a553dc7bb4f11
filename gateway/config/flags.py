"""Command-line flags made from the settings. Room: config."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import Field
from typing import Any

from gateway.config.settings import SETTINGS


def flag_of(name: str) -> str:
    """``json_logs`` → ``--json-logs``."""
    flags = {s.name: s.metadata.get("flag") for s in SETTINGS}
    return flags.get(name) or "--" + name.replace("_", "-")


def add_flags(parser: argparse.ArgumentParser, names: Iterable[str] | None = None) -> None:
    """Add ``--config`` and a flag for each setting (or for ``names`` only). An absent flag sets nothing."""
    wanted = None if names is None else set(names)
    parser.add_argument("--config", metavar="FILE", default=None, help="TOML file with settings")
    for setting in SETTINGS:
        if wanted is None or setting.name in wanted:
            _add_flag(parser, setting)


def _add_flag(parser: argparse.ArgumentParser, setting: Field[object]) -> None:
    # An absent flag leaves no trace: or else its default would hide the environment and the file.
    options: dict[str, Any] = {"dest": setting.name, "default": argparse.SUPPRESS}
    shown = "" if setting.default in ("", False, ()) else f" (default {setting.default})"
    # argparse fills in %(…)s.
    text = (setting.metadata["help"] + shown).replace("%", "%%")
    if isinstance(setting.default, bool):
        parser.add_argument(flag_of(setting.name), action="store_true", help=text, **options)
        return
    if isinstance(setting.default, tuple):
        options["action"] = "append"
    parser.add_argument(flag_of(setting.name), metavar=_metavar(setting), help=text, **options)
    if off := setting.metadata.get("off"):
        parser.add_argument(
            off, action="store_const", const="", help=f"no {flag_of(setting.name)}", **options
        )


def _metavar(setting: Field[Any]) -> str:
    choices = setting.metadata.get("choices")
    if choices:
        return "|".join(map(str, choices))
    return flag_of(setting.name).removeprefix("--").replace("-", "_").upper()
