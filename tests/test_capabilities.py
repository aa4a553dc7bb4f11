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
    "quic/connection/seam.py": "the names that aioquic does not promise are looked up where an endpoint begins",
}
THEIR_WORDS = {
    "store/remote/admin.py": "mvstore tells of a missing key by 400 here, where others have 404",
    "store/world/files.py": 'SQLite calls a disk that failed beneath it "not an error"; that is not repeated',
}
"""Where the words are not ours, and nothing else tells."""
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


def is_error(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("error", "refused", "failed", "cause")


def words_of_an_error(node: ast.expr) -> bool:
    """``error.message``, ``str(error)``, ``error.args[0]``, or one of them in lower case: what somebody reads, and may be put better."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.func.id == "str" and bool(node.args) and is_error(node.args[0])
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return words_of_an_error(node.func.value)
    if isinstance(node, ast.Subscript):
        return (
            isinstance(node.value, ast.Attribute) and node.value.attr == "args" and is_error(node.value.value)
        )
    return isinstance(node, ast.Attribute) and node.attr == "message"


def test_nothing_is_decided_by_the_words_of_an_error() -> None:
    decided = []
    for path in sorted(GATEWAY.rglob("*.py")):
        where = str(path.relative_to(GATEWAY))
        for node in ast.walk(ast.parse(path.read_text())):
            seen: list[ast.expr] = []
            if isinstance(node, ast.Compare):
                seen = [node.left, *node.comparators]
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                seen = [node.func.value] if node.func.attr in ("startswith", "endswith", "find") else []
            if isinstance(node, ast.expr) and any(words_of_an_error(one) for one in seen):
                decided.append(where)
    assert sorted(decided) == sorted(THEIR_WORDS)
