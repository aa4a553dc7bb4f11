"""What the docs say of tables in the source, written from them: ``python -m bench.pages`` (``--check``: only look). Room: bench.

A page has ``<!-- from SOURCE -->`` and ``<!-- end -->`` around such a section; what stands between them is replaced.
``tests/test_docs.py`` fails where a page is not current.
"""

from __future__ import annotations

import argparse
import ast
import itertools
import re
import sys
from collections.abc import Callable
from pathlib import Path

from gateway import limits
from gateway.core import states

ROOT = Path(__file__).resolve().parents[1]


def bounds() -> str:
    """Every bound of ``gateway/limits.py``: name, value, reason."""
    body = ast.parse((ROOT / "gateway" / "limits.py").read_text()).body
    lines = ["| bound | value | why |", "| --- | --- | --- |"]
    for node, after in itertools.pairwise(body):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            name, why = node.target.id, " ".join(str(after.value.value).split()).replace("|", "\\|")
            lines.append(f"| `{name}` | {_shown(getattr(limits, name))} | {why} |")
    return "\n".join(lines)


def _shown(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:g}" if isinstance(value, float) else f"`{value}`".replace("|", "\\|")


SECTIONS: dict[str, Callable[[], str]] = {
    "gateway/core/states.py": states.drawn,
    "gateway/limits.py": bounds,
}


def current(text: str) -> str:
    """A page with its sections as they are to be. Raises :class:`KeyError` for one that nobody makes."""

    def section(match: re.Match[str]) -> str:
        return f"<!-- from {match[1]} -->\n{SECTIONS[match[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- from (\S+) -->\n.*?<!-- end -->", section, text, flags=re.DOTALL)


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.pages", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--check", action="store_true", help="write nothing; 1 where a page is not current")
    check = parser.parse_args(argv).check
    stale = []
    for path in sorted((ROOT / "docs").glob("*.md")):
        text = path.read_text()
        if (new := current(text)) != text:
            stale.append(path.name)
            if not check:
                path.write_text(new)
    print(f"{'not current' if check else 'written'}: {', '.join(stale) or 'none'}")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
