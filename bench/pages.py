"""What the docs say of tables in the source, written from them: ``python -m bench.pages`` (``--check``: only look). Room: bench.

A page has ``<!-- from SOURCE -->`` and ``<!-- end -->`` around such a section; what stands between them is replaced.
``tests/test_docs.py`` fails where a page is not current.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from bench.sections import SECTIONS

ROOT = Path(__file__).resolve().parents[1]


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
