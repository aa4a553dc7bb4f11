"""Single files for who copies one: each is made of a kit's own files, in an order in which nothing is used before it is there.

python -m tests.kits.bundles           # make them
python -m tests.kits.bundles --check   # say which are not what would be made
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import gateway

CLIENTS = Path(gateway.__file__).parent / "clients"
ELIXIR = [
    *(f"mvgateway/{name}.ex" for name in ("telemetry", "json", "frame", "state", "trust", "token", "http")),
    *(f"mvgateway/http/{name}.ex" for name in ("httpc", "req", "finch")),
    *("mvgateway/recordings.ex", "mvgateway/entities.ex", "mvgateway.ex"),
]
GODOT = ("messages", "reader", "link", "token", "publisher", "session")
ICON = '@icon("res://addons/mvgateway/icons/world.svg")\n'


def elixir() -> str:
    """All of the package but its sessions."""
    lib = CLIENTS / "elixir" / "lib"
    head = "# Made of lib/ beside it, for who copies one file; in a Mix project take the package.\n\n"
    return head + "\n".join((lib / name).read_text() for name in ELIXIR)


def godot() -> str:
    """The node with all that it stands on, each of which extends the one before it."""
    addon = CLIENTS / "godot" / "addons" / "mvgateway"
    head, _, own = (addon / "mvgateway.gd").read_text().partition("\n\n")
    parts = [(addon / f"mvgateway_{name}.gd").read_text().partition("\n\n")[2] for name in GODOT]
    alone = re.sub(r'^extends ".*"$', "extends Node", head, flags=re.M).replace(ICON, "")
    note = "##\n## Made of the addon's files, for who copies one file; it needs no other."
    return f"{alone}\n{note}\n\n" + "\n\n".join([*(part.rstrip("\n") + "\n" for part in parts), own])


BUNDLES = {"elixir/mvgateway.ex": elixir, "godot/mvgateway.gd": godot}


def main() -> int:
    stale = []
    for name, make in BUNDLES.items():
        path = CLIENTS / name
        if "--check" in sys.argv:
            stale += [] if path.exists() and path.read_text() == make() else [name]
        else:
            path.write_text(make())
    print("\n".join(f"{name} is not what would be made" for name in stale) or "as they should be")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
