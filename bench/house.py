"""The state of the house in figures: ``make house`` (``python -m bench.house``). Room: bench.

Counted from the syntax trees of ``gateway/`` and of the tests: how long files and functions are, how often ``Any`` stands for a
type, which class names stand for more than one thing, how much is said in comments and in public docstrings, and how often tests
reach into private attributes of what they test. ``--json`` gives them as one object.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import re
import statistics
import sys
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = re.compile(
    r"\bRFC \d|\bdraft-|\bsection \d|\bdocs/\w+\.md|\b[A-Z]+\.md\b|https?://|\bWHATWG\b|\b[a-z]\w+\(\d\)"
)
"""What counts as naming a source: an RFC, a draft, a page of the docs or of the web, a manual page."""
Functions = ast.FunctionDef | ast.AsyncFunctionDef


def trees(folder: str) -> Iterator[tuple[Path, str, ast.Module]]:
    for path in sorted((ROOT / folder).rglob("*.py")):
        text = path.read_text()
        yield path.relative_to(ROOT), text, ast.parse(text)


def spread(lengths: list[int]) -> dict[str, int]:
    ranked = sorted(lengths)
    return {
        "median": int(statistics.median(ranked)),
        "p95": ranked[len(ranked) * 95 // 100],
        "max": ranked[-1],
        "count": len(ranked),
    }


def comment_lines(text: str) -> int:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return len({token.start[0] for token in tokens if token.type == tokenize.COMMENT})


def public(tree: ast.Module) -> Iterator[ast.ClassDef | Functions]:
    """Classes, functions and methods whose names, and whose classes' names, have no underscore before them."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef | Functions) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                inner = [one for one in node.body if isinstance(one, Functions)]
                yield from (one for one in inner if not one.name.startswith("_"))


def reaches(tree: ast.Module) -> int:
    """How often a private attribute of something else than ``self`` or ``cls`` is touched."""
    return sum(
        isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not node.attr.startswith("__")
        and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
        for node in ast.walk(tree)
    )


def figures() -> dict[str, object]:
    """All of them."""
    files, functions, comments, lines, silent = [], [], 0, 0, 0
    uses: Counter[str] = Counter()
    classes: defaultdict[str, list[str]] = defaultdict(list)
    things = told = sourced = 0
    for path, text, tree in trees("gateway"):
        files.append(len(text.splitlines()))
        lines += files[-1]
        said = comment_lines(text)
        comments, silent = comments + said, silent + (said == 0)
        for node in ast.walk(tree):
            if isinstance(node, Functions) and node.end_lineno is not None:
                functions.append(node.end_lineno - node.lineno + 1)
            elif isinstance(node, ast.Name) and node.id == "Any":
                uses[path.parts[1].removesuffix(".py")] += 1
            elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                classes[node.name].append(str(path))
        module = ast.get_docstring(tree) or ""
        for thing in public(tree):
            doc = ast.get_docstring(thing)
            things, told = things + 1, told + (doc is not None)
            sourced += bool(doc and SOURCE.search(doc))
        sourced += bool(SOURCE.search(module))
        things, told = things + 1, told + bool(module)
    reached: Counter[str] = Counter()
    for path, _, tree in trees("tests"):
        reached[path.parts[1].removesuffix(".py")] += reaches(tree)
    shared = {name: sorted(where) for name, where in sorted(classes.items()) if len(where) > 1}
    return {
        "lines a file": spread(files),
        "lines a function": spread(functions),
        "Any": {"in all": uses.total(), **dict(uses.most_common())},
        "class names used more than once": {"in all": len(shared), **{n: len(w) for n, w in shared.items()}},
        "comment lines, %": round(100 * comments / lines, 1),
        "files without a comment": silent,
        "public docstrings, %": round(100 * told / things),
        "... with a source, %": round(100 * sourced / things, 1),
        "private attributes reached by tests": {
            "in all": reached.total(),
            **{room: count for room, count in reached.most_common() if count},
        },
    }


def _show(found: Mapping[str, object]) -> None:
    for name, value in found.items():
        told = ", ".join(f"{k} {v:,}" for k, v in value.items()) if isinstance(value, dict) else value
        print(f"{name}: {told}")


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.house", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    found = figures()
    if parser.parse_args(argv).json:
        print(json.dumps(found, indent=1))
    else:
        _show(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
