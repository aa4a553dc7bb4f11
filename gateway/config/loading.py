"""The settings that flags, environment and file add up to. Room: config."""

from __future__ import annotations

import argparse
import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.config.agreeing import check_together
from gateway.config.flags import flag_of
from gateway.config.settings import SETTINGS, Settings
from gateway.config.values import parsed
from gateway.errors import ConfigError
from gateway.givenfiles import read_given

ENVIRONMENT_PREFIX = "MVGATEWAY_"
ENVIRONMENT_OTHERS = frozenset(
    {"MVGATEWAY_CONFIG", "MVGATEWAY_URL", "MVGATEWAY_CA", "MVGATEWAY_CERTIFICATE_SHA256", "MVGATEWAY_TOKEN"}
)
"""Variables of the same prefix that are no settings: the file, and whom the client verbs talk to and trust."""


def data_directory(environ: Mapping[str, str]) -> Path:
    """The folder for this user's data: ``$XDG_DATA_HOME/mvgateway`` or ``~/.local/share/mvgateway``."""
    base = environ.get("XDG_DATA_HOME") or os.path.join(
        environ.get("HOME") or os.path.expanduser("~"), ".local/share"
    )
    return Path(base) / "mvgateway"


def load(args: argparse.Namespace | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings that flags, environment and file add up to.

    Raises :class:`ConfigError` naming the flag, variable or key at fault.
    """
    flags = vars(args) if args is not None else {}
    environ = os.environ if environ is None else environ
    path = flags.get("config") or environ.get("MVGATEWAY_CONFIG")
    values = _from_file(Path(path)) if path else {}
    values.update(_from_environment(environ))
    names = {s.name for s in SETTINGS}
    values.update(
        {name: parsed(name, value, flag_of(name)) for name, value in flags.items() if name in names}
    )
    if not values.get("store"):
        values["store"] = str(data_directory(environ) / "store")
    settings = Settings(**values)
    check_together(settings)
    return settings


def _from_file(path: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(read_given(path).decode())
    except OSError as error:
        raise ConfigError(f"--config {path}: {error.strerror}") from None
    except RecursionError:
        raise ConfigError(f"--config {path}: not TOML: it is nested too deeply; keys here are flat") from None
    except ValueError as error:  # also what Python says of a number with thousands of digits
        raise ConfigError(f"--config {path}: not TOML: {error}") from None
    names = [s.name for s in SETTINGS]
    for name in table:
        if name not in names:
            raise ConfigError(f"--config {path}: unknown key {name!r}{_nearest(name, names)}")
    return {name: parsed(name, value, f"{path}: {name}") for name, value in table.items()}


def _from_environment(environ: Mapping[str, str]) -> dict[str, object]:
    names = {ENVIRONMENT_PREFIX + s.name.upper(): s.name for s in SETTINGS}
    values = {}
    for variable, value in environ.items():
        # All of the prefix are looked at: one that is misspelt would otherwise have no effect, and say
        # nothing.
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in ENVIRONMENT_OTHERS:
            continue
        if variable not in names:
            raise ConfigError(f"unknown environment variable {variable}{_nearest(variable, list(names))}")
        values[names[variable]] = parsed(names[variable], value, variable)
    return values


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return f"; did you mean {near[0]}?" if near else f"; known are: {', '.join(sorted(known))}"
