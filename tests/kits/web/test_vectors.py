"""The web kit reads and makes what the shared vectors say, in a JavaScript engine."""

from __future__ import annotations

import json
from pathlib import Path

import gateway
from tests.client.test_dropins import output_of, program
from tests.kits.abilities import proves
from tests.kits.vectors.make import HERE

KIT = Path(gateway.__file__).parent / "clients" / "web"


def vectors(name: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads((HERE / f"{name}.json").read_text())
    return found


@proves("web", "vectors")
async def test_every_vector_is_read_and_made_as_it_says() -> None:
    script = str(Path(__file__).with_name("vectors.mjs"))
    told = json.loads(await output_of(program("node"), script, str(KIT), str(HERE)))
    assert told["bad"] == []
    names = ("frames", "made", "states", "controls", "tokens", "entities")
    assert told["good"] == sum(len(vectors(name)) for name in names)
