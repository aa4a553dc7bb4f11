"""What a store, a link or a sink can do stands in its protocol: nobody asks an object whether it happens to have a name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

GATEWAY = Path(__file__).resolve().parents[1] / "gateway"
OURS = {
    "in_process",
    "takes_any_version",
    "content_kept_s",
    "overlay_depth",
    "facts",
    "stats",
    "standing",
    "certificate",
} | {
    *("on_token", "closed_code", "close", "connections_ended", "commit_each", "bye"),
}
"""Names of capabilities that were once asked for so."""
FOREIGN = {
    "cli/__init__.py": "the text of a way out that stands there already is not given twice",
    "quic/connection/seam.py": "the names that aioquic does not promise are looked up where an endpoint begins",
}
ENGINES = {"EmbeddedStore", "ReadOnlyStore", "RemoteStore", "CachedStore", "Engine", "FolderReader"}


def calls(name: str) -> Iterator[tuple[str, ast.Call]]:
    for path in sorted(GATEWAY.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
                yield str(path.relative_to(GATEWAY)), node


def test_no_capability_of_ours_is_looked_for_by_its_name() -> None:
    asked = [
        f"{where}:{call.lineno}"
        for name in ("getattr", "hasattr")
        for where, call in calls(name)
        if isinstance(call.args[1], ast.Constant) and call.args[1].value in OURS and where not in FOREIGN
    ]
    assert not asked


def test_nothing_is_decided_by_which_engine_a_store_is() -> None:
    named = [
        f"{where}:{call.lineno}"
        for where, call in calls("isinstance")
        if {n.id for n in ast.walk(call.args[1]) if isinstance(n, ast.Name)} & ENGINES
    ]
    assert not named


def test_nothing_is_decided_by_the_words_of_an_error_of_ours() -> None:
    decided = []
    for path in sorted(GATEWAY.rglob("*.py")):
        where = str(path.relative_to(GATEWAY))
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.In, ast.NotIn, ast.Eq)):
                seen = node.comparators[0]
                if isinstance(seen, ast.Attribute) and seen.attr == "message" and where not in FOREIGN:
                    decided.append(f"{where}:{node.lineno}")
    assert decided == ["store/remote/admin.py:" + decided[0].split(":")[1]], decided
    # there the words are mvstore's own: it tells of a missing key by 400 where others have 404
